"""Reads images and label maps from files. Every error names the file and says what is wrong with it.

H and W are an image's size in pixels.
"""

from pathlib import Path
from types import EllipsisType

import cv2
import numpy as np

from furnace.data.contents import file_content, is_mapped
from furnace.data.decoding import decode_image, decode_mask
from furnace.data.kinds import lossy_hint
from furnace.data.remarks import Tell, say_once
from furnace.errors import InputError
from furnace.labels import IGNORE

Part = tuple[slice, slice] | EllipsisType  # rows and columns, or all of them


def read_image(path: Path, tell: Tell = say_once) -> np.ndarray:
    """Reads an image.

    Args:
        path: the file.
        tell: takes what is odd about a file that can be read, such as damaged pixels.

    Returns:
        (H, W, 3) uint8 RGB. A grey image gets three equal channels, values of 16 bits lose their lower 8, an alpha
        channel is dropped, and a photograph is turned as its EXIF tag says. The pixels of a PPM with 8 bits lie in the
        file, as `file_content` says.

    Raises:
        InputError: the file is missing, or is no image or a damaged one.
    """
    return decode_image(file_content(path, "image"), path, tell)


class LabelMap:
    """A label map whose values are looked at where they are asked for: `labels[rows, columns]`.

    Args:
        stored: (H, W) whole numbers as they stand in the file.
        name: how an error calls the file.
        num_classes: how many classes there are.
        ignore_value: the value that marks ignored pixels in the file; 255 takes its place.
    """

    def __init__(self, stored: np.ndarray, name: str, num_classes: int, ignore_value: int) -> None:
        self.stored, self.name = stored, name
        self.num_classes, self.ignore_value = num_classes, ignore_value

    @property
    def shape(self) -> tuple[int, int]:
        """Height and width, (H, W)."""
        height, width = self.stored.shape
        return height, width

    def __getitem__(self, part: Part) -> np.ndarray:
        """Returns class indices and 255, uint8; raises InputError if a value is neither a class nor `ignore_value`."""
        return self.indices_and_counts(part)[0]

    def indices_and_counts(self, part: Part = ...) -> tuple[np.ndarray, np.ndarray]:
        """Returns the same, and how many pixels each class has: (num_classes + 1,) int64, ignored ones at the end."""
        label, num_classes, ignore_value = self.stored[part], self.num_classes, self.ignore_value
        counts = _counts(label)
        if outside := [value for value in counts if value != ignore_value and not 0 <= value < num_classes]:
            raise InputError(
                f"label value outside the classes: {self.name} holds {', '.join(map(str, outside[:5]))}; "
                f"expected 0 to {num_classes - 1} or {ignore_value} (ignored); map the values, or mend the declaration"
            )
        if ignore_value != IGNORE:
            label = np.where(label == ignore_value, IGNORE, label)
        by_class = [counts.get(value, 0) for value in (*range(num_classes), ignore_value)]
        return label.astype(np.uint8, copy=False), np.array(by_class, dtype=np.int64)


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
    return _whole(file_content(path, "label"), path, num_classes, ignore_value, tell)


def open_label(path: Path, num_classes: int, ignore_value: int = IGNORE) -> np.ndarray | LabelMap:
    """Opens a label map of which a part is wanted: `label[rows, columns]`. Arguments and errors as of `read_label`.

    A file that must be decoded is read and looked at as a whole. Of one that is mapped, only that part is.
    """
    content = file_content(path, "label")
    if is_mapped(content):
        return _label_map(content, path, num_classes, ignore_value, say_once)
    return _whole(content, path, num_classes, ignore_value, say_once)[0]


def _whole(
    content: np.ndarray, path: Path, num_classes: int, ignore_value: int, tell: Tell
) -> tuple[np.ndarray, np.ndarray]:
    found = _label_map(content, path, num_classes, ignore_value, tell).indices_and_counts()
    if hint := lossy_hint(content):
        tell(path, f"labels may be wrong{hint}")
    return found


def _label_map(content: np.ndarray, path: Path, num_classes: int, ignore_value: int, tell: Tell) -> LabelMap:
    stored, name = without_channels(decode_mask(content, path, tell=tell)), f"{path}{lossy_hint(content)}"
    if stored.ndim == 3:
        raise InputError(
            f"label is a colour image: {name}: expected one channel of class indices (or a palette PNG), "
            "found RGB; convert it (python -m furnace prepare folder --help)"
        )
    return LabelMap(stored, name, num_classes, ignore_value)


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
