"""Reading images and label maps; whatever is wrong with a file is said with its name.

H and W are an image's size in pixels.
"""

from io import BytesIO
from pathlib import Path

import cv2
import numpy as np

from furnace.errors import InputError
from furnace.labels import IGNORE

JPEG_START, JPEG_END = b"\xff\xd8", b"\xff\xd9"
PNG_START, PNG_END = b"\x89PNG", b"IEND"
PALETTE_FORMATS = (b"II*\0", b"MM\0*", b"GIF8", b"BM")  # TIFF, GIF and BMP may have a palette, or one bit a pixel
PNG_PALETTE, PNG_GREY = 3, 0
MOST_PIXELS = 2**30  # OpenCV's own limit; Pillow's is lower than some aerial images

if hasattr(cv2, "setLogLevel"):
    cv2.setLogLevel(0)  # what is wrong with a file is said once, below


def read_image(path: Path) -> np.ndarray:
    """Decodes an image to (H, W, 3) uint8 RGB; InputError names a file that is missing or no image.

    Grey becomes three equal channels, 16 bits become their upper 8, alpha is dropped.
    """
    return cv2.cvtColor(_decode(_content(path, "image"), path, cv2.IMREAD_COLOR, "image"), cv2.COLOR_BGR2RGB)


def read_label(path: Path, num_classes: int, ignore_value: int = IGNORE) -> np.ndarray:
    """Decodes a label map to (H, W) uint8 of class indices and 255; InputError names a file with anything else in it.

    One-channel images of whole numbers of any depth and palette images are taken; `ignore_value` becomes 255.
    """
    label = without_channels(decode_mask(_content(path, "label"), path))
    if label.ndim == 3:
        raise InputError(
            f"label is a colour image: {path}: expected one channel of class indices (or a palette PNG), found RGB; "
            "convert it (python -m furnace prepare folder --help)"
        )
    if outside := [value for value in values_in(label) if value != ignore_value and not 0 <= value < num_classes]:
        raise InputError(
            f"label value outside the classes: {path} holds {', '.join(map(str, outside[:5]))}; "
            f"expected 0 to {num_classes - 1} or {ignore_value} (ignored); map the values, or mend the declaration"
        )
    if ignore_value != IGNORE:
        label = np.where(label == ignore_value, IGNORE, label)
    return label.astype(np.uint8, copy=False)


def decode_mask(content: np.ndarray, name: str | Path) -> np.ndarray:
    """The whole numbers of a mask as they stand in its file, (H, W), or the colours (H, W, 3) of an RGB one.

    Args:
        content: the file's bytes, uint8.
        name: for the InputError if they are no image, or hold fractions.
    """
    mask = _decode_with_palette(content, name) if _may_have_palette(content) else _decode_grey(content, name)
    if mask.dtype.kind not in "ui":
        raise InputError(
            f"label holds no whole numbers: {name}: expected class indices, found {mask.dtype}; convert it"
        )
    return mask if mask.ndim == 2 else mask[..., :3]


def without_channels(mask: np.ndarray) -> np.ndarray:
    """(H, W) of a mask that is grey but saved with three channels; any other as it is."""
    return mask[..., 0] if mask.ndim == 3 and (mask == mask[..., :1]).all() else mask


def values_in(label: np.ndarray) -> list[int]:
    """The different values of a map of whole numbers, in order."""
    if label.dtype == np.uint8:
        return np.flatnonzero(histogram(label)).tolist()
    return np.unique(label).tolist()


def histogram(label: np.ndarray) -> np.ndarray:
    """How often each of the 256 values of a uint8 map occurs, int64."""
    return cv2.calcHist([label], [0], None, [256], [0, 256]).reshape(-1).astype(np.int64)


def _content(path: Path, what: str) -> np.ndarray:
    try:
        return np.fromfile(path, dtype=np.uint8)
    except OSError as error:
        raise InputError(
            f"{what} not readable: {path}: {error.strerror}; add the file or take it out of its list"
        ) from None


def _decode(content: np.ndarray, name: str | Path, flags: int, what: str) -> np.ndarray:
    decoded = None
    if len(content) and not _broken_off(content):
        try:
            decoded = cv2.imdecode(content, flags)
        except cv2.error:
            decoded = None
    if decoded is None:
        raise _not_whole(content, name, what)
    return decoded


def _not_whole(content: np.ndarray, name: str | Path, what: str) -> InputError:
    return InputError(f"{what} not readable: {name}: not a whole image file ({len(content)} bytes); replace it")


def _broken_off(content: np.ndarray) -> bool:
    """OpenCV before 5 fills the rest of a JPEG or PNG that breaks off; a whole one has an end marker."""
    start = content[:4].tobytes()
    for beginning, end in ((JPEG_START, JPEG_END), (PNG_START, PNG_END)):
        if start.startswith(beginning):
            return end not in content.tobytes()
    return False


def _may_have_palette(content: np.ndarray) -> bool:
    header = content[:26].tobytes()
    if header.startswith(PNG_START) and len(header) == 26:
        return header[25] == PNG_PALETTE
    return header.startswith(PALETTE_FORMATS)


def _decode_grey(content: np.ndarray, name: str | Path) -> np.ndarray:
    mask = _decode(content, name, cv2.IMREAD_UNCHANGED, "label")
    if mask.ndim == 3:
        return mask[..., 2::-1]  # BGR and perhaps alpha to RGB
    bits = _grey_bits(content)
    return mask if bits >= 8 else mask // (255 // (2**bits - 1))  # OpenCV stretches 1, 2 and 4 bits to 0..255


def _grey_bits(content: np.ndarray) -> int:
    """Bits a pixel of a greyscale PNG; 8 for everything else."""
    header = content[:26].tobytes()
    return header[24] if header.startswith(PNG_START) and header[25] == PNG_GREY else 8


def _decode_with_palette(content: np.ndarray, name: str | Path) -> np.ndarray:
    """By Pillow, which keeps the indices where OpenCV would give the palette's colours."""
    from PIL import Image

    try:
        Image.MAX_IMAGE_PIXELS = MOST_PIXELS
        with Image.open(BytesIO(content.tobytes())) as image:
            if image.mode in ("LA", "PA"):
                image = image.getchannel(0)
            elif image.mode in ("RGBA", "RGBX", "CMYK", "YCbCr"):
                image = image.convert("RGB")
            mask = np.array(image)
            return mask.astype(np.uint8) if mask.dtype == bool else mask
    except (OSError, SyntaxError, ValueError, EOFError):  # Pillow's decoders raise all of these for damaged files
        raise _not_whole(content, name, "label") from None
