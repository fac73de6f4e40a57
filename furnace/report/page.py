"""Renders the report as one HTML page that holds everything it shows."""

import time
from collections.abc import Iterable, Sequence
from pathlib import Path

from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markupsafe import Markup

from furnace.evaluation.gallery import DIFFERENT
from furnace.report import figures
from furnace.report.embedded import svg_picture
from furnace.report.groups import Group, set_apart_by
from furnace.report.paired import more_than_the_baseline
from furnace.report.published import published_beside
from furnace.report.runs import Run
from furnace.report.summary import Statistic
from furnace.report.view import hex_colour, view
from furnace.semi.ensemble import PREDICTORS

TEMPLATE = Path(__file__).with_name("template")
MOST_IN_CHART = 40  # With more groups, the chart of all runs' scores is left out.
# Each predictor's code, and the networks that it is made of.
MEANINGS = {code: " + ".join(name.replace("_", " ") for name in members) for code, members in PREDICTORS.items()}


def render(
    runs: Iterable[Run], groups: Sequence[Group], problems: Sequence[str], folders: Sequence[Path], images: int
) -> str:
    """Renders the page.

    Args:
        runs: the runs, each with a section of its own; drawing them takes most of the time.
        groups: the lines of the tables across runs.
        problems: what is wrong with tables of scores, a line each.
        folders: the folders that the user named.
        images: how many validation images are shown of each run at most.
    """
    environment = Environment(
        loader=FileSystemLoader(TEMPLATE),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters.update(percent=percent, mean_and_deviation=mean_and_deviation, difference=difference)
    chart = figures.seeds_chart(groups) if 1 < len(groups) <= MOST_IN_CHART else None
    page = environment.get_template("page.html").render(
        style=_raw("page.css"),
        script=_raw("page.js"),
        made=time.strftime("%Y-%m-%d %H:%M"),
        folders=[str(folder) for folder in folders],
        problems=problems,
        groups=groups,
        apart=[set_apart_by(group, groups) for group in groups],
        more=[sorted(more.items(), key=lambda pair: (len(pair[0]), pair)) for more in more_than_the_baseline(groups)],
        published=published_beside(groups),
        seeds_chart=svg_picture(chart, "mean IoU of every run, by method and labelled ratio"),
        views=[view(run, f"run-{number}", images) for number, run in enumerate(runs, 1)],
        meanings=MEANINGS,
        different_colours=[hex_colour(colour) for colour in DIFFERENT],
        way_text=way_text,
    )
    # Names of files and classes may hold surrogates, which UTF-8 cannot; they become question marks.
    return page.encode("utf-8", "replace").decode()


def way_text(way: tuple[str, str]) -> str:
    """Says in words how an evaluation was done, given scales and flip as log_df.csv writes them."""
    scales, flip = way
    several = "s" if " " in scales else ""
    return f"scale{several} {', '.join(scales.split()) or '?'}{' and mirrored' if flip == '1' else ''}"


def percent(value: float | None) -> str:
    """Writes a percentage, or a dash where there is none."""
    return "-" if value is None else f"{value:.1f}"


def mean_and_deviation(statistic: Statistic) -> str:
    """Writes mean ± deviation."""
    return f"{statistic.mean:.1f}" + ("" if statistic.deviation is None else f" ± {statistic.deviation:.1f}")


def difference(values: Sequence[float]) -> str:
    """Writes the mean of differences with its sign, and their sample deviation."""
    statistic = Statistic.of(values)
    return ("+" if statistic.mean >= 0 else "") + mean_and_deviation(statistic)


def _raw(name: str) -> Markup:
    return Markup((TEMPLATE / name).read_text(encoding="utf-8").rstrip())
