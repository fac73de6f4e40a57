"""Pictures that train and validate, whatever their files are called and however they are packed.

Comparing all pixels of all images would take as long as decoding them. So few pixels of each are compared first, and
all of them only where these agree.
"""

import hashlib
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np

from furnace.data.images import read_image
from furnace.prepare.parallel import map_numbers

STEP = 13  # not a multiple of 8: JPEG's blocks would give similar pixels of each


def fingerprint(image: np.ndarray) -> bytes:
    """Of an image (H, W, 3): equal for equal images, and seldom for others."""
    few = image[STEP // 2 :: STEP, STEP // 2 :: STEP]
    return hashlib.blake2b(few.tobytes() + _size(image), digest_size=16).digest()


def same_pictures(
    images: Sequence[str], fingerprints: Sequence[bytes | None], validating: set[int], processes: int
) -> Iterator[tuple[str, str]]:
    """An image that does not validate and the first of those that do with its pixels, for every one that has such.

    Args:
        fingerprints: of `images`, None where one cannot be read.
        validating: numbers of images.
    """
    in_val = {fingerprints[number] for number in validating} - {None}
    in_both = in_val & {found for number, found in enumerate(fingerprints) if number not in validating}
    suspects = [number for number, found in enumerate(fingerprints) if found in in_both]

    def digest(place: int) -> bytes:
        image = read_image(Path(images[suspects[place]]))
        return hashlib.sha256(image).digest() + _size(image)

    digests = dict(zip(suspects, map_numbers(digest, len(suspects), processes), strict=True))
    first_of: dict[bytes, str] = {}
    for number, found in digests.items():
        if number in validating:
            first_of.setdefault(found, images[number])
    for number, found in digests.items():
        if number not in validating and found in first_of:
            yield images[number], first_of[found]


def _size(image: np.ndarray) -> bytes:
    return bytes(str(image.shape), "ascii")
