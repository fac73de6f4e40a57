"""Reading images and label maps; whatever is wrong with a file is said with its name.

H and W are an image's size in pixels.
"""

from pathlib import Path

import cv2
import numpy as np

from furnace.errors import InputError
from furnace.losses import IGNORE

JPEG_START, JPEG_END, PNG_START = b"\xff\xd8", b"\xff\xd9", b"\x89PNG"


def read_image(path: Path) -> np.ndarray:
    """Decodes an image to (H, W, 3) uint8 RGB; InputError names a file that is missing or no image."""
    return cv2.cvtColor(_decode(path, _content(path, "image"), cv2.IMREAD_COLOR, "image"), cv2.COLOR_BGR2RGB)


def read_label(path: Path, num_classes: int) -> np.ndarray:
    """Decodes a label map to (H, W) uint8 of class indices and 255; InputError names a file with anything else in it.

    One-channel images of whole numbers of any depth, and palette PNGs, are taken.
    """
    content = _content(path, "label")
    label = _decode(path, content, cv2.IMREAD_UNCHANGED, "label")
    if label.ndim == 3:
        label = _palette_indices(path)
    elif (bits := _grey_bits(content)) < 8:
        label = label // (255 // (2**bits - 1))  # decoders stretch 1, 2 and 4 bits to 0..255
    if label.dtype.kind not in "ui":
        raise InputError(
            f"label holds no whole numbers: {path}: expected class indices, found {label.dtype}; convert it"
        )
    outside = (label != IGNORE) & ((label < 0) | (label >= num_classes))
    if outside.any():
        values = np.unique(label[outside])[:5].tolist()
        raise InputError(
            f"label value outside the classes: {path} holds {', '.join(map(str, values))}; "
            f"expected 0 to {num_classes - 1} or {IGNORE} (ignored); map the values, or mend the declaration"
        )
    return label.astype(np.uint8, copy=False)


def _content(path: Path, what: str) -> np.ndarray:
    try:
        return np.fromfile(path, dtype=np.uint8)
    except OSError as error:
        raise InputError(
            f"{what} not readable: {path}: {error.strerror}; add the file or take it out of its list"
        ) from None


def _decode(path: Path, content: np.ndarray, flags: int, what: str) -> np.ndarray:
    # OpenCV before 5 fills the rest of a JPEG that breaks off with grey; a whole one has an end marker.
    is_jpeg = content[:2].tobytes() == JPEG_START
    broken_off = is_jpeg and JPEG_END not in content.tobytes()
    try:
        decoded = cv2.imdecode(content, flags) if len(content) and not broken_off else None
    except cv2.error:
        decoded = None
    if decoded is None:
        raise InputError(f"{what} not readable: {path}: not a whole image file ({len(content)} bytes); replace it")
    return decoded


def _grey_bits(content: np.ndarray) -> int:
    """Bits a pixel of a greyscale PNG; 8 for everything else."""
    header = content[:26].tobytes()
    return header[24] if header.startswith(PNG_START) and header[25] == 0 else 8


def _palette_indices(path: Path) -> np.ndarray:
    """The indices of a palette PNG, which OpenCV would expand to colours."""
    from PIL import Image

    try:
        with Image.open(path) as image:
            if image.mode == "P":
                return np.array(image)
            found = image.mode
    except OSError:
        found = "a format without a palette"
    raise InputError(
        f"label is a colour image: {path}: expected one channel of class indices (or a palette PNG), "
        f"found {found}; convert it"
    )
