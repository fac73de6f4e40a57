"""An image's size, from its file's header alone."""

import warnings
from pathlib import Path
from typing import BinaryIO


def image_size(file: Path | BinaryIO) -> tuple[int, int] | None:
    """Returns an image's height and width as they are stored, without decoding it; None if its file does not tell."""
    from PIL import Image  # here, because most commands do without it

    limit, Image.MAX_IMAGE_PIXELS = Image.MAX_IMAGE_PIXELS, None  # a header may claim any size
    try:
        with warnings.catch_warnings(action="ignore"), Image.open(file) as image:
            return image.height, image.width
    except Exception:  # damage can make Pillow raise an exception of any type
        return None
    finally:
        Image.MAX_IMAGE_PIXELS = limit
