"""Makes the report: reads the runs and the tables of scores, gives each run its rows, and writes the page.

The report is made of config.json, metrics.csv, scores and gallery of every run, and of the experiments' log_df.csv. It
needs nothing else and no network, so that it works on any machine: for runs that are over, that go on, or that are
damaged.
"""

from collections.abc import Sequence
from pathlib import Path

from furnace.engine import memory
from furnace.engine.bars import bar
from furnace.engine.files import require_writable, write_text
from furnace.errors import InputError, counted, say_note
from furnace.report.gallery import gallery_bytes
from furnace.report.groups import groups
from furnace.report.logs import hand_out, lies_beside, log_tables, read_tables
from furnace.report.page import render
from furnace.report.runs import find_runs, note_what_is_odd, read_run

COPIES = 7  # of all pictures: as text, which is longer by a third, by itself, in the page, and in the page's file


def write_report(folders: Sequence[Path], logs: Sequence[Path], out: Path, images: int) -> None:
    """Writes the page about all runs in and below the folders, and prints its size and place.

    Args:
        folders: runs, or folders of runs.
        logs: the tables log_df.csv to take further scores from. If there are none, they are those of the experiments
            beside the folders, and those that the runs name.
        out: the file to write.
        images: how many validation images are shown of each run at most.

    Raises:
        InputError: a folder or a table is missing, there is nothing to report, or the page cannot be written.
    """
    if out.is_dir():
        raise InputError(f"--out: {out} is a folder; name a file in it, such as {out / 'report.html'}")
    if out.suffix.lower() not in (".html", ".htm"):
        raise InputError(f"--out: expected a file that ends in .html, found {out}; name one")
    found = find_runs(folders)
    require_writable(out.absolute().parent)
    runs = [read_run(path) for path in found]
    for path in logs:
        if not path.is_file():
            raise InputError(f"no file: {path}: expected a log_df.csv; name one, or leave --log out")
    tables = [path.resolve() for path in logs] or log_tables(folders, runs)
    rows, problems = read_tables(tables)
    # Of a table that the user names, every row counts. A table that was found beside the folders also tells of runs
    # that are here and that the user did not ask for.
    loose = [row for row in hand_out(rows, runs) if logs or not lies_beside(row, folders, runs)]
    for run in runs:
        note_what_is_odd(run)
    if not runs and not (logs and loose):
        raise InputError(
            f"nothing to report: expected runs, folders with config.json or metrics.csv, below "
            f"{', '.join(map(str, folders))}, found none, and no scores in a log_df.csv; train first, or name "
            "the folder that runs write into"
        )
    pictures = sum(gallery_bytes(run, images) for run in runs)
    memory.require(COPIES * pictures, f"a page about {len(runs)} runs", "lower --images, or name fewer runs")
    shown = bar(runs, desc="drawing", unit="run", disable=None if len(runs) > 1 else True)
    write_text(out, render(shown, groups(runs, loose), problems, folders, images))
    for problem in problems:
        say_note(problem)
    if odd := [run.path.name for run in runs if run.problems]:
        say_note(f"something is missing or odd in {len(odd)} of {len(runs)} runs, such as {odd[0]}: the page says what")
    print(f"{counted(len(runs), 'run')}, {out.stat().st_size / 1e6:.1f} MB: {out}")
