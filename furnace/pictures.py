"""Draws labels as colours and sets pictures side by side.

Pictures are (H, W, 3) uint8 RGB; H and W are their size in pixels.
"""

from collections.abc import Sequence
from pathlib import Path

import cv2
import numpy as np

from furnace.engine.files import write_atomically
from furnace.errors import InputError
from furnace.labels import IGNORE

IGNORED_COLOUR = (224, 224, 192)
CAPTION_HEIGHT = 18  # pixels
GAP = 4  # pixels


def colourize(label: np.ndarray, palette: Sequence[tuple[int, int, int]]) -> np.ndarray:
    """Returns the colours (H, W, 3) of a label (H, W), which is uint8 of class indices and 255."""
    return cv2.LUT(grey(label), colour_table(palette)[None])  # takes a tenth of the time of table[label]


def colour_table(palette: Sequence[tuple[int, int, int]]) -> np.ndarray:
    """Returns a table (256, 3) uint8 with the colour of every value that a label can have."""
    table = np.zeros((256, 3), dtype=np.uint8)
    table[: len(palette)] = palette
    table[IGNORE] = IGNORED_COLOUR
    return table


def grey(values: np.ndarray) -> np.ndarray:
    """Returns (H, W) values as a picture (H, W, 3) with three equal channels."""
    return cv2.merge([values] * 3)


def shrink(picture: np.ndarray, longest_side: int, interpolation: int = cv2.INTER_AREA) -> np.ndarray:
    """Shrinks a picture so that its longer side has at most `longest_side` pixels; returns a smaller one as it is."""
    height, width = picture.shape[:2]
    factor = longest_side / max(height, width)
    if factor >= 1:
        return picture
    size = max(1, round(width * factor)), max(1, round(height * factor))
    return cv2.resize(picture, size, interpolation=interpolation)


def panel(rows: Sequence[Sequence[np.ndarray]], captions: Sequence[str]) -> np.ndarray:
    """Sets pictures in a table with a caption over each column.

    Every cell is as large as the largest picture, and smaller pictures are centred in theirs.

    Args:
        rows: the pictures, in each row one for each column.
    """
    height = max(picture.shape[0] for row in rows for picture in row)
    width = max(picture.shape[1] for row in rows for picture in row)
    sheet_height = CAPTION_HEIGHT + len(rows) * (height + GAP)
    sheet = np.full((sheet_height, len(captions) * (width + GAP), 3), 255, dtype=np.uint8)
    for column, caption in enumerate(captions):
        left = column * (width + GAP)
        cv2.putText(sheet, caption, (left + 2, 13), cv2.FONT_HERSHEY_SIMPLEX, 0.4, (0, 0, 0), 1, cv2.LINE_AA)
        for number, row in enumerate(rows):
            picture = row[column]
            top = CAPTION_HEIGHT + number * (height + GAP) + (height - picture.shape[0]) // 2
            start = left + (width - picture.shape[1]) // 2
            sheet[top : top + picture.shape[0], start : start + picture.shape[1]] = picture
    return sheet


def write_png(path: Path, picture: np.ndarray) -> None:
    """Writes (H, W) indices or a picture (H, W, 3) as a PNG file, which appears whole or not at all.

    Raises:
        InputError: it cannot be written, or is too large.
    """
    bgr = picture[..., ::-1] if picture.ndim == 3 else picture
    try:
        _, data = cv2.imencode(".png", bgr)
    except (cv2.error, MemoryError):
        size = " x ".join(map(str, picture.shape[:2]))
        raise InputError(f"cannot write {path}: {size} pixels are too many for a PNG file; cut the image up") from None
    write_atomically(path, lambda file: file.write(data.tobytes()))
