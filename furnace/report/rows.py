"""Reads scores into rows: one row for each snapshot, predictor and way of evaluating it.

N is the number of classes.
"""

import json
import re
from collections.abc import Hashable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np

from furnace.errors import InputError
from furnace.evaluation.log_table import CLASS_IOU, read_table
from furnace.semi.ensemble import PREDICTORS

EPOCH = re.compile(r"epoch[-_]?(\d+)")  # in a snapshot's file name, because a published table has no column epoch


@dataclass(frozen=True)
class Row:
    """One evaluation of one predictor.

    Scores are in percent. Texts are empty where the table says nothing, as a published one often does.
    """

    folder: str  # the name of the run's folder
    epoch: int
    predictor: str
    mean_iou: float
    pixel_accuracy: float | None
    # IoU by the class's name. None where the table has no number: the class occurs nowhere, or in another run only.
    by_class: dict[str, float | None] = field(hash=False)
    method: str
    ratio: str
    backbone: str
    seed: str
    scales: str
    flip: str
    evaluated_at: str
    table: Path  # the log_df.csv that the row stands in
    validation_list: str = ""  # the digest of the list that was scored, which only a file of OUTPUT_PATH/scores tells

    @property
    def occurring(self) -> frozenset[str]:
        """The classes that occur in labels or predictions."""
        return frozenset(name for name, value in self.by_class.items() if value is not None)

    @property
    def trained(self) -> tuple[str, ...]:
        """What tells the runs of one table apart: folder, method, labelled ratio, backbone and seed."""
        return self.folder, self.method, self.ratio, self.backbone, self.seed

    @property
    def way(self) -> tuple[str, str]:
        """How the snapshot was evaluated: scales and flip."""
        return self.scales, self.flip

    @property
    def identity(self) -> tuple[str | int, ...]:
        """What tells the evaluations of one table apart; a later row of the same identity replaces an earlier one."""
        return *self.trained, self.epoch, self.predictor, *self.way


@dataclass(frozen=True)
class ScoreFile:
    """One file of OUTPUT_PATH/scores: a row, and the confusion matrix that it was computed from."""

    row: Row
    classes: tuple[str, ...]
    palette: tuple[tuple[int, int, int], ...]
    confusion: np.ndarray  # (N, N) int64, numbers of pixels; rows are labels, columns predictions


def read_rows(path: Path) -> list[Row]:
    """Reads the rows of a log_df.csv that hold a score of a known predictor.

    Raises:
        InputError: the file cannot be read, or is no such table.
    """
    rows = (as_row(entry, path) for entry in read_table(path).to_dict("records"))
    return [row for row in rows if row is not None]


def read_score_file(path: Path) -> ScoreFile:
    """Reads one file of OUTPUT_PATH/scores.

    Raises:
        InputError: the file is damaged.
    """
    try:
        record = json.loads(path.read_text(encoding="utf-8"))
        classes, palette = tuple(record["classes"]), tuple(tuple(colour) for colour in record["palette"])
        confusion = np.asarray(record["confusion"], dtype=np.int64)
        row = as_row(record["row"], table := Path(record["log_table"]))
        table.is_file()  # The table may be gone, but this raises ValueError if no file can have such a name.
        expected = all(isinstance(name, str) for name in classes) and all(map(_is_colour, palette))
        expected = expected and len(palette) == len(classes) and confusion.shape == (len(classes),) * 2
        if row is None or not expected or (confusion < 0).any():
            raise ValueError("expected a row, classes, colours and counts that fit together")
        row = replace(row, validation_list=str(record["list"]["sha256"]) if "list" in record else "")
    except (OSError, ValueError, TypeError, KeyError, AttributeError, OverflowError, RecursionError) as error:
        raise InputError(f"damaged file: {path.name}: {_in_one_line(error)}; evaluate again") from None
    return ScoreFile(row, classes, palette, confusion)


def as_row(entry: Mapping[Hashable, Any], table: Path) -> Row | None:
    """Makes a row of one line of `table`, given as texts by column; None if it holds no score of a known predictor."""
    text = {str(name): value.strip() for name, value in entry.items() if isinstance(value, str)}
    mean_iou = _percent(text.get("mean_IU", ""))
    predictor = text.get("Ensemble", "").lower()
    epoch = text.get("epoch") or "".join(EPOCH.findall(text.get("model_file", ""))[-1:])
    if mean_iou is None or predictor not in PREDICTORS or not re.fullmatch(r"[0-9]{1,9}", epoch):
        return None
    return Row(
        folder=text.get("folder", ""),
        epoch=int(epoch),
        predictor=predictor,
        mean_iou=mean_iou,
        pixel_accuracy=_percent(text.get("mean_pixel_ACC", "")),
        by_class={
            name[len(CLASS_IOU) :]: _percent(value) for name, value in text.items() if name.startswith(CLASS_IOU)
        },
        ratio=text.get("labeled_ratio", ""),
        evaluated_at=text.get("evaluated_at", ""),
        table=table,
        **{name: text.get(name, "") for name in ("method", "backbone", "seed", "scales", "flip")},
    )


def newest(rows: Sequence[Row]) -> list[Row]:
    """Returns one row of each identity: the one that was evaluated last."""
    found: dict[tuple[str | int, ...], Row] = {}
    for row in sorted(rows, key=lambda row: row.evaluated_at):
        found[row.identity] = row
    return list(found.values())


def _percent(text: str) -> float | None:
    """Reads a number from 0 to 100; None if the text is none."""
    try:
        value = float(text)
    except ValueError:
        return None
    return value if 0 <= value <= 100 else None


def _is_colour(colour: tuple) -> bool:
    return len(colour) == 3 and all(type(part) is int and 0 <= part <= 255 for part in colour)


def _in_one_line(error: Exception) -> str:
    name = type(error).__name__
    return f"{name}: {' '.join(str(error).split())[:120]}"
