"""Places one image and its mask in the folder that is being made: linked, copied, or decoded once and for all."""

import os
from io import BytesIO
from pathlib import Path

import cv2
import numpy as np

from furnace.data import netpbm
from furnace.data.decoding import decode_image
from furnace.data.images import histogram, read_label
from furnace.data.kinds import UPRIGHT
from furnace.data.prepared import COPY, DECODED
from furnace.engine.files import temporary_name, writing
from furnace.errors import InputError
from furnace.labels import IGNORE
from furnace.prepare.plan import Pair, Plan
from furnace.prepare.seen import Placed, Size, misfit, size_of
from furnace.prepare.sources import File

SECOND = 10**9  # in ns


def place(pair: Pair, folder: Path, plan: Plan, files: str) -> Placed:
    """Places an image and writes the class indices of its mask, each unless an earlier try did of the same file.

    Args:
        folder: what the paths of `pair` lie below.
        plan: turns masks into class indices.
        files: one of `data.prepared.FILES`; decoded images are PPM, and masks beside them PGM.

    Returns:
        What was seen of the two. A mask that is none, or does not lie on its image, is not written.

    Raises:
        InputError: the image cannot be decoded, a file cannot be read, or nothing can be written.
    """
    image = folder / pair.image_to
    if files != DECODED:
        _link_or_copy(pair, image, files)
        return Placed() if pair.mask is None else _place_mask(pair, folder, plan, size_of(image))
    if is_there(image, pair.image) and (pair.mask is None or is_there(folder / pair.mask_to, pair.mask)):
        # An earlier try has looked at the original, which may lie on a slow disk.
        return Placed() if pair.mask is None else Placed(counts=_counts(folder / pair.mask_to))
    changed, content = pair.image.changed(), pair.image.read()
    pixels = decode_image(np.frombuffer(content, dtype=np.uint8), str(pair.image))
    if not is_there(image, pair.image):
        _write(image, netpbm.file_bytes(pixels), changed)
    if pair.mask is None:
        return Placed()
    height, width = pixels.shape[:2]
    return _place_mask(pair, folder, plan, size_of(BytesIO(content), (height, width)))


def is_there(path: Path, file: File) -> bool:
    """Returns whether an earlier try made `path` of the file as it is now; a power cut can leave an empty one."""
    return path.is_file() and path.stat().st_size > 0 and carries(path, file.changed())


def carries(path: Path, changed: int) -> bool:
    """Returns whether what was made at `path` carries the time of its source; some file systems keep whole seconds."""
    return path.stat().st_mtime_ns in (changed, changed - changed % SECOND)


def _link_or_copy(pair: Pair, image: Path, files: str) -> None:
    source = pair.image.path()
    if files == COPY or source is None:
        if not is_there(image, pair.image):
            changed = pair.image.changed()
            _write(image, pair.image.read(), changed)
    elif not image.is_symlink() or image.readlink() != source.resolve():
        with writing(image):
            image.unlink(missing_ok=True)
            image.symlink_to(source.resolve())


def _place_mask(pair: Pair, folder: Path, plan: Plan, size: Size | None) -> Placed:
    """Writes the class indices of a mask, unless they are there, or it does not lie on an image of this size."""
    assert pair.mask is not None
    image, mask = folder / pair.image_to, folder / pair.mask_to
    turned = size.orientation if size else UPRIGHT
    if was_there := is_there(mask, pair.mask):
        indices = read_label(mask, IGNORE)  # (H, W)
    else:
        changed, content = pair.mask.changed(), pair.mask.read()
        try:
            indices = plan.indices(content, str(pair.mask))  # (H, W)
        except InputError as error:
            return Placed(fault=str(error))
    if size and (reason := misfit(Path(str(pair.image)), size, str(pair.mask), indices.shape)):
        image.unlink()  # so that both are looked at when the command is given again
        return Placed(reason)
    if not was_there:
        is_plain = mask.suffix == netpbm.ENDINGS[1]
        _write(mask, netpbm.file_bytes(indices) if is_plain else cv2.imencode(".png", indices)[1].tobytes(), changed)
    return Placed(None, turned, histogram(indices), size is not None)


def _counts(mask: Path) -> np.ndarray:
    """Counts the class indices of a mask that an earlier try wrote; returns (256,) int64."""
    return histogram(read_label(mask, IGNORE))


def _write(path: Path, content: bytes, changed: int) -> None:
    """Writes a file whole or not at all, with the time `changed` of its source.

    Unlike `engine.files`, it does not force each file to disk, which would take longer than making all of them.
    """
    # A try that goes on writes over what a killed one left: the name is the same.
    temporary = path.with_name(temporary_name(path.name, owner="new"))
    with writing(path):
        temporary.write_bytes(content)
        os.utime(temporary, ns=(changed, changed))
        os.replace(temporary, path)
