"""Files to pixels: OpenCV decodes, because it is fast, and Pillow where OpenCV would lead astray.

Both turn images and masks as their EXIF tag says, as viewers do: masks are drawn on what people see. H and W are an
image's size in pixels.
"""

import warnings
from collections.abc import Callable
from io import BytesIO
from pathlib import Path
from typing import TYPE_CHECKING

import cv2
import numpy as np

from furnace.errors import InputError

if TYPE_CHECKING:
    from PIL.Image import Image

JPEG_START, JPEG_SCAN, JPEG_END = b"\xff\xd8", 0xDA, b"\xff\xd9"
PNG_START, PNG_END = b"\x89PNG", b"IEND"
PNG_PALETTE, PNG_GREY = 3, 0
TIFF_STARTS = (b"II*\0", b"MM\0*", b"II+\0", b"MM\0+")  # OpenCV multiplies colours by alpha
GIF_START = b"GIF8"  # OpenCV before 4.11 reads none
JPEG2000_STARTS = (b"\0\0\0\x0cjP", b"\xff\x4f\xff\x51")  # OpenCV before 5 can crash on damaged ones
PILLOW_IMAGES = (*TIFF_STARTS, GIF_START, *JPEG2000_STARTS)
PILLOW_MASKS = (*PILLOW_IMAGES, b"BM")  # OpenCV gives a palette's colours, not its indices, and 255 for one bit
PILLOW_FORMATS = ("TIFF", "GIF", "JPEG2000", "BMP", "PNG")
TIFF_BITS = 258  # the tag with the bits of each channel
READ_RGB = getattr(cv2, "IMREAD_COLOR_RGB", None)  # OpenCV before 4.11 has none
MOST_PIXELS = 2**28  # by Pillow: a damaged file that claims more would fill the memory

silence = cv2.setLogLevel if hasattr(cv2, "setLogLevel") else cv2.utils.logging.setLogLevel
silence(0)  # what is wrong with a file is said once, below


def decode_image(content: np.ndarray, name: str | Path) -> np.ndarray:
    """An image file's bytes to (H, W, 3) uint8 RGB; InputError names a file that is damaged or none.

    Grey becomes three equal channels, 16 bits become their upper 8, alpha is dropped.
    """
    if _starts_with(content, PILLOW_IMAGES):
        return _by_pillow(content, name, "image", _rgb)
    if READ_RGB is None:
        return cv2.cvtColor(_by_opencv(content, name, "image", cv2.IMREAD_COLOR), cv2.COLOR_BGR2RGB)
    return _by_opencv(content, name, "image", READ_RGB)


def decode_mask(content: np.ndarray, name: str | Path, palette_colours: bool = False) -> np.ndarray:
    """The whole numbers of a mask as they stand in its file, (H, W), or the colours (H, W, 3) uint8 of an RGB one.

    Args:
        content: the file's bytes, uint8.
        name: for the InputError if they are no image, or hold fractions or colours of 16 bits.
        palette_colours: give a palette image's colours, not its indices.
    """
    if _starts_with(content, PILLOW_MASKS) or _png_kind(content) == PNG_PALETTE:
        mask = _by_pillow(content, name, "label", _rgb if palette_colours else _stored)
    else:
        mask = _by_opencv(content, name, "label", cv2.IMREAD_ANYCOLOR | cv2.IMREAD_ANYDEPTH)
        mask = mask[..., ::-1] if mask.ndim == 3 else _unstretched(mask, content)
    if mask.dtype.kind not in "ui" or (mask.ndim == 3 and mask.dtype != np.uint8):
        expected = "class indices" if mask.ndim == 2 else "colours of 8 bits or class indices"
        raise InputError(f"label holds no whole numbers: {name}: expected {expected}, found {mask.dtype}; convert it")
    return mask


def _by_opencv(content: np.ndarray, name: str | Path, what: str, flags: int) -> np.ndarray:
    decoded = None
    if len(content) and not _broken_off(content):
        try:
            decoded = cv2.imdecode(content, flags)
        except (cv2.error, MemoryError):
            decoded = None
    if decoded is None:
        raise _not_whole(content, name, what)
    return decoded


def _by_pillow(content: np.ndarray, name: str | Path, what: str, pixels: Callable[["Image"], np.ndarray]) -> np.ndarray:
    from PIL import Image, ImageOps

    Image.MAX_IMAGE_PIXELS = MOST_PIXELS // 2  # Pillow warns of more, and refuses twice as many
    try:
        with warnings.catch_warnings(action="ignore"), Image.open(BytesIO(content), formats=PILLOW_FORMATS) as image:
            ImageOps.exif_transpose(image, in_place=True)
            return pixels(image)
    except Image.DecompressionBombError:
        raise InputError(f"{what} too large: {name}: expected at most {MOST_PIXELS:,} pixels; cut it up") from None
    except Exception:  # Pillow raises whatever the damage leads it to
        raise _not_whole(content, name, what) from None


def _not_whole(content: np.ndarray, name: str | Path, what: str) -> InputError:
    return InputError(
        f"{what} not readable: {name}: not a whole image file of a known kind ({len(content)} bytes); replace it"
    )


def _rgb(image: "Image") -> np.ndarray:
    """(H, W, 3) uint8."""
    if image.mode.startswith("I;16"):
        upper = (np.array(image) >> 8).astype(np.uint8)  # (H, W)
        return cv2.cvtColor(upper, cv2.COLOR_GRAY2RGB)
    if image.mode in ("I", "F"):
        raise ValueError("32 bits: nothing says which value is white")
    return np.array(image.convert("RGB"))


def _stored(image: "Image") -> np.ndarray:
    """(H, W) as the numbers stand in the file, indices where it has a palette; (H, W, 3) of an RGB one."""
    if image.mode in ("LA", "PA"):
        return np.array(image.getchannel(0))
    if image.mode in ("1", "L", "P", "I", "F") or image.mode.startswith("I;16"):
        stored = np.array(image)
        return stored.astype(np.uint8) if stored.dtype == bool else stored
    bits = max(getattr(image, "tag_v2", {}).get(TIFF_BITS, (8,)))
    return np.array(image.convert("RGB")).astype(np.uint8 if bits <= 8 else np.uint16)  # Pillow dropped the lower 8


def _broken_off(content: np.ndarray) -> bool:
    """OpenCV before 5 fills the rest of a JPEG or PNG that breaks off; a whole one has an end marker."""
    if _starts_with(content, (JPEG_START,)):
        file = content.tobytes()
        return file.rfind(JPEG_END, _scan_start(file)) < 0  # from the end, where it should be
    return _starts_with(content, (PNG_START,)) and content.tobytes().rfind(PNG_END) < 0


def _scan_start(file: bytes) -> int:
    """Where a JPEG's pixels begin: behind its headers, in which a thumbnail may have an end marker of its own."""
    place = len(JPEG_START)
    while place + 3 < len(file) and file[place] == 0xFF and file[place + 1] != JPEG_SCAN:
        filler = file[place + 1] == 0xFF
        place += 1 if filler else 2 + int.from_bytes(file[place + 2 : place + 4], "big")
    return place


def _starts_with(content: np.ndarray, starts: tuple[bytes, ...]) -> bool:
    return content[:8].tobytes().startswith(starts)


def _unstretched(mask: np.ndarray, content: np.ndarray) -> np.ndarray:
    """The values of a grey PNG of 1, 2 or 4 bits, which OpenCV multiplies to fill 0 to 255."""
    bits = int(content[24]) if _png_kind(content) == PNG_GREY else 8
    return mask // (255 // (2**bits - 1)) if bits < 8 else mask


def _png_kind(content: np.ndarray) -> int | None:
    """The colour type that a PNG's header gives, None for other files."""
    return int(content[25]) if len(content) > 25 and _starts_with(content, (PNG_START,)) else None
