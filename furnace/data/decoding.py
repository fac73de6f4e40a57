"""Decoding: the bytes of image files become pixels.

OpenCV decodes most files, because it is fast. Pillow decodes the kinds of file that OpenCV would get wrong. Both turn
images and masks as their EXIF tag says. Viewers do the same, and people draw masks on what a viewer shows them. H and W
are an image's size in pixels.
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
TIFF_STARTS = (b"II*\0", b"MM\0*", b"II+\0", b"MM\0+")  # read by Pillow, because OpenCV multiplies colours by alpha
GIF_START = b"GIF8"  # OpenCV before 4.11 reads no GIF
JPEG2000_STARTS = (b"\0\0\0\x0cjP", b"\xff\x4f\xff\x51")  # OpenCV before 5 can crash on damaged ones
PILLOW_IMAGES = (*TIFF_STARTS, GIF_START, *JPEG2000_STARTS)
PILLOW_MASKS = (*PILLOW_IMAGES, b"BM")  # OpenCV gives a BMP's palette colours, not its indices, and 255 for one bit
PILLOW_FORMATS = ("TIFF", "GIF", "JPEG2000", "BMP", "PNG")
TIFF_BITS = 258  # the tag that holds the bits of each channel
READ_RGB = getattr(cv2, "IMREAD_COLOR_RGB", None)  # None before OpenCV 4.11
MOST_PIXELS = 2**28  # that Pillow decodes: a damaged file that claims to hold more would fill the memory

silence = cv2.setLogLevel if hasattr(cv2, "setLogLevel") else cv2.utils.logging.setLogLevel
silence(0)  # OpenCV prints nothing: the errors raised below say once what is wrong with a file


def decode_image(content: np.ndarray, name: str | Path) -> np.ndarray:
    """Decodes an image.

    Args:
        content: the file's bytes, uint8.
        name: how an error calls the file.

    Returns:
        (H, W, 3) uint8 RGB. A grey image gets three equal channels, values of 16 bits lose their lower 8, and an alpha
        channel is dropped.

    Raises:
        InputError: the bytes are no image, or one that is damaged or too large.
    """
    if _starts_with(content, PILLOW_IMAGES):
        return _by_pillow(content, name, "image", _rgb)
    if READ_RGB is None:
        return cv2.cvtColor(_by_opencv(content, name, "image", cv2.IMREAD_COLOR), cv2.COLOR_BGR2RGB)
    return _by_opencv(content, name, "image", READ_RGB)


def decode_mask(content: np.ndarray, name: str | Path, palette_colours: bool = False) -> np.ndarray:
    """Decodes a mask.

    Args:
        content: the file's bytes, uint8.
        name: how an error calls the file.
        palette_colours: of an image with a palette, return the colours instead of the indices.

    Returns:
        The whole numbers of a one-channel mask as they stand in its file, (H, W) of the file's own integer type, or the
        colours of an RGB mask, (H, W, 3) uint8.

    Raises:
        InputError: the bytes are no image, or one that is damaged or too large, or it holds fractions or colours of 16
            bits.
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

    Image.MAX_IMAGE_PIXELS = MOST_PIXELS // 2  # Pillow warns of more pixels than this, and refuses twice as many
    try:
        file = BytesIO(content.tobytes())
        with warnings.catch_warnings(action="ignore"), Image.open(file, formats=PILLOW_FORMATS) as image:
            ImageOps.exif_transpose(image, in_place=True)
            return pixels(image)
    except Image.DecompressionBombError:
        raise InputError(f"{what} too large: {name}: expected at most {MOST_PIXELS:,} pixels; cut it up") from None
    except Exception:  # damage can make Pillow raise an exception of any type
        raise _not_whole(content, name, what) from None


def _not_whole(content: np.ndarray, name: str | Path, what: str) -> InputError:
    return InputError(
        f"{what} not readable: {name}: not a whole image file of a known kind ({len(content)} bytes); replace it"
    )


def _rgb(image: "Image") -> np.ndarray:
    """Returns an image's colours, (H, W, 3) uint8; raises ValueError if its pixels have 32 bits."""
    if image.mode.startswith("I;16"):
        upper = (np.array(image) >> 8).astype(np.uint8)  # (H, W)
        return cv2.cvtColor(upper, cv2.COLOR_GRAY2RGB)
    if image.mode in ("I", "F"):
        raise ValueError("32 bits: nothing says which value is white")
    return np.array(image.convert("RGB"))


def _stored(image: "Image") -> np.ndarray:
    """Returns (H, W) numbers as the file stores them, which are indices if it has a palette; (H, W, 3) if it is RGB."""
    if image.mode in ("LA", "PA"):
        return np.array(image.getchannel(0))
    if image.mode in ("1", "L", "P", "I", "F") or image.mode.startswith("I;16"):
        stored = np.array(image)
        return stored.astype(np.uint8) if stored.dtype == bool else stored
    bits = max(getattr(image, "tag_v2", {}).get(TIFF_BITS, (8,)))
    # Pillow has dropped the lower 8 bits of 16. The type uint16 tells `decode_mask`, which refuses such a file.
    return np.array(image.convert("RGB")).astype(np.uint8 if bits <= 8 else np.uint16)


def _broken_off(content: np.ndarray) -> bool:
    """Whether a JPEG or PNG breaks off, that is, lacks its end marker: OpenCV before 5 invents the missing rest."""
    if _starts_with(content, (JPEG_START,)):
        file = content.tobytes()
        return file.rfind(JPEG_END, _scan_start(file)) < 0  # searched from the end, where the marker should be
    return _starts_with(content, (PNG_START,)) and content.tobytes().rfind(PNG_END) < 0


def _scan_start(file: bytes) -> int:
    """Returns where a JPEG's pixels begin, behind its headers: a thumbnail in those has an end marker of its own."""
    place = len(JPEG_START)
    while place + 3 < len(file) and file[place] == 0xFF and file[place + 1] != JPEG_SCAN:
        filler = file[place + 1] == 0xFF
        place += 1 if filler else 2 + int.from_bytes(file[place + 2 : place + 4], "big")
    return place


def _starts_with(content: np.ndarray, starts: tuple[bytes, ...]) -> bool:
    return content[:8].tobytes().startswith(starts)


def _unstretched(mask: np.ndarray, content: np.ndarray) -> np.ndarray:
    """Restores the values of a grey PNG of 1, 2 or 4 bits, which OpenCV multiplies so that they fill 0 to 255."""
    bits = int(content[24]) if _png_kind(content) == PNG_GREY else 8
    return mask // (255 // (2**bits - 1)) if bits < 8 else mask


def _png_kind(content: np.ndarray) -> int | None:
    """Returns the colour type in a PNG's header, or None if the file is no PNG."""
    return int(content[25]) if len(content) > 25 and _starts_with(content, (PNG_START,)) else None
