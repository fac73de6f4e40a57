"""Images as data: addresses, so that the page holds everything it shows."""

import base64
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from furnace.data.decoding import decode_image
from furnace.errors import InputError

# The endings of pictures that the page shows, and their media types.
KINDS = {".png": "image/png", ".jpg": "image/jpeg"}


@dataclass(frozen=True)
class Picture:
    """An image within the page."""

    source: str  # the address, which begins with data: and holds the whole image
    text: str  # says what the image shows, for readers who do not see it
    width: int | None = None  # pixels; None for an SVG, which knows its own size
    height: int | None = None  # likewise


def svg_picture(svg: str | None, text: str) -> Picture | None:
    """Makes a picture of a chart; None if there is no chart.

    The page shows it as an image of its own, so that nothing in the SVG can act on the page.
    """
    return None if svg is None else Picture(_address("image/svg+xml", svg.encode("utf-8", "replace")), text)


def file_picture(path: Path, text: str) -> Picture | None:
    """Makes a picture of a PNG or JPEG file; None if it is missing or damaged, or if its ending is another one."""
    try:
        content = path.read_bytes()
    except (OSError, ValueError):  # ValueError if no file can have such a name
        content = b""
    try:
        height, width = decode_image(np.frombuffer(content, np.uint8), path).shape[:2]
    except InputError:
        return None
    if path.suffix not in KINDS:
        return None
    return Picture(_address(KINDS[path.suffix], content), text, width, height)


def _address(kind: str, content: bytes) -> str:
    return f"data:{kind};base64,{base64.b64encode(content).decode()}"
