"""The report's charts, as SVG.

N is the number of classes.
"""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd

from furnace.evaluation.metrics import MEAN_IOU
from furnace.report.groups import Group
from furnace.report.plotting import (
    BLACK,
    BLUE,
    GREEN,
    ORANGE,
    RED,
    chart,
    draw_line,
    label_by_epoch,
    new_axes,
    shortened,
    styled,
    svg_text,
)
from furnace.report.summary import Evaluated, Statistic
from furnace.semi.ensemble import PREDICTORS

PREDICTOR_LINES: dict[str, dict[str, Any]] = {
    "v0": {"color": BLUE, "marker": "o"},
    "v0_2": {"color": BLUE, "marker": "s", "linestyle": "--"},
    "v1": {"color": ORANGE, "marker": "o"},
    "v1_2": {"color": ORANGE, "marker": "s", "linestyle": "--"},
    "v2": {"color": GREEN, "marker": "^", "linewidth": 1.8},
    "v3": {"color": RED, "marker": "D", "linewidth": 1.8},
    "v4": {"color": BLACK, "marker": "v", "linestyle": ":", "linewidth": 1.8},
}
# The columns of metrics.csv that are losses, and the name and look of their lines.
LOSS_LINES: dict[str, tuple[str, dict[str, Any]]] = {
    "loss": ("all together", {"color": BLACK, "linewidth": 1.8}),
    "loss_sup_1": ("supervised, student 1", {"color": BLUE}),
    "loss_sup_2": ("supervised, student 2", {"color": BLUE, "linestyle": "--"}),
    "loss_cross_1": ("cross, student 1", {"color": ORANGE}),
    "loss_cross_2": ("cross, student 2", {"color": ORANGE, "linestyle": "--"}),
}
SHOWN = 0.5  # percent of a true class's pixels; smaller shares are not written out in the confusion matrix


@chart
def loss_chart(metrics: pd.DataFrame) -> str | None:
    """Draws the losses in metrics.csv by epoch; None if it has none. Terms that are always 0 are left out."""
    terms = [term for term in LOSS_LINES if term in metrics and (metrics[term].fillna(0) != 0).any()]
    if not terms:
        return None
    with styled():
        figure, axes = new_axes(3.1)
        for term in terms:
            name, look = LOSS_LINES[term]
            draw_line(axes, metrics["epoch"], metrics[term], name, look)
        label_by_epoch(figure, axes, "loss, mean of the epoch")
        return svg_text(figure)


@chart
def score_chart(evaluated: Evaluated) -> str | None:
    """Draws mean IoU by epoch, a line for each predictor; None if there is a single epoch, which the table shows."""
    if len(evaluated.epochs) == 1:
        return None
    with styled():
        figure, axes = new_axes(3.1)
        for code, by_epoch in evaluated.rows.items():
            scores = [row.mean_iou for row in by_epoch.values()]
            draw_line(axes, list(by_epoch), scores, code, PREDICTOR_LINES[code], always_marked=True)
        label_by_epoch(figure, axes, "mean IoU, percent", columns=4)
        return svg_text(figure)


@chart
def validation_chart(metrics: pd.DataFrame) -> str | None:
    """Draws the mean IoU that training measured now and then, a line for each predictor; None if it never did."""
    scores = {
        code: metrics.set_index("epoch")[MEAN_IOU + code].dropna() for code in PREDICTORS if MEAN_IOU + code in metrics
    }
    scores = {code: found for code, found in scores.items() if len(found)}
    if not scores:
        return None
    with styled():
        figure, axes = new_axes(3.1)
        for code, found in scores.items():
            draw_line(axes, found.index, found, code, PREDICTOR_LINES[code], always_marked=True)
        label_by_epoch(figure, axes, "mean IoU in training, percent", columns=4)
        return svg_text(figure)


@chart
def class_chart(by_class: Mapping[str, float | None]) -> str | None:
    """Draws the IoU of each class that occurs as a bar with its value, the best on top; None if no class occurs."""
    ordered = sorted(((value, name) for name, value in by_class.items() if value is not None), reverse=True)
    if not ordered:
        return None
    with styled({"axes.grid.axis": "x"}):
        figure, axes = new_axes(0.7 + 0.22 * len(ordered))
        values, names = zip(*ordered, strict=True)
        places = range(len(ordered))
        bars = axes.barh(places, values, height=0.7, color=BLUE)
        axes.bar_label(bars, [f"{value:.1f}" for value in values], padding=3, fontsize=8)
        axes.set_yticks(places, [shortened(name) for name in names])
        axes.tick_params(axis="y", length=0)
        axes.set_ylim(len(ordered) - 0.4, -0.6)
        axes.set_xlim(0, max(1.0, min(112.0, 1.15 * max(values))))
        axes.set_xlabel("IoU, percent")
        axes.set_axisbelow(True)
        return svg_text(figure)


@chart
def confusion_chart(confusion: np.ndarray, classes: Sequence[str]) -> str | None:
    """Draws which classes the pixels of each true class were taken for, in percent of these pixels.

    Classes that occur in neither labels nor predictions are left out.

    Args:
        confusion: numbers of pixels (N, N), rows are labels.
        classes: the names of the N classes.

    Returns:
        The chart, or None if there are no pixels.
    """
    occurring = occurring_classes(confusion)
    if not len(occurring):
        return None
    part = percent_of_rows(confusion)[np.ix_(occurring, occurring)]
    names = [shortened(classes[index]) for index in occurring]
    count = len(names)
    side = max(3.4, 1.6 + 0.27 * count)
    with styled({"axes.grid": False, "font.size": 9 if count <= 30 else 6}):
        figure, axes = new_axes(side, side)
        axes.imshow(part, cmap="Blues", vmin=0, vmax=100)
        axes.set_xticks(range(count), names, rotation=90)
        axes.set_yticks(range(count), names)
        axes.set(xlabel="predicted", ylabel="truth")
        axes.spines[:].set_visible(False)
        axes.tick_params(length=0)
        if count <= 40:
            for row, column in zip(*np.nonzero(part >= SHOWN), strict=True):
                value = part[row, column]
                colour = "white" if value > 55 else BLACK
                axes.text(column, row, f"{value:.0f}", color=colour, ha="center", va="center", fontsize=7.5)
        return svg_text(figure)


@chart
def seeds_chart(groups: Sequence[Group]) -> str | None:
    """Draws the last scores of each group's headline predictor: a row for each group, a dot for each run.

    A bar with a number marks their mean.
    """
    with styled({"axes.grid.axis": "x"}):
        figure, axes = new_axes(0.8 + 0.3 * len(groups))
        for place, group in enumerate(groups):
            scores = group.last_scores(group.headline)
            mean = Statistic.of(scores).mean
            axes.plot(scores, [place] * len(scores), "o", color=BLUE, alpha=0.6, markersize=6, markeredgewidth=0)
            axes.plot([mean, mean], [place - 0.3, place + 0.3], color=BLACK, linewidth=2)
            axes.annotate(f"{mean:.1f}", (mean, place - 0.3), ha="center", va="bottom", fontsize=8)
        several = len({group.key.data for group in groups}) > 1
        titles = [f"{f'{group.key.data}, ' if several else ''}{group.title} 1/{group.key.ratio}" for group in groups]
        names = [shortened(title, most=34) for title in titles]
        axes.set_yticks(range(len(groups)), names)
        axes.set_ylim(len(groups) - 0.4, -0.8)
        axes.margins(x=0.1)
        axes.tick_params(axis="y", length=0)
        axes.set_xlabel("mean IoU, percent, last epoch")
        return svg_text(figure)


def occurring_classes(confusion: np.ndarray) -> np.ndarray:
    """Returns the indices of the classes that occur in labels or predictions, of a confusion matrix (N, N)."""
    return np.flatnonzero(confusion.sum(axis=0) + confusion.sum(axis=1))


def percent_of_rows(confusion: np.ndarray) -> np.ndarray:
    """Returns counts (N, N) in percent of each row's sum; a row without counts is 0."""
    totals = confusion.sum(axis=1, keepdims=True)
    return np.divide(100.0 * confusion, totals, out=np.zeros(confusion.shape), where=totals > 0)
