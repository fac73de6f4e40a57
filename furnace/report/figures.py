"""The report's charts, as SVG. N is the number of classes."""

import io
import warnings
from collections.abc import Mapping, Sequence

import numpy as np
import pandas as pd
from matplotlib import rc_context
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from furnace.evaluation.metrics import MEAN_IOU
from furnace.report.groups import Group
from furnace.report.summary import Evaluated, Statistic
from furnace.semi.ensemble import PREDICTORS

# Colours that stay apart for colour-blind eyes; line and marker say the same again.
BLUE, ORANGE, GREEN, RED, BLACK, GREY = "#0072b2", "#e69f00", "#007a5a", "#c8421a", "#222222", "#777777"
PREDICTOR_LINES = {
    "v0": {"color": BLUE, "marker": "o"},
    "v0_2": {"color": BLUE, "marker": "s", "linestyle": "--"},
    "v1": {"color": ORANGE, "marker": "o"},
    "v1_2": {"color": ORANGE, "marker": "s", "linestyle": "--"},
    "v2": {"color": GREEN, "marker": "^", "linewidth": 1.8},
    "v3": {"color": RED, "marker": "D", "linewidth": 1.8},
    "v4": {"color": BLACK, "marker": "v", "linestyle": ":", "linewidth": 1.8},
}
LOSS_LINES = {
    "loss": {"color": BLACK, "linewidth": 1.8},
    "loss_sup_1": {"color": BLUE},
    "loss_sup_2": {"color": BLUE, "linestyle": "--"},
    "loss_cross_1": {"color": ORANGE},
    "loss_cross_2": {"color": ORANGE, "linestyle": "--"},
}
LOSS_NAMES = {
    "loss": "all together",
    "loss_sup_1": "supervised, student 1",
    "loss_sup_2": "supervised, student 2",
    "loss_cross_1": "cross, student 1",
    "loss_cross_2": "cross, student 2",
}
STYLE = {
    "font.family": "sans-serif",
    "font.size": 9,
    "text.parse_math": False,  # class names are text, also with dollar signs
    "svg.fonttype": "none",  # text stays text: every script is drawn with the reader's fonts
    "svg.hashsalt": "report",  # the same chart is the same file
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": True,
    "grid.color": "#e4e4e4",
    "lines.markersize": 4,
    "lines.linewidth": 1.3,
    "legend.frameon": False,
    "legend.fontsize": 8,
}
WIDTH = 4.6  # inches; a phone shows it a quarter smaller
MOST_MARKERS = 25  # points of a line; more would run together
SHOWN = 0.5  # percent of a class's pixels that the confusion matrix writes out


def loss_chart(metrics: pd.DataFrame) -> str | None:
    """The losses of metrics.csv by epoch, None if it has none; terms that are always 0 are left out."""
    terms = [name for name in LOSS_LINES if name in metrics and (metrics[name].fillna(0) != 0).any()]
    if not terms:
        return None
    with rc_context(STYLE):
        figure, axes = _axes(3.1)
        for name in terms:
            _line(axes, metrics["epoch"], metrics[name], LOSS_NAMES[name], LOSS_LINES[name])
        _by_epoch(axes, "loss, mean of the epoch")
        return _svg(figure)


def score_chart(evaluated: Evaluated) -> str | None:
    """Mean IoU by epoch, a line for each predictor; None of a single epoch, which the table shows."""
    if len(evaluated.epochs) == 1:
        return None
    with rc_context(STYLE):
        figure, axes = _axes(3.1)
        for code, by_epoch in evaluated.rows.items():
            scores = [row.mean_iou for row in by_epoch.values()]
            _line(axes, list(by_epoch), scores, code, PREDICTOR_LINES[code], always_marked=True)
        _by_epoch(axes, "mean IoU, percent", columns=4)
        return _svg(figure)


def validation_chart(metrics: pd.DataFrame) -> str | None:
    """The mean IoU that training found meanwhile, by epoch, a line for each predictor; None where it looked at none."""
    scores = {
        code: metrics.set_index("epoch")[MEAN_IOU + code].dropna() for code in PREDICTORS if MEAN_IOU + code in metrics
    }
    scores = {code: found for code, found in scores.items() if len(found)}
    if not scores:
        return None
    with rc_context(STYLE):
        figure, axes = _axes(3.1)
        for code, found in scores.items():
            _line(axes, found.index, found, code, PREDICTOR_LINES[code], always_marked=True)
        _by_epoch(axes, "mean IoU in training, percent", columns=4)
        return _svg(figure)


def class_chart(by_class: Mapping[str, float | None]) -> str | None:
    """IoU of each class that occurs as a bar with its value, the best on top."""
    ordered = sorted(((value, name) for name, value in by_class.items() if value is not None), reverse=True)
    if not ordered:
        return None
    with rc_context({**STYLE, "axes.grid.axis": "x"}):
        figure, axes = _axes(0.7 + 0.22 * len(ordered))
        values, names = zip(*ordered, strict=True)
        places = range(len(ordered))
        bars = axes.barh(places, values, height=0.7, color=BLUE)
        axes.bar_label(bars, [f"{value:.1f}" for value in values], padding=3, fontsize=8)
        axes.set_yticks(places, [_shortened(name) for name in names])
        axes.tick_params(axis="y", length=0)
        axes.invert_yaxis()
        axes.set_ylim(len(ordered) - 0.4, -0.6)
        axes.set_xlim(0, max(1.0, min(112.0, 1.15 * max(values))))
        axes.set_xlabel("IoU, percent")
        axes.set_axisbelow(True)
        return _svg(figure)


def confusion_chart(confusion: np.ndarray, classes: Sequence[str]) -> str | None:
    """Where each true class's pixels went, in percent of them: (N, N) counts, rows are labels. None without pixels.

    Classes in neither labels nor predictions are left out.
    """
    occurring = occurring_classes(confusion)
    if not len(occurring):
        return None
    part = percent_of_rows(confusion)[np.ix_(occurring, occurring)]
    names = [_shortened(classes[index]) for index in occurring]
    count = len(names)
    side = max(3.4, 1.6 + 0.27 * count)
    with rc_context({**STYLE, "axes.grid": False, "font.size": 9 if count <= 30 else 6}):
        figure = Figure(figsize=(side, side), layout="constrained")
        axes = figure.add_subplot()
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
        return _svg(figure)


def seeds_chart(groups: Sequence[Group]) -> str:
    """The last score of every run as a dot, their means as bars: a line for each group, by its headline predictor."""
    with rc_context({**STYLE, "axes.grid.axis": "x"}):
        figure, axes = _axes(0.8 + 0.3 * len(groups))
        for place, group in enumerate(groups):
            scores = group.last_scores(group.headline)
            mean = Statistic.of(scores).mean
            axes.plot(scores, [place] * len(scores), "o", color=BLUE, alpha=0.6, markersize=6, markeredgewidth=0)
            axes.plot([mean, mean], [place - 0.3, place + 0.3], color=BLACK, linewidth=2)
            axes.annotate(f"{mean:.1f}", (mean, place - 0.3), ha="center", va="bottom", fontsize=8)
        several = len({group.key.data for group in groups}) > 1
        titles = [f"{group.title} 1/{group.key.ratio}" for group in groups]
        titles = [
            f"{group.key.data}, {title}" if several else title for group, title in zip(groups, titles, strict=True)
        ]
        names = [_shortened(title, most=34) for title in titles]
        axes.set_yticks(range(len(groups)), names)
        axes.set_ylim(len(groups) - 0.4, -0.8)
        axes.margins(x=0.1)
        axes.tick_params(axis="y", length=0)
        axes.set_xlabel("mean IoU, percent, last epoch")
        return _svg(figure)


def occurring_classes(confusion: np.ndarray) -> np.ndarray:
    """The classes in labels or predictions."""
    return np.flatnonzero(confusion.sum(axis=0) + confusion.sum(axis=1))


def percent_of_rows(confusion: np.ndarray) -> np.ndarray:
    """Counts (N, N) in percent of each row; a row without counts is 0."""
    totals = confusion.sum(axis=1, keepdims=True)
    return np.divide(100.0 * confusion, totals, out=np.zeros(confusion.shape), where=totals > 0)


def _axes(height: float) -> tuple[Figure, Axes]:
    figure = Figure(figsize=(WIDTH, height), layout="constrained")
    return figure, figure.add_subplot()


def _line(axes: Axes, epochs, values, name: str, look: dict, always_marked: bool = False) -> None:
    marker = look.get("marker", "o") if always_marked or len(epochs) == 1 else None
    every = 1 + len(epochs) // MOST_MARKERS
    axes.plot(epochs, values, label=name, **{**look, "marker": marker, "markevery": every})


def _by_epoch(axes: Axes, meaning: str, columns: int = 2) -> None:
    axes.set(xlabel="epoch", ylabel=meaning)
    axes.xaxis.set_major_locator(MaxNLocator(integer=True))
    axes.figure.legend(loc="outside upper center", ncols=columns)


def _shortened(name: str, most: int = 18) -> str:
    """A name as a label; what no SVG may hold is replaced."""
    name = "".join(sign if sign.isprintable() else "\N{REPLACEMENT CHARACTER}" for sign in name)
    return name if len(name) <= most else f"{name[: most - 1]}…"


def _svg(figure: Figure) -> str:
    text = io.StringIO()
    with warnings.catch_warnings():
        # The reader's fonts draw the text, so that what this machine's font lacks is no loss.
        warnings.filterwarnings("ignore", message=r"Glyph .* missing from")
        figure.savefig(text, format="svg", metadata={"Date": None, "Creator": None})
    return text.getvalue()
