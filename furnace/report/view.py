"""What the page shows of one run: facts, charts as images, pictures as images."""

import base64
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import cv2
import numpy as np

from furnace.config.settings import FIELDS
from furnace.report import figures
from furnace.report.gallery import Shown, read_gallery
from furnace.report.rows import Row
from furnace.report.runs import Run
from furnace.report.summary import Evaluated, ways

MIXED_UP = 5  # pairs of classes named
KINDS = {".png": "image/png", ".jpg": "image/jpeg"}


@dataclass(frozen=True)
class Picture:
    """An image within the page."""

    source: str  # a data: address
    text: str  # what it shows, for those who do not see it
    width: int | None = None  # pixels; an SVG knows its own size
    height: int | None = None


@dataclass(frozen=True)
class GalleryImage:
    """One validation image with what was made of it, by caption."""

    name: str
    disagreement: float | None
    pictures: list[tuple[str, Picture]]


@dataclass(frozen=True)
class RunView:
    """A run as its section of the page shows it; what there is nothing of is None or empty."""

    anchor: str
    run: Run
    status: str
    facts: list[tuple[str, str]]
    settings: list[tuple[str, str, str]]  # name, value, meaning
    loss_chart: Picture | None
    validation_chart: Picture | None
    score_chart: Picture | None
    evaluated: list[Evaluated]
    last: Row | None  # the headline predictor at its last epoch: whose classes are shown
    class_chart: Picture | None
    confusion: Picture | None
    mixed_up: list[tuple[str, str, float]]
    legend: list[tuple[str, str]]  # class and colour
    gallery_epoch: int
    gallery: list[GalleryImage]


def view(run: Run, anchor: str, images: int) -> RunView:
    """Draws everything; `images` is how many validation images are shown at most."""
    evaluated = ways(run.rows)
    main = evaluated[0] if evaluated else None
    last = main.last(main.headline) if main else None
    file = next((file for file in run.score_files if last and file.row.identity == last.identity), None)
    epoch, shown = read_gallery(run)
    return RunView(
        anchor=anchor,
        run=run,
        status=status(run),
        facts=facts(run),
        settings=[
            (name, as_text(value), FIELDS[name].metadata["meaning"] if name in FIELDS else "")
            for name, value in run.settings.items()
        ],
        loss_chart=None if run.metrics is None else svg_picture(figures.loss_chart(run.metrics), "losses by epoch"),
        validation_chart=None
        if run.metrics is None
        else svg_picture(figures.validation_chart(run.metrics), "mean IoU found in training, by epoch"),
        score_chart=main and svg_picture(figures.score_chart(main), "mean IoU by epoch, a line for each predictor"),
        evaluated=evaluated,
        last=last,
        class_chart=last and svg_picture(figures.class_chart(last.by_class), "IoU by class, the best first"),
        confusion=file
        and svg_picture(
            figures.confusion_chart(file.confusion, file.classes), "confusion matrix, in percent of each true class"
        ),
        mixed_up=mixed_up(file.confusion, file.classes) if file else [],
        legend=legend(run),
        gallery_epoch=epoch,
        gallery=[GalleryImage(one.name, one.disagreement, list(_pictures(run, one))) for one in shown[:images]],
    )


def status(run: Run) -> str:
    """How far the run has come."""
    planned = run.epochs_planned
    if run.epochs_done == 0:
        return "no epoch known to be over"
    if planned is not None and run.epochs_done >= planned:
        return f"finished, {run.epochs_done} epochs"
    of = f" of {planned}" if planned is not None else ""
    return f"{run.epochs_done}{of} epochs, the last one over at {time.strftime('%Y-%m-%d %H:%M', run.last_written)}"


def facts(run: Run) -> list[tuple[str, str]]:
    """The few things that decide what a run's scores mean; what is not known is left out."""
    effective, versions = run.part("effective"), run.part("versions")
    width, ratio, resumed = run.settings.get("width"), run.setting("labeled_ratio"), run.record.get("resumed")
    factor = f" x {width:g}" if isinstance(width, int | float) and width != 1 else ""
    found = {
        "method": run.method,
        "data": run.data,
        "labelled": f"1/{ratio}" if ratio else "",
        "seed": run.setting("seed"),
        "network": f"{run.setting('backbone')}{factor}",
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
    """The pairs of classes confused most: the true one, the predicted one, percent of the true one's pixels."""
    part = figures.percent_of_rows(confusion)
    np.fill_diagonal(part, 0)
    order = np.argsort(-part, axis=None, kind="stable")[:MIXED_UP]
    pairs = (np.unravel_index(place, part.shape) for place in order)
    return [(classes[truth], classes[said], float(part[truth, said])) for truth, said in pairs if part[truth, said] > 0]


def legend(run: Run) -> list[tuple[str, str]]:
    """The classes in labels or predictions of any of the run's scores, and their colours."""
    if not run.score_files:
        return []
    first = run.score_files[0]
    alike = [file.confusion for file in run.score_files if file.classes == first.classes]
    return [(first.classes[index], hex_colour(first.palette[index])) for index in figures.occurring_classes(sum(alike))]


def svg_picture(svg: str | None, text: str) -> Picture | None:
    """A chart as an image of its own, so that nothing in it can act on the page."""
    return None if svg is None else Picture(_address("image/svg+xml", svg.encode("utf-8", "replace")), text)


def hex_colour(colour: Sequence[int]) -> str:
    return "#{:02x}{:02x}{:02x}".format(*colour)


def as_text(value: Any) -> str:
    """A value of config.json for people."""
    if isinstance(value, list):
        return ", ".join(map(as_text, value))
    return "" if value is None else f"{value:g}" if isinstance(value, float) else str(value)


def _pictures(run: Run, shown: Shown) -> Iterator[tuple[str, Picture]]:
    """The pictures of one validation image; those that cannot be read are noted."""
    for caption, path in shown.cells:
        try:
            content = path.read_bytes()
        except (OSError, ValueError):  # of a name that cannot be one
            content = b""
        decoded = cv2.imdecode(np.frombuffer(content, np.uint8), cv2.IMREAD_COLOR) if content else None
        if decoded is None or path.suffix not in KINDS:
            run.problems.append(f"picture missing or damaged: {path.relative_to(run.path)}")
            continue
        height, width = decoded.shape[:2]
        yield caption, Picture(_address(KINDS[path.suffix], content), f"{caption} of {shown.name}", width, height)


def _address(kind: str, content: bytes) -> str:
    return f"data:{kind};base64,{base64.b64encode(content).decode()}"
