"""Reading images and label maps; whatever is wrong with a file is said with its name.

H and W are an image's size in pixels.
"""

from pathlib import Path

import cv2
import numpy as np

from furnace.data.decoding import decode_image, decode_mask
from furnace.data.reading import note
from furnace.errors import InputError
from furnace.labels import IGNORE


def read_image(path: Path) -> np.ndarray:
    """Decodes an image to (H, W, 3) uint8 RGB; InputError names a file that is missing or no image.

    Grey becomes three equal channels, 16 bits become their upper 8, alpha is dropped, and a photograph is turned as its
    EXIF tag says.
    """
    return decode_image(_content(path, "image"), path)


def read_label(path: Path, num_classes: int, ignore_value: int = IGNORE) -> np.ndarray:
    """Decodes a label map to (H, W) uint8 of class indices and 255; InputError names a file with anything else in it.

    One-channel images of whole numbers of any depth and palette images are taken; `ignore_value` becomes 255.
    """
    return read_label_and_counts(path, num_classes, ignore_value)[0]


def read_label_and_counts(path: Path, num_classes: int, ignore_value: int) -> tuple[np.ndarray, np.ndarray]:
    """The same, and how many pixels each class has: int64 (num_classes + 1,), the last one ignored."""
    label = without_channels(decode_mask(_content(path, "label"), path))
    if label.ndim == 3:
        raise InputError(
            f"label is a colour image: {path}: expected one channel of class indices (or a palette PNG), found RGB; "
            "convert it (python -m furnace prepare folder --help)"
        )
    counts = _counts(label)
    if outside := [value for value in counts if value != ignore_value and not 0 <= value < num_classes]:
        raise InputError(
            f"label value outside the classes: {path} holds {', '.join(map(str, outside[:5]))}; "
            f"expected 0 to {num_classes - 1} or {ignore_value} (ignored); map the values, or mend the declaration"
        )
    if ignore_value != IGNORE:
        label = np.where(label == ignore_value, IGNORE, label)
    by_class = [counts.get(value, 0) for value in (*range(num_classes), ignore_value)]
    return label.astype(np.uint8, copy=False), np.array(by_class, dtype=np.int64)


def without_channels(mask: np.ndarray) -> np.ndarray:
    """(H, W) of a mask that is grey but saved with three channels; any other as it is."""
    return mask[..., 0] if mask.ndim == 3 and (mask == mask[..., :1]).all() else mask


def values_in(label: np.ndarray) -> list[int]:
    """The different values of a map of whole numbers, in order."""
    return list(_counts(label))


def histogram(label: np.ndarray) -> np.ndarray:
    """How often each of the 256 values of a uint8 map occurs, int64."""
    return cv2.calcHist([label], [0], None, [256], [0, 256]).reshape(-1).astype(np.int64)


def _counts(label: np.ndarray) -> dict[int, int]:
    """How often each value occurs, in their order."""
    if label.dtype == np.uint8:
        by_value = histogram(label)
        values = np.flatnonzero(by_value)
        counts = by_value[values]
    else:
        values, counts = np.unique(label, return_counts=True)
    return dict(zip(values.tolist(), counts.tolist(), strict=True))


def _content(path: Path, what: str) -> np.ndarray:
    note(path)
    try:
        return np.fromfile(path, dtype=np.uint8)
    except (OSError, ValueError) as error:  # ValueError: no path at all, it holds a zero byte
        reason = getattr(error, "strerror", None) or error
        raise InputError(f"{what} not readable: {path}: {reason}; add the file or take it out of its list") from None
