"""Decoding: the bytes of image files become pixels.

OpenCV decodes most files, because it is fast. Pillow decodes the kinds of file that OpenCV would get wrong. Both turn
images and masks as their EXIF tag says. Viewers do the same, and people draw masks on what a viewer shows them. Netpbm
files need no decoding. H and W are an image's size in pixels.
"""

import warnings
from collections.abc import Callable
from io import BytesIO
from pathlib import Path
from typing import TYPE_CHECKING

import cv2
import numpy as np

from furnace.data import kinds, netpbm
from furnace.data.remarks import SEVERAL_FRAMES, Tell, decoders_heard, say_once, tell_if_dark
from furnace.errors import InputError

if TYPE_CHECKING:
    from PIL.Image import Image

TIFF_STARTS = (b"II*\0", b"MM\0*", b"II+\0", b"MM\0+")  # read by Pillow, because OpenCV multiplies colours by alpha
GIF_START = b"GIF8"  # OpenCV before 4.11 reads no GIF
JPEG2000_STARTS = (b"\0\0\0\x0cjP", b"\xff\x4f\xff\x51")  # OpenCV before 5 can crash on damaged ones
PILLOW_IMAGES = (*TIFF_STARTS, GIF_START, *JPEG2000_STARTS)
PILLOW_MASKS = (*PILLOW_IMAGES, b"BM")  # OpenCV gives a BMP's palette colours, not its indices, and 255 for one bit
PILLOW_WEBP = kinds.WEBP_IS_ANIMATED | kinds.WEBP_HAS_EXIF  # OpenCV 4.10 reads no animation, and turns no WebP
PILLOW_FORMATS = ("TIFF", "GIF", "JPEG2000", "BMP", "PNG", "AVIF", "WEBP")
TIFF_BITS, TIFF_KIND, TIFF_IS_SMALLER = 258, 254, 1  # tags: each channel's bits; a page's kind, as a preview of another
READ_RGB = getattr(cv2, "IMREAD_COLOR_RGB", None)  # None before OpenCV 4.11
MOST_PIXELS = 2**28  # that Pillow decodes: a damaged file that claims to hold more would fill the memory

silence = cv2.setLogLevel if hasattr(cv2, "setLogLevel") else cv2.utils.logging.setLogLevel
silence(0)  # OpenCV prints nothing: the errors raised below say once what is wrong with a file


def decode_image(content: np.ndarray, name: str | Path, tell: Tell = say_once) -> np.ndarray:
    """Decodes an image.

    Args:
        content: the file's bytes, uint8.
        name: how an error calls the file.
        tell: takes what is odd about a file that can be read: damaged pixels, several frames, 16 bits that are dark.

    Returns:
        (H, W, 3) uint8 RGB. A grey image gets three equal channels, values of 16 bits lose their lower 8, and an alpha
        channel is dropped. The pixels of a PPM with 8 bits are a view of `content`.

    Raises:
        InputError: the bytes are no image, or one that is damaged or too large.
    """
    if netpbm.is_netpbm(content):
        return netpbm.image_pixels(content, name, tell)
    if _is_for_pillow(content, PILLOW_IMAGES):
        return _by_pillow(content, name, "image", _rgb, tell)
    image = _by_opencv(content, name, "image", cv2.IMREAD_COLOR if READ_RGB is None else READ_RGB, tell)
    if kinds.png_bits(content) == 16:
        tell_if_dark(image, name, tell)
    return cv2.cvtColor(image, cv2.COLOR_BGR2RGB) if READ_RGB is None else image


def decode_mask(
    content: np.ndarray, name: str | Path, palette_colours: bool = False, tell: Tell = say_once
) -> np.ndarray:
    """Decodes a mask.

    Args:
        content: the file's bytes, uint8.
        name: how an error calls the file.
        palette_colours: of an image with a palette, return the colours instead of the indices.
        tell: takes what is odd about a file that can be read.

    Returns:
        The whole numbers of a one-channel mask as they stand in its file, (H, W) of the file's own integer type, or the
        colours of an RGB mask, (H, W, 3) uint8. Those of a PGM or PPM with 8 bits are a view of `content`.

    Raises:
        InputError: the bytes are no image, or one that is damaged or too large, or it holds fractions or colours of 16
            bits.
    """
    png = kinds.png_colour(content)
    if netpbm.is_netpbm(content):
        mask = netpbm.stored_pixels(content, name, "label", tell)
    elif _is_for_pillow(content, PILLOW_MASKS) or png == kinds.PNG_PALETTE:
        mask = _by_pillow(content, name, "label", _rgb if palette_colours else _stored, tell)
    else:
        mask = _by_opencv(content, name, "label", cv2.IMREAD_ANYCOLOR | cv2.IMREAD_ANYDEPTH, tell)
        if mask.ndim == 3:
            mask = mask[..., 0] if png == kinds.PNG_GREY_ALPHA else mask[..., ::-1]
        elif png == kinds.PNG_GREY:
            mask = _unstretched(mask, kinds.png_bits(content))
    if mask.dtype.kind not in "ui" or (mask.ndim == 3 and mask.dtype != np.uint8):
        expected = "class indices" if mask.ndim == 2 else "colours of 8 bits or class indices"
        raise InputError(f"label holds no whole numbers: {name}: expected {expected}, found {mask.dtype}; convert it")
    return mask


def _is_for_pillow(content: np.ndarray, starts: tuple[bytes, ...]) -> bool:
    is_listed = kinds.starts_with(content, starts) or kinds.is_avif(content)
    return is_listed or bool(kinds.webp_flags(content) & PILLOW_WEBP)


def _by_opencv(content: np.ndarray, name: str | Path, what: str, flags: int, tell: Tell) -> np.ndarray:
    decoded, damage = None, []
    if len(content) and not kinds.is_broken_off(content):
        with decoders_heard(name) as damage:
            try:
                decoded = cv2.imdecode(content, flags)
            except (cv2.error, MemoryError):
                decoded = None
    if decoded is None:
        raise _not_whole(content, name, what)
    if damage:
        tell(name, _damaged(damage))
    if kinds.is_animated_png(content):
        tell(name, SEVERAL_FRAMES)
    return decoded


def _by_pillow(
    content: np.ndarray, name: str | Path, what: str, pixels: Callable[["Image"], np.ndarray], tell: Tell
) -> np.ndarray:
    from PIL import Image, ImageOps

    Image.MAX_IMAGE_PIXELS = MOST_PIXELS // 2  # Pillow warns of more pixels than this, and refuses twice as many
    try:
        file = BytesIO(content.tobytes())
        with (
            decoders_heard(name) as damage,
            warnings.catch_warnings(action="ignore"),
            Image.open(file, formats=PILLOW_FORMATS) as image,
        ):
            deep = _bits(image) > 8
            ImageOps.exif_transpose(image, in_place=True)
            decoded = pixels(image)
            several = _has_several_frames(image)  # looked at last, because it leaves the first frame
    except Image.DecompressionBombError:
        raise InputError(f"{what} too large: {name}: expected at most {MOST_PIXELS:,} pixels; cut it up") from None
    except _NotEightBitsError:
        raise InputError(
            f"{what} not readable: {name}: fractions or 32 bits, of which nothing says which value is white; "
            "save it with 8 bits"
        ) from None
    except Exception:  # damage can make Pillow raise an exception of any type
        raise _not_whole(content, name, what) from None
    if damage:
        tell(name, _damaged(damage))
    if several:
        tell(name, SEVERAL_FRAMES)
    if deep and pixels is _rgb:
        tell_if_dark(decoded, name, tell)
    return decoded


def _not_whole(content: np.ndarray, name: str | Path, what: str) -> InputError:
    other, remedy = kinds.other_kind(content) or ("", "replace it")
    if kinds.starts_with(content, TIFF_STARTS):
        remedy = "replace it or, if viewers show it, save it with three channels of 8 bits"
    elif kinds.is_avif(content):
        remedy = "replace it or, if viewers show it, convert it or install Pillow 11.3 or later, which reads AVIF"
    return InputError(
        f"{what} not readable: {name}: {f'{other}, ' if other else ''}not a whole image file of a known kind "
        f"({len(content)} bytes); {remedy}"
    )


def _damaged(damage: list[str]) -> str:
    return f"damaged ({damage[0]}), and taken as far as it can be decoded; look at it, and replace it"


def _bits(image: "Image") -> int:
    """Returns how many bits each value has in the file."""
    return 16 if image.mode.startswith("I;16") else max(getattr(image, "tag_v2", {}).get(TIFF_BITS, (8,)))


def _has_several_frames(image: "Image") -> bool:
    """Whether there is a second frame or page that is no smaller copy of the first."""
    try:
        if not getattr(image, "is_animated", False):
            return False
        image.seek(1)
        return not getattr(image, "tag_v2", {}).get(TIFF_KIND, 0) & TIFF_IS_SMALLER
    except Exception:  # damage behind the first frame, which is whole
        return True


class _NotEightBitsError(Exception):
    """An image's values have no known white."""


def _rgb(image: "Image") -> np.ndarray:
    """Returns an image's colours, (H, W, 3) uint8; raises _NotEightBitsError if its pixels have 32 bits."""
    if image.mode.startswith("I;16"):
        upper = (np.array(image) >> 8).astype(np.uint8)  # (H, W)
        return cv2.cvtColor(upper, cv2.COLOR_GRAY2RGB)
    if image.mode in ("I", "F"):
        raise _NotEightBitsError
    return np.array(image.convert("RGB"))


def _stored(image: "Image") -> np.ndarray:
    """Returns (H, W) numbers as the file stores them, which are indices if it has a palette; (H, W, 3) if it is RGB."""
    if image.mode in ("LA", "PA"):
        return np.array(image.getchannel(0))
    if image.mode in ("1", "L", "P", "I", "F") or image.mode.startswith("I;16"):
        stored = np.array(image)
        return stored.astype(np.uint8) if stored.dtype == bool else stored
    # Pillow has dropped the lower 8 bits of 16. The type uint16 tells `decode_mask`, which refuses such a file.
    return np.array(image.convert("RGB")).astype(np.uint8 if _bits(image) <= 8 else np.uint16)


def _unstretched(mask: np.ndarray, bits: int) -> np.ndarray:
    """Restores the values of a grey PNG of 1, 2 or 4 bits, which OpenCV multiplies so that they fill 0 to 255."""
    return mask // (255 // (2**bits - 1)) if bits < 8 else mask
