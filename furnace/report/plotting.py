"""What all charts of the report share: colours and style, axes, lines, labels, and SVG as text."""

import functools
import io
import logging
import os
import warnings
from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager
from typing import TYPE_CHECKING, Any, ParamSpec

import pandas as pd

from furnace.errors import in_short, say_note

if TYPE_CHECKING:  # the page does without charts where matplotlib cannot be imported
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

Arguments = ParamSpec("Arguments")
logging.getLogger("matplotlib").setLevel(logging.ERROR)  # it warns where it finds no folder for its cache

# Colours that stay apart for colour-blind eyes. Markers and dashes tell lines apart too.
BLUE, ORANGE, GREEN, RED, BLACK = "#0072b2", "#e69f00", "#007a5a", "#c8421a", "#222222"
STYLE: dict[Any, Any] = {  # The stubs list every key, which differ between releases of matplotlib; Any fits them all.
    "font.family": "sans-serif",
    "font.size": 9,
    "text.parse_math": False,  # Names of classes are plain text, also if they hold dollar signs.
    "svg.fonttype": "none",  # Text stays text and is drawn with the reader's fonts, which know the reader's script.
    "svg.hashsalt": "report",  # Ids in the SVG follow from it, so that the same chart gives the same text.
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": True,
    "grid.color": "#e4e4e4",
    "lines.markersize": 4,
    "lines.linewidth": 1.3,
    "legend.frameon": False,
    "legend.fontsize": 8,
}
WIDTH = 4.6  # the width of a chart in inches; on a phone it is shown a quarter smaller
MOST_MARKERS = 25  # on a line; more would run together


def chart(draw: Callable[Arguments, str | None]) -> Callable[Arguments, str | None]:
    """Makes a function that draws give None where matplotlib fails, of which the first one says a line."""

    @functools.wraps(draw)
    def drawn(*arguments: Arguments.args, **options: Arguments.kwargs) -> str | None:
        os.environ["MPLBACKEND"] = "svg"  # whatever a notebook has left there, nothing is shown on a screen
        try:
            return draw(*arguments, **options)
        except Exception as error:  # what is installed may not fit, nor its fonts and folders be there
            _say_once(in_short(error))
            return None

    return drawn


@functools.cache
def _say_once(reason: str) -> None:
    say_note(f"the page has no charts where matplotlib failed: {reason}; try pip install -r requirements.txt")


def styled(more: Mapping[Any, Any] | None = None) -> AbstractContextManager[None]:
    """A context in which charts have the report's style; `more` has further settings of matplotlib."""
    from matplotlib import rc_context

    return rc_context({**STYLE, **(more or {})})


def new_axes(height: float, width: float = WIDTH) -> "tuple[Figure, Axes]":
    """Makes a figure of this size, in inches, with one pair of axes."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(width, height), layout="constrained")
    return figure, figure.add_subplot()


def draw_line(
    axes: "Axes",
    epochs: Sequence[int] | pd.Series | pd.Index,
    values: Sequence[float] | pd.Series,
    name: str,
    look: Mapping[str, Any],
    always_marked: bool = False,
) -> None:
    """Draws values by epoch.

    Args:
        axes: what to draw on.
        epochs: as many as there are values.
        values: NaN interrupts the line.
        name: what the legend calls the line.
        look: arguments of Axes.plot.
        always_marked: whether markers show the values; a single value has one in any case.
    """
    marker = look.get("marker", "o") if always_marked or len(epochs) == 1 else None
    every = 1 + len(epochs) // MOST_MARKERS
    axes.plot(epochs, values, label=name, **{**look, "marker": marker, "markevery": every})


def label_by_epoch(figure: "Figure", axes: "Axes", meaning: str, columns: int = 2) -> None:
    """Labels a chart by epoch: whole numbers along x, `meaning` along y, and a legend in so many columns above."""
    from matplotlib.ticker import MaxNLocator

    axes.set(xlabel="epoch", ylabel=meaning)
    axes.xaxis.set_major_locator(MaxNLocator(integer=True))
    figure.legend(loc="outside upper center", ncols=columns)


def shortened(name: str, most: int = 18) -> str:
    """Cuts a name to `most` characters, and replaces the characters that no SVG may hold."""
    name = "".join(sign if sign.isprintable() else "\N{REPLACEMENT CHARACTER}" for sign in name)
    return name if len(name) <= most else f"{name[: most - 1]}…"


def svg_text(figure: "Figure") -> str:
    """Writes a figure as SVG."""
    text = io.StringIO()
    with warnings.catch_warnings():
        # The reader's fonts draw the text, so that it does not matter what the fonts of this machine lack.
        warnings.filterwarnings("ignore", message=r"Glyph .* missing from")
        figure.savefig(text, format="svg", metadata={"Date": None, "Creator": None})
    return text.getvalue()
