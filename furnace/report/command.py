"""`python -m furnace report`: runs, their scores and pictures as one HTML file that opens anywhere.

Reads config.json, metrics.csv, scores and gallery of every run, and the experiments' log_df.csv; nothing else, and no
network, so that it works on any machine, for runs that are over, that go on, and that are damaged.
"""

import argparse
from pathlib import Path
from typing import Any

IMAGES = 6


def add_parsers(commands: argparse._SubParsersAction) -> None:
    """Adds `report` to the commands."""
    report = commands.add_parser(
        "report",
        help="show runs, their scores and pictures in one HTML file",
        epilog="example: python -m furnace report output_voc output_city --out report.html",
    )
    report.add_argument("folders", type=Path, nargs="+", metavar="FOLDER", help="a run, or a folder of runs")
    report.add_argument("--out", type=Path, metavar="FILE", help="default: report.html in the first FOLDER")
    report.add_argument(
        "--log",
        type=Path,
        action="append",
        default=[],
        metavar="FILE",
        help="a log_df.csv with further scores; may be given several times (default: those of the experiments beside "
        "the folders, and those that the runs name)",
    )
    report.add_argument(
        "--images",
        type=_count,
        default=IMAGES,
        metavar="N",
        help=f"validation images shown of each run at most (default {IMAGES})",
    )
    report.set_defaults(run=_report)


def _count(text: str) -> int:
    if not text.isdecimal():
        raise argparse.ArgumentTypeError(f"expected a whole number of at least 0, found {text!r}")
    return int(text)


def _report(options: argparse.Namespace, _: Any) -> int:
    from tqdm import tqdm

    from furnace.engine.files import write_text
    from furnace.errors import InputError
    from furnace.report.groups import groups
    from furnace.report.logs import hand_out, lies_beside, log_tables, read_tables
    from furnace.report.page import render
    from furnace.report.runs import find_runs, note_what_is_odd, read_run

    runs = [read_run(path) for path in find_runs(options.folders)]
    for path in options.log:
        if not path.is_file():
            raise InputError(f"no file: {path}: expected a log_df.csv; name one, or leave --log out")
    tables = [path.resolve() for path in options.log] or log_tables(options.folders, runs)
    rows, problems = read_tables(tables)
    loose = [row for row in hand_out(rows, runs) if options.log or not lies_beside(row, options.folders, runs)]
    for run in runs:
        note_what_is_odd(run)
    if not runs and not (options.log and loose):
        raise InputError(
            f"nothing to report: expected runs, folders with config.json or metrics.csv, below "
            f"{', '.join(map(str, options.folders))}, found none, and no scores in a log_df.csv; train first, or name "
            "the folder that runs write into"
        )
    shown = tqdm(runs, desc="drawing", unit="run", dynamic_ncols=True, disable=None if len(runs) > 1 else True)
    out = options.out or options.folders[0] / "report.html"
    write_text(out, render(shown, groups(runs, loose), problems, options.folders, options.images))
    print(f"{len(runs)} run{'s' * (len(runs) != 1)}, {out.stat().st_size / 1e6:.1f} MB: {out}")
    return 0
