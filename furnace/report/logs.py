"""Scores from the experiments' log_df.csv, and which run each row tells of."""

from collections.abc import Iterable, Sequence
from pathlib import Path

from furnace.errors import InputError
from furnace.report.rows import Row, newest, read_rows
from furnace.report.runs import Run


def log_tables(folders: Sequence[Path], runs: Sequence[Run]) -> list[Path]:
    """The log_df.csv files of the experiments beside the folders (output_voc and exp.voc), and those that runs name."""
    beside = {folder.resolve().parent for folder in folders} | {run.path.parent.parent for run in runs}
    found = {table.resolve() for place in beside for table in place.glob("exp.*/*/log_df.csv")}
    named = {file.row.table for run in runs for file in run.score_files}
    return sorted(found | {table.resolve() for table in named if table.is_file()})


def read_tables(tables: Iterable[Path]) -> tuple[list[Row], list[str]]:
    """All rows, and what is wrong with the tables that cannot be read."""
    rows, problems = [], []
    for table in tables:
        try:
            rows += newest(read_rows(table))
        except InputError as error:
            problems.append(str(error))
    return rows, problems


def hand_out(rows: Iterable[Row], runs: Sequence[Run]) -> list[Row]:
    """Gives each row to the run that it tells of; returns the rows of no run that is there.

    A row that may be several runs' is left out if one of them has scores of its own, which it would repeat or mix up,
    and nobody's otherwise; the runs say so.
    """
    loose, had = [], [{row.identity for row in run.rows} for run in runs]
    for row in rows:
        may_have = [number for number, run in enumerate(runs) if run.may_have(row)]
        if any(row.identity in had[number] for number in may_have):
            continue  # it stands in scores/ too
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
    """Whether the run of a row lies beside those that are shown, and is none of them: it was not asked for."""
    if row.folder in {run.path.name for run in runs}:
        return False
    places = {folder.resolve().parent for folder in folders} | {run.path.parent for run in runs}
    return any((place / row.folder).is_dir() for place in places)
