"""Reads scores from the experiments' log_df.csv, and finds out which run each row belongs to."""

from collections.abc import Iterable, Sequence
from pathlib import Path

from furnace.errors import InputError
from furnace.report.rows import Row, newest, read_rows
from furnace.report.runs import Run


def log_tables(folders: Sequence[Path], runs: Sequence[Run]) -> list[Path]:
    """Finds the tables log_df.csv of the experiments beside the folders, and those that the runs' scores name.

    An experiment's folder, such as exp.voc, lies beside the folder that its runs are in, such as output_voc.
    """
    beside = {folder.resolve().parent for folder in folders} | {run.path.parent.parent for run in runs}
    found = {table.resolve() for place in beside for table in place.glob("exp.*/*/log_df.csv")}
    named = {file.row.table for run in runs for file in run.score_files}
    return sorted(found | {table.resolve() for table in named if table.is_file()})


def read_tables(tables: Iterable[Path]) -> tuple[list[Row], list[str]]:
    """Returns all rows, and what is wrong with the tables that cannot be read."""
    rows, problems = [], []
    for table in tables:
        try:
            rows += newest(read_rows(table))
        except InputError as error:
            problems.append(str(error))
    return rows, problems


def hand_out(rows: Iterable[Row], runs: Sequence[Run]) -> list[Row]:
    """Adds each row to the run that it belongs to, and returns the rows of runs that have no folder here.

    Where several runs may own a row, none of them gets it, and the problems of these runs say so. The row is dropped if
    one of these runs has scores of its own, because it would repeat them or mix them up; otherwise it is returned.
    """
    loose, had = [], [{row.identity for row in run.rows} for run in runs]
    for row in rows:
        may_have = [number for number, run in enumerate(runs) if run.may_have(row)]
        if any(row.identity in had[number] for number in may_have):
            continue  # The row repeats one that the run's scores/ already gave.
        if len(may_have) == 1:
            runs[may_have[0]].rows.append(row)
            continue
        if not any(had[number] for number in may_have):
            loose.append(row)
        for number in may_have:
            line = "other runs have the same folder name and settings: rows of log_df.csv are not told apart"
            if line not in runs[number].problems:
                runs[number].problems.append(line)
    return loose


def lies_beside(row: Row, folders: Sequence[Path], runs: Sequence[Run]) -> bool:
    """Returns whether a row's run has a folder beside those shown, but is not shown: the user did not ask for it."""
    if row.folder in {run.path.name for run in runs}:
        return False
    places = {folder.resolve().parent for folder in folders} | {run.path.parent for run in runs}
    return any((place / row.folder).is_dir() for place in places)
