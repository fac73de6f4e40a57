"""`log_df.csv`: one row per evaluated snapshot and predictor, over all runs of an experiment folder."""

import math
import os
import warnings
from collections.abc import Sequence
from pathlib import Path

import pandas as pd

from furnace.engine.files import locked, write_text
from furnace.errors import InputError, in_short
from furnace.evaluation.metrics import Scores

PUBLISHED_COLUMNS = ("log_file", "folder", "model_file", "mean_IU", "mean_IU_no_back", "mean_pixel_ACC", "Ensemble")
CLASS_IOU = "IoU_"  # with a class's name behind it, this names a column
RUN_COLUMNS = ("epoch", "method", "labeled_ratio", "backbone", "scales", "flip", "seed", "evaluated_at")
# The table has one row for each combination of these.
IDENTITY = ("folder", "model_file", "Ensemble", "scales", "flip", "method", "labeled_ratio", "backbone", "seed")


def scales_text(scales: Sequence[float]) -> str:
    """Returns what stands in the column `scales`."""
    return " ".join(f"{scale:g}" for scale in scales)


def score_columns(scores: Scores, classes: Sequence[str]) -> dict[str, str]:
    """Returns the scores in percent, by column of the table; a class that never occurred stays empty."""
    means = {
        "mean_IU": scores.mean_iou,
        "mean_IU_no_back": scores.mean_iou_no_background,
        "mean_pixel_ACC": scores.pixel_accuracy,
    }
    by_class = {f"{CLASS_IOU}{name}": iou for name, iou in zip(classes, scores.iou, strict=True)}
    return {name: "" if math.isnan(value) else f"{100 * value:.3f}" for name, value in (means | by_class).items()}


def append_rows(path: Path, rows: Sequence[dict[str, str]]) -> None:
    """Adds rows to the table and takes out old ones of the same IDENTITY. Several processes may do so at once.

    A link to the table stays one: several experiments may share it.

    Raises:
        InputError: what stands at `path` is no table, or cannot be read or written.
    """
    path = Path(os.path.realpath(path))  # the lock, too, is that of the table itself
    with locked(path.with_name(f".{path.name}.lock")):
        new = pd.DataFrame(rows, dtype=str)
        if path.is_file():
            old = read_table(path)
            replaced = old[list(IDENTITY)].apply(tuple, axis=1).isin(new[list(IDENTITY)].apply(tuple, axis=1))
            new = pd.concat([old[~replaced], new])
        leading = [*PUBLISHED_COLUMNS, *RUN_COLUMNS]
        new = new[leading + [column for column in new.columns if column not in leading]]
        write_text(path, new.fillna("").to_csv(index=False, lineterminator="\n"))


def read_table(path: Path) -> pd.DataFrame:
    """Reads the table with all cells as text, so that cells which nobody changes are written back as they were.

    It understands also what spreadsheet programs make of the table: a byte order mark, CRLF, other columns in another
    order, semicolons or tabs with decimal commas, empty rows and columns. The percent signs of a published table are
    removed.

    Raises:
        InputError: the file is no such table, or cannot be read.
    """
    try:
        with open(path, encoding="utf-8-sig") as file:
            separator = max(",;\t", key=file.readline().count)
        with warnings.catch_warnings():
            warnings.simplefilter("error", pd.errors.ParserWarning)  # cells beyond the last column
            table = pd.read_csv(
                path, dtype=str, keep_default_na=False, encoding="utf-8-sig", sep=separator, index_col=False
            )
    except pd.errors.ParserWarning:
        raise InputError(f"not a table: {path}: a row is longer than the first line; mend it or move it away") from None
    except UnicodeDecodeError:
        raise InputError(f"not a table: {path}: no UTF-8; save it as such (Excel: CSV UTF-8) or move it away") from None
    except (pd.errors.ParserError, pd.errors.EmptyDataError) as error:
        raise InputError(f"not a table: {path}: {str(error).splitlines()[0]}; mend it or move it away") from None
    except OSError as error:
        raise InputError(f"cannot read {path}: {in_short(error)}; make it readable or move it away") from None
    table.columns = table.columns.str.strip()
    if not table.columns.is_unique:
        raise InputError(f"{path} has a column twice; expected every name once; mend it or move it away")
    missing = [column for column in PUBLISHED_COLUMNS if column not in table.columns]
    if missing:
        raise InputError(
            f"{path} lacks the column {missing[0]}; expected {', '.join(PUBLISHED_COLUMNS)}; mend it or move it away"
        )
    filler = [column for column in table.columns if column.startswith("Unnamed: ") and table[column].eq("").all()]
    table = table.drop(columns=filler)[(table != "").any(axis=1)]
    for column in table.columns:
        if column == "scales" or column.startswith(("mean_", CLASS_IOU)):
            numbers = table[column].str.removesuffix("%")
            table[column] = numbers if separator == "," else numbers.str.replace(",", ".")
    for column in RUN_COLUMNS:
        if column not in table.columns:
            table[column] = ""
    return table
