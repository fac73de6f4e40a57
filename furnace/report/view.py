"""Collects what the page shows of one run: facts, settings, charts and pictures, the last two as images."""

import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from furnace.config.completion import network_name
from furnace.config.settings import FIELDS
from furnace.report import figures
from furnace.report.embedded import Picture, svg_picture
from furnace.report.gallery import GalleryImage, read_gallery
from furnace.report.rows import Row
from furnace.report.runs import Run
from furnace.report.summary import Evaluated, ways

MIXED_UP = 5  # how many pairs of classes are named


@dataclass(frozen=True)
class RunView:
    """A run as its section of the page shows it; whatever the run lacks is None or empty."""

    anchor: str  # the section's id in the page
    run: Run
    status: str
    facts: list[tuple[str, str]]  # name and value
    settings: list[tuple[str, str, str]]  # name, value, meaning
    loss_chart: Picture | None
    validation_chart: Picture | None
    score_chart: Picture | None
    evaluated: list[Evaluated]
    last: Row | None  # the headline predictor at its last epoch, whose classes the two charts below show
    class_chart: Picture | None
    confusion: Picture | None
    mixed_up: list[tuple[str, str, float]]  # the true class, the predicted class, percent of the true class's pixels
    legend: list[tuple[str, str]]  # class and colour
    gallery_epoch: int  # 0 without a gallery
    gallery: list[GalleryImage]


def view(run: Run, anchor: str, images: int) -> RunView:
    """Collects and draws what the page shows of a run; pictures that cannot be read are added to its problems.

    Args:
        run: the run, with all its rows.
        anchor: the section's id in the page.
        images: how many validation images are shown at most.
    """
    evaluated = ways(run.rows)
    main = evaluated[0] if evaluated else None
    last = main.last(main.headline) if main else None
    file = next((file for file in run.score_files if last and file.row.identity == last.identity), None)
    gallery_epoch, gallery = read_gallery(run, images)
    return RunView(
        anchor=anchor,
        run=run,
        status=status(run),
        facts=facts(run),
        settings=[
            (name, as_text(value), FIELDS[name].metadata["meaning"] if name in FIELDS else "")
            for name, value in run.settings.items()
        ],
        loss_chart=svg_picture(None if run.metrics is None else figures.loss_chart(run.metrics), "losses by epoch"),
        validation_chart=svg_picture(
            None if run.metrics is None else figures.validation_chart(run.metrics),
            "mean IoU found in training, by epoch",
        ),
        score_chart=svg_picture(
            figures.score_chart(main) if main else None, "mean IoU by epoch, a line for each predictor"
        ),
        evaluated=evaluated,
        last=last,
        class_chart=svg_picture(figures.class_chart(last.by_class) if last else None, "IoU by class, the best first"),
        confusion=svg_picture(
            figures.confusion_chart(file.confusion, file.classes) if file else None,
            "confusion matrix, in percent of each true class",
        ),
        mixed_up=mixed_up(file.confusion, file.classes) if file else [],
        legend=legend(run),
        gallery_epoch=gallery_epoch,
        gallery=gallery,
    )


def status(run: Run) -> str:
    """Says how far the run has come."""
    planned = run.epochs_planned
    if run.epochs_done == 0:
        return "no epoch known to be over"
    if planned is not None and run.epochs_done >= planned:
        return f"finished, {run.epochs_done} epochs"
    of = f" of {planned}" if planned is not None else ""
    return f"{run.epochs_done}{of} epochs, the last one over at {time.strftime('%Y-%m-%d %H:%M', run.last_written)}"


def facts(run: Run) -> list[tuple[str, str]]:
    """Returns the few things that decide what a run's scores mean, by name; what is not known is left out."""
    effective, versions = run.part("effective"), run.part("versions")
    width, ratio, resumed = run.settings.get("width"), run.setting("labeled_ratio"), run.record.get("resumed")
    factor = f" x {width:g}" if isinstance(width, int | float) and width != 1 else ""
    found = {
        "method": run.method,
        "data": run.data,
        "labelled": f"1/{ratio}" if ratio else "",
        "seed": run.setting("seed"),
        "network": f"{network_name(run.settings) if run.settings else run.setting('backbone')}{factor}",
        "weights": run.record.get("weights"),
        "batch size": run.settings.get("batch_size"),
        "learning rate": effective.get("learning_rate"),
        **{name: effective.get(name) for name in ("iterations", "precision", "device", "processes")},
        "git commit": run.record.get("git_commit"),
        "versions": ", ".join(f"{name} {version}" for name, version in versions.items()),
        "went on after a stop": f"{len(resumed)} times" if isinstance(resumed, list) else "",
    }
    return [(name, as_text(value)) for name, value in found.items() if value not in ("", None)]


def mixed_up(confusion: np.ndarray, classes: Sequence[str]) -> list[tuple[str, str, float]]:
    """Finds the pairs of classes that are confused most.

    Args:
        confusion: numbers of pixels (N, N), rows are labels.
        classes: the names of the N classes.

    Returns:
        The true class, the predicted class and the percentage of the true one's pixels, the largest first.
    """
    part = figures.percent_of_rows(confusion)
    np.fill_diagonal(part, 0)
    order = np.argsort(-part, axis=None, kind="stable")[:MIXED_UP]
    pairs = (np.unravel_index(place, part.shape) for place in order)
    return [(classes[truth], classes[said], float(part[truth, said])) for truth, said in pairs if part[truth, said] > 0]


def legend(run: Run) -> list[tuple[str, str]]:
    """Returns the classes that occur in labels or predictions of any of the run's scores, and their colours."""
    if not run.score_files:
        return []
    first = run.score_files[0]
    together = np.sum([file.confusion for file in run.score_files if file.classes == first.classes], axis=0)  # (N, N)
    return [(first.classes[index], hex_colour(first.palette[index])) for index in figures.occurring_classes(together)]


def hex_colour(colour: Sequence[int]) -> str:
    """Writes an RGB colour as CSS does: `#rrggbb`."""
    return "#{:02x}{:02x}{:02x}".format(*colour)


def as_text(value: Any) -> str:
    """Writes a value of config.json for people."""
    if isinstance(value, list):
        return ", ".join(map(as_text, value))
    return "" if value is None else f"{value:g}" if isinstance(value, float) else str(value)
