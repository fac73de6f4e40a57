"""Netpbm files: PBM, PGM and PPM, whose pixels stand in the file as they are, so that nothing must be decoded.

A header says the kind, P1 to P6, then width, height and, of all but bitmaps, the largest value. Whitespace and comments
part them, and one whitespace byte stands before the pixels (https://netpbm.sourceforge.net/doc/ppm.html). P1, P2 and P3
hold bits, grey values and colours as decimal numbers; P4, P5 and P6 hold the same as bytes, and where the largest value
is above 255, two bytes make a value, the upper one first.

`prepare --files decoded` stores images as P6 and masks as P5. H and W are an image's size in pixels.
"""

import math
import re
from pathlib import Path
from typing import NamedTuple

import cv2
import numpy as np

from furnace.data.remarks import SEVERAL_FRAMES, Tell, tell_if_dark
from furnace.errors import InputError

START = re.compile(rb"P[1-6][ \t\n\v\f\r#]")
_GAP = rb"(?:[ \t\n\v\f\r]|#[^\r\n]*[\r\n])"  # a comment ends with its line, and counts as one whitespace byte
_NUMBER = rb"([0-9]{1,19})"
_SIZE = _GAP + rb"+" + _NUMBER + _GAP + rb"+" + _NUMBER
HEADERS = (re.compile(rb"P([14])" + _SIZE + _GAP), re.compile(rb"P([2356])" + _SIZE + _GAP + rb"+" + _NUMBER + _GAP))
COMMENT = re.compile(rb"#[^\r\n]*")
PLAIN, BITMAPS, COLOURED = (1, 2, 3), (1, 4), (3, 6)  # kinds: of decimal numbers, of one bit, of three channels
ENDINGS = ".ppm", ".pgm"  # of decoded images, and of decoded masks
WHITE, DEEP_WHITE = 255, 65535  # the largest values of 8 and of 16 bits
MOST_DIGITS = 18  # of a pixel's value


class Header(NamedTuple):
    """What a file says of its pixels.

    Attributes:
        kind: the digit behind the P.
        largest: the value that stands for white.
        end: where the pixels begin, in bytes.
    """

    kind: int
    width: int
    height: int
    largest: int
    end: int

    @property
    def shape(self) -> tuple[int, ...]:
        """The shape of the pixels, (H, W) or (H, W, 3)."""
        return (self.height, self.width, 3) if self.kind in COLOURED else (self.height, self.width)


def is_netpbm(content: np.ndarray) -> bool:
    """Whether a file's bytes (uint8) begin as those of a PBM, PGM or PPM do."""
    return START.match(content[:3].tobytes()) is not None


def stored_pixels(content: np.ndarray, name: str | Path, what: str, tell: Tell) -> np.ndarray:
    """Returns the whole numbers of a file as they stand in it; in a bitmap, 1 is black.

    Args:
        content: the file's bytes, uint8.
        name: how an error calls the file.
        what: what an error calls its content, `image` or `label`.
        tell: takes what is odd about a file that can be read.

    Returns:
        (H, W) or (H, W, 3), uint8 or uint16. If the file has one byte for each value, they are a view of `content`.

    Raises:
        InputError: the header is not understood, or says more than the file holds, or less than a value is.
    """
    return _pixels(_header(content, name, what), content, name, what, tell)


def image_pixels(content: np.ndarray, name: str | Path, tell: Tell) -> np.ndarray:
    """Returns the colours of a file, (H, W, 3) uint8 RGB; arguments and errors are those of `stored_pixels`.

    Values are scaled so that the largest one that the header allows becomes 255. If it is 65535, values lose their
    lower 8 bits, as in other kinds of files.
    """
    header = _header(content, name, "image")
    pixels = _pixels(header, content, name, "image", tell)
    if header.kind in BITMAPS:
        pixels = (1 - pixels) * np.uint8(WHITE)
    elif header.largest == DEEP_WHITE:
        pixels = (pixels >> 8).astype(np.uint8)
        tell_if_dark(pixels, name, tell)
    elif header.largest != WHITE:
        pixels = ((pixels.astype(np.uint32) * WHITE + header.largest // 2) // header.largest).astype(np.uint8)
    return pixels if pixels.ndim == 3 else cv2.cvtColor(pixels, cv2.COLOR_GRAY2RGB)


def file_bytes(pixels: np.ndarray) -> bytes:
    """Returns a file of pixels: P6 of an image (H, W, 3), P5 of a label map (H, W), both uint8."""
    kind, (height, width) = "P6" if pixels.ndim == 3 else "P5", pixels.shape[:2]
    return f"{kind}\n{width} {height}\n{WHITE}\n".encode() + pixels.tobytes()


def _header(content: np.ndarray, name: str | Path, what: str) -> Header:
    file = content.data
    if found := HEADERS[0].match(file) or HEADERS[1].match(file):
        kind, width, height, *largest = map(int, found.groups())
        header = Header(kind, width, height, largest[0] if largest else 1, found.end())
        if width and height and 1 <= header.largest <= DEEP_WHITE:
            return header
    raise _not_readable(
        name,
        what,
        "expected the header of a PBM, PGM or PPM (P1 to P6, width, height, largest value), "
        f"found {content[:24].tobytes()!r}",
    )


def _pixels(header: Header, content: np.ndarray, name: str | Path, what: str, tell: Tell) -> np.ndarray:
    body = content[header.end :]
    if header.kind in PLAIN:
        pixels = _from_numbers(header, body, name, what)
    else:
        pixels = _from_bytes(header, body, name, what, tell)
    can_be_above = header.kind in PLAIN or header.largest not in (WHITE, DEEP_WHITE)
    if can_be_above and (highest := int(pixels.max())) > header.largest:
        raise _not_readable(name, what, f"expected values up to {header.largest}, as its header says, found {highest}")
    return pixels.astype(np.uint8 if header.largest <= WHITE else np.uint16, copy=False).reshape(header.shape)


def _from_numbers(header: Header, body: np.ndarray, name: str | Path, what: str) -> np.ndarray:
    text, count = COMMENT.sub(b"", body.tobytes()), math.prod(header.shape)
    words = text.split()
    if header.kind in BITMAPS:  # whose digits need no space between them
        words = [bytes((digit,)) for digit in b"".join(words)]
    _require_whole(header, len(words), count, "numbers", name, what)
    words = words[:count]
    if not all(word.isdigit() and len(word) <= MOST_DIGITS for word in words):
        raise _not_readable(name, what, "expected decimal numbers as pixels, found something else")
    return np.array(words).astype(np.int64)


def _from_bytes(header: Header, body: np.ndarray, name: str | Path, what: str, tell: Tell) -> np.ndarray:
    row = -(-header.width // 8)  # bytes of a bitmap's row
    depth = 1 if header.largest <= WHITE else 2
    size = header.height * row if header.kind in BITMAPS else depth * math.prod(header.shape)
    _require_whole(header, len(body), size, "bytes", name, what)
    if is_netpbm(body[size:]):
        tell(name, SEVERAL_FRAMES)
    elif len(body) > size:
        tell(name, f"has more behind its pixels than its header says ({len(body) - size:,} bytes): look at it")
    if header.kind in BITMAPS:
        return np.unpackbits(body[:size].reshape(header.height, row), axis=1)[:, : header.width]
    return body[:size].view(">u2") if depth == 2 else body[:size]


def _require_whole(header: Header, found: int, expected: int, unit: str, name: str | Path, what: str) -> None:
    if found < expected:
        raise _not_readable(
            name,
            what,
            f"cut off: expected {expected:,} {unit} of {header.height} x {header.width} pixels (height x width), "
            f"as its header says, found {found:,}",
        )


def _not_readable(name: str | Path, what: str, reason: str) -> InputError:
    return InputError(f"{what} not readable: {name}: {reason}; replace it")
