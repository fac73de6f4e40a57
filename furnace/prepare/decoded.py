"""Images that are stored decoded (`--files decoded`): what their files are called, and the room that they take."""

import shutil
from collections.abc import Sequence
from dataclasses import replace
from io import BytesIO
from pathlib import Path, PurePosixPath

from furnace.data import netpbm
from furnace.data.header import image_size
from furnace.engine.files import writing
from furnace.errors import InputError, say_note
from furnace.prepare.parallel import Progress, map_numbers
from furnace.prepare.placing import is_there
from furnace.prepare.plan import Pair, Plan
from furnace.prepare.sources import File

HEAD = 2**16  # bytes in which most files tell their size
HEADER, BLOCK = 20, 4096  # bytes: at most, of a decoded file's header; a file takes whole blocks of the disk


def with_decoded_names(plan: Plan) -> Plan:
    """Returns the plan with the endings of decoded files: images become PPM, masks PGM."""

    def named(path: str, ending: str) -> str:
        return str(PurePosixPath(path).with_suffix(ending)) if path else ""

    def renamed(pairs: Sequence[Pair]) -> list[Pair]:
        image_ending, mask_ending = netpbm.ENDINGS
        return [
            pair._replace(image_to=named(pair.image_to, image_ending), mask_to=named(pair.mask_to, mask_ending))
            for pair in pairs
        ]

    return replace(plan, train=renamed(plan.train), val=renamed(plan.val), extra=renamed(plan.extra))


def require_room(pairs: Sequence[Pair], folder: Path, processes: int, progress: Progress) -> None:
    """Says how much room decoded files take beside what is free; what an earlier try wrote does not count.

    Args:
        pairs: images and masks, with the names of decoded files.
        folder: what they are written below; it is there.
        processes: how many of them read the images' headers.
        progress: shows how many headers are read.

    Raises:
        InputError: there is less room than they take.
    """
    wanted = [pair for pair in pairs if not is_there(folder / pair.image_to, pair.image)]

    def needed(number: int) -> int:
        height, width = _size(wanted[number].image) or (0, 0)  # one that tells none cannot be decoded, which is said
        pixels = height * width
        return _on_disk(3 * pixels) + (_on_disk(pixels) if wanted[number].mask else 0)

    takes = sum(progress(map_numbers(needed, len(wanted), processes), total=len(wanted)))
    with writing(folder):
        free = shutil.disk_usage(folder).free
    say_note(f"decoded images take {_said(takes)}, {_said(free)} are free")
    if takes > free:
        raise InputError(
            f"not enough room for {folder}: decoded images take {_said(takes)}, {_said(free)} are free; free space, "
            "choose another disk, or leave out --files decoded"
        )


def _size(file: File) -> tuple[int, int] | None:
    path = file.path()
    return image_size(path) if path else image_size(BytesIO(file.read(HEAD))) or image_size(BytesIO(file.read()))


def _on_disk(content: int) -> int:
    return -(-(HEADER + content) // BLOCK) * BLOCK


def _said(size: int) -> str:
    unit, name = next(((unit, name) for unit, name in ((10**9, "GB"), (10**6, "MB")) if size >= unit), (1000, "kB"))
    return f"{size / unit:.1f} {name}"
