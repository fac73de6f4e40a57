"""Reads images and label maps from files. Every error names the file and says what is wrong with it.

H and W are an image's size in pixels.
"""

from pathlib import Path

import cv2
import numpy as np

from furnace.data.decoding import decode_image, decode_mask
from furnace.data.kinds import lossy_hint
from furnace.data.reading import note
from furnace.data.remarks import Tell, say_once
from furnace.errors import InputError
from furnace.labels import IGNORE


def read_image(path: Path, tell: Tell = say_once) -> np.ndarray:
    """Reads an image.

    Args:
        path: the file.
        tell: takes what is odd about a file that can be read, such as damaged pixels.

    Returns:
        (H, W, 3) uint8 RGB. A grey image gets three equal channels, values of 16 bits lose their lower 8, an alpha
        channel is dropped, and a photograph is turned as its EXIF tag says.

    Raises:
        InputError: the file is missing, or is no image or a damaged one.
    """
    return decode_image(file_content(path, "image"), path, tell)


def read_label(path: Path, num_classes: int, ignore_value: int = IGNORE) -> np.ndarray:
    """Reads a label map: an image with one channel of whole numbers of any depth, or with a palette.

    Args:
        ignore_value: the value that marks ignored pixels in the file; 255 takes its place.

    Returns:
        (H, W) uint8 of class indices and 255.

    Raises:
        InputError: the file is missing, is no label map, or holds a value that is neither a class nor `ignore_value`.
    """
    return read_label_and_counts(path, num_classes, ignore_value)[0]


def read_label_and_counts(
    path: Path, num_classes: int, ignore_value: int, tell: Tell = say_once
) -> tuple[np.ndarray, np.ndarray]:
    """Reads a label map as `read_label` does, and counts its pixels.

    Args:
        tell: takes what is odd about a file that can be read, such as packing that changes values.

    Returns:
        The label map, and how many pixels each class has: (num_classes + 1,) int64. The last count is that of the
        ignored pixels.
    """
    content = file_content(path, "label")
    label, hint = without_channels(decode_mask(content, path, tell=tell)), lossy_hint(content)
    if label.ndim == 3:
        raise InputError(
            f"label is a colour image: {path}{hint}: expected one channel of class indices (or a palette PNG), "
            "found RGB; convert it (python -m furnace prepare folder --help)"
        )
    counts = _counts(label)
    if outside := [value for value in counts if value != ignore_value and not 0 <= value < num_classes]:
        raise InputError(
            f"label value outside the classes: {path}{hint} holds {', '.join(map(str, outside[:5]))}; "
            f"expected 0 to {num_classes - 1} or {ignore_value} (ignored); map the values, or mend the declaration"
        )
    if hint:
        tell(path, f"labels may be wrong{hint}")
    if ignore_value != IGNORE:
        label = np.where(label == ignore_value, IGNORE, label)
    by_class = [counts.get(value, 0) for value in (*range(num_classes), ignore_value)]
    return label.astype(np.uint8, copy=False), np.array(by_class, dtype=np.int64)


def without_channels(mask: np.ndarray) -> np.ndarray:
    """Reduces a grey mask that was saved with three equal channels to (H, W); returns any other mask as it is."""
    return mask[..., 0] if mask.ndim == 3 and (mask == mask[..., :1]).all() else mask


def values_in(label: np.ndarray) -> list[int]:
    """Returns the different values of a map of whole numbers, in ascending order."""
    return list(_counts(label))


def histogram(label: np.ndarray) -> np.ndarray:
    """Counts how often each of the 256 values occurs in a uint8 map; returns (256,) int64."""
    return cv2.calcHist([label], [0], None, [256], [0, 256]).reshape(-1).astype(np.int64)


def _counts(label: np.ndarray) -> dict[int, int]:
    """Counts how often each value occurs; the values are in ascending order."""
    if label.dtype == np.uint8:
        by_value = histogram(label)
        values = np.flatnonzero(by_value)
        counts = by_value[values]
    else:
        values, counts = np.unique(label, return_counts=True)
    return dict(zip(values.tolist(), counts.tolist(), strict=True))


def file_content(path: Path, what: str) -> np.ndarray:
    """Returns a file's bytes, uint8; an InputError calls it `what`."""
    note(path)
    try:
        return np.fromfile(path, dtype=np.uint8)
    except (OSError, ValueError) as error:  # ValueError: the path holds a zero byte, which no path may
        reason = getattr(error, "strerror", None) or error
        raise InputError(f"{what} not readable: {path}: {reason}; add the file or take it out of its list") from None
