"""Pictures that train and validate, whatever their files are called and however they are packed.

Comparing all pixels of all images would take as long as decoding them. Therefore a few pixels of each image are
compared first, and all pixels only of images whose few pixels are equal.
"""

import hashlib
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np

from furnace.data.images import read_image
from furnace.data.remarks import say_nothing
from furnace.prepare.parallel import map_numbers

STEP = 13  # pixels; a multiple of 8 would take the same place of every JPEG block, where pictures resemble each other


def fingerprint(image: np.ndarray) -> bytes:
    """Returns a digest of every 13th pixel each way of an image (H, W, 3): equal for equal images, seldom for others.

    The size of the image goes into it too.
    """
    few = image[STEP // 2 :: STEP, STEP // 2 :: STEP]
    return hashlib.blake2b(few.tobytes() + _size(image), digest_size=16).digest()


def same_pictures(
    images: Sequence[str], fingerprints: Sequence[bytes | None], validating: set[int], processes: int
) -> Iterator[tuple[str, str]]:
    """Yields every image that does not validate but has the same pixels as one that does, and the first such other.

    Args:
        images: paths of images.
        fingerprints: the `fingerprint` of each of them, None where an image cannot be read.
        validating: the numbers of those images that validate.
        processes: how many processes read the images whose fingerprints are equal.
    """
    in_val = {fingerprints[number] for number in validating} - {None}
    in_both = in_val & {found for number, found in enumerate(fingerprints) if number not in validating}
    suspects = [number for number, found in enumerate(fingerprints) if found in in_both]

    def digest(place: int) -> bytes:
        image = read_image(Path(images[suspects[place]]), say_nothing)  # what is odd about it is said already
        return hashlib.sha256(image.data).digest() + _size(image)

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
