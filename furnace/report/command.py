"""The arguments of `python -m furnace report`."""

import argparse
from collections.abc import Sequence
from pathlib import Path

from furnace.errors import at_least

IMAGES = 6  # the default of --images


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
        type=at_least(0),
        default=IMAGES,
        metavar="N",
        help=f"validation images shown of each run at most (default {IMAGES})",
    )
    report.set_defaults(run=_report)


def _report(options: argparse.Namespace, _: Sequence[str]) -> int:
    from furnace.report.compose import write_report

    out = options.out or options.folders[0] / "report.html"
    write_report(options.folders, options.log, out, options.images)
    return 0
