"""What is seen of images and masks while they are placed: whether they fit each other, and which classes they show."""

import warnings
from io import BytesIO
from pathlib import Path
from typing import NamedTuple

import numpy as np
from PIL import Image

from furnace.data.images import read_image
from furnace.data.kinds import EXIF_ORIENTATION, UPRIGHT
from furnace.errors import InputError
from furnace.prepare.plan import NAMED, Pair, Plan

MANY = 100  # masks that are none: the fault is that of all, and nobody waits until a million are read


class Size(NamedTuple):
    """The size of an image as the program takes it, and as it is stored.

    Attributes:
        shown: height and width after turning, as viewers show the image.
        stored: the same before.
        orientation: EXIF's, 1 where nothing is turned.
    """

    shown: tuple[int, int]
    stored: tuple[int, int]
    orientation: int


class Placed(NamedTuple):
    """What was seen of an image and its mask.

    Attributes:
        misfit: why the mask does not lie on the image, None if it does.
        fault: why the mask is none, None if it is one.
        turned: the EXIF orientation of a photograph that is turned, 1 if it is not.
        counts: how many pixels of the mask have each value, int64 (256,); None without a mask.
        is_open: whether the image's header could be read.
    """

    misfit: str | None = None
    turned: int = UPRIGHT
    counts: np.ndarray | None = None
    is_open: bool = True
    fault: str | None = None


class Seen:
    """What all images and masks together show."""

    def __init__(self, plan: Plan) -> None:
        self.plan = plan
        self.faults: list[str] = []
        self.misfits: list[str] = []
        self.turned: list[str] = []
        self.closed: list[str] = []
        self.counts = np.zeros(256, dtype=np.int64)

    def add(self, pair: Pair, placed: Placed) -> None:
        """Takes one image and its mask in; raises InputError where so many masks are none that others will be, too."""
        if placed.fault:
            self.faults.append(placed.fault)
            if len(self.faults) == MANY:
                self.require_fit()
        if placed.misfit:
            self.misfits.append(placed.misfit)
        if placed.turned != UPRIGHT:
            self.turned.append(str(pair.image))
        if not placed.is_open:
            self.closed.append(str(pair.image))
        if placed.counts is not None:
            self.counts += placed.counts

    def require_fit(self) -> None:
        """Raises InputError if a mask is none, or does not lie on its image; it names the first and counts all."""
        if len(self.faults) == 1:
            raise InputError(self.faults[0])
        if self.faults:
            count = f"{len(self.faults)}{' or more' * (len(self.faults) == MANY)}"
            raise InputError(f"masks cannot be taken: {count}, the first: {self.faults[0]}")
        if self.misfits:
            raise InputError(f"masks do not fit their images: {len(self.misfits)}, the first: {self.misfits[0]}")

    def warnings(self) -> list[str]:
        """Returns a line for images that cannot be read, for photographs that are turned, for classes not shown."""
        warnings = []
        if self.closed:
            warnings.append(
                f"{len(self.closed):,} images with masks cannot be read, such as {self.closed[0]}: lists name them, "
                "replace them"
            )
        if self.turned:
            warnings.append(
                f"{len(self.turned):,} photographs with masks carry an EXIF orientation, such as {self.turned[0]}: "
                "they are turned as viewers show them; masks that were drawn on pixels as stored do not lie on them"
            )
        names = self.plan.dataset.classes
        if absent := [name for name, count in zip(names, self.counts.tolist(), strict=False) if not count]:
            warnings.append(f"no mask shows {', '.join(absent[:NAMED])}{', ...' if len(absent) > NAMED else ''}")
            if absent[-1] == names[-1]:
                warnings[-1] += "; the last class is among them: do the names begin with the value 0?"
        return warnings


def size_of(file: Path | BytesIO, shown: tuple[int, int] | None = None) -> Size | None:
    """Returns the size that an image's header tells; None if it tells none, which decoding will say.

    Args:
        file: the image's file, or its bytes.
        shown: height and width of the decoded image. Without them, a file whose image is to be turned is decoded.

    Raises:
        InputError: the image is to be turned, and cannot be decoded.
    """
    try:
        with warnings.catch_warnings(action="ignore"), Image.open(file) as image:
            stored = (image.height, image.width)
            # In a PNG, Pillow would search behind all pixels for the tag.
            has_tag = image.format != "PNG" or "exif" in image.info
            orientation = int(image.getexif().get(EXIF_ORIENTATION, UPRIGHT)) if has_tag else UPRIGHT
    except Exception:  # damage can make Pillow raise an exception of any type
        return None
    if orientation in range(2, 9):
        if shown is None:
            assert isinstance(file, Path)
            height, width = read_image(file).shape[:2]
            shown = (height, width)
        return Size(shown, stored, orientation)
    return Size(stored, stored, UPRIGHT)


def misfit(image: Path, size: Size, mask: str, mask_size: tuple[int, int]) -> str | None:
    """Returns why a mask does not lie on its image, with the remedy; None if it does."""
    if size.shown == mask_size:
        return None
    facts = f"{image} is {_by(size.shown)}, its mask {mask} is {_by(mask_size)} (height x width)"
    if size.stored == mask_size:
        return (
            f"{facts}: the photograph is turned as its EXIF orientation {size.orientation} says, as viewers show it; "
            "turn the mask, too, or take the tag out of the photograph"
        )
    return f"{facts}; save the mask in the size of its image, or mend --images and --masks"


def _by(size: tuple[int, int]) -> str:
    return f"{size[0]} x {size[1]}"
