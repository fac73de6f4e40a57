"""Finds the images to predict in files, folders, patterns and videos, and gives each prediction a name.

A name is a path without an ending, relative to the folder that predictions are written into. An image that was found
in a folder, or by a pattern, keeps the folders between there and itself; for a pattern, "there" is the part before its
first wildcard. A file that the user names directly keeps nothing but its own name.
"""

import glob
import os
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import cache
from itertools import takewhile
from pathlib import Path

import numpy as np

from furnace.data.entries import FILE
from furnace.data.header import image_size
from furnace.data.images import read_image
from furnace.errors import InputError
from furnace.prediction.videos import VIDEO, announced, frames

FILE_ENDINGS = (".png", ".npz")  # of predictions
FOLDERS = ("index", "color", "overlay", "probability", "disagreement")  # of predictions
MARKER = ".predictions"  # lies beside these folders and says that they hold nothing else
LARGE = 2**25  # pixels of images that are not read ahead, so that no two of them are in memory


@dataclass(frozen=True)
class Picture:
    """One image to label, or one frame of a video."""

    path: Path
    name: Path  # of its prediction
    height: int
    width: int
    pixels: np.ndarray | None  # None of an image that is so large that it is decoded when there is room for it

    def read(self) -> np.ndarray:
        """Returns the pixels, (H, W, 3) uint8 RGB; raises InputError if the file cannot be read."""
        return read_image(self.path) if self.pixels is None else self.pixels


@dataclass(frozen=True)
class Source:
    """One file to predict, an image or a video."""

    path: Path
    below: Path  # relative to the folder that was named, or its name alone
    fault: InputError | None = None  # why there is nothing to be labelled
    with_ending: bool = False  # whether its prediction's name keeps the ending

    @property
    def name(self) -> Path:
        """The name of its prediction; for a video, the folder that the predictions of its frames go into."""
        return prediction_name(self.below, self.with_ending)

    @property
    def is_video(self) -> bool:
        """Whether the file's ending is that of a video."""
        return VIDEO.fullmatch(self.path.name) is not None

    def count(self) -> int:
        """Returns the number of images in the file: 1 for an image, otherwise how many frames the video announces.

        A video that announces nothing, or cannot be opened, counts as 0.
        """
        return announced(self.path) if self.is_video else 1

    def pictures(self) -> Iterator[Picture]:
        """Yields every image in the file.

        Raises:
            InputError: the file is damaged. The frames of a video that come before the damage are yielded first.
        """
        if self.fault:
            raise self.fault
        if self.is_video:
            for number, pixels in enumerate(frames(self.path), 1):
                yield self._picture(prediction_name(self.below, self.with_ending, number), pixels)
            return
        size = image_size(self.path)
        if size and size[0] * size[1] > LARGE:
            yield Picture(self.path, self.name, *size, pixels=None)
        else:
            yield self._picture(self.name, read_image(self.path))

    def _picture(self, name: Path, pixels: np.ndarray) -> Picture:
        height, width = pixels.shape[:2]
        return Picture(self.path, name, height, width, pixels)


def prediction_name(below: Path, with_ending: bool = False, frame: int = 0) -> Path:
    """Returns the name of a prediction: the one rule for whatever is labelled.

    Args:
        below: the file, relative to the folder that is named; of a file that is named itself, its name alone.
        with_ending: whether the name keeps the file's ending, to be another one than that of `below`'s neighbour.
        frame: which frame of a video it is, from 1 on; 0 for an image, and for the folder that all frames go into.
    """
    name = below if with_ending else below.with_name(below.stem)
    return name / f"frame_{frame:06d}" if frame else name


def find_sources(texts: Sequence[str], barred: Sequence[Path] = ()) -> tuple[list[Source], str]:
    """Finds every image that the texts name, each once, in the order of the texts.

    A folder gives the files in and below it that end as images do, but no videos. Where two predictions would have the
    same name, both keep their images' endings: `a.jpg` and `a.png`.

    Args:
        texts: files, folders, and patterns with wildcards.
        barred: folders; what a folder or a pattern finds below them is ignored, as are hidden files and folders.

    Returns:
        The images, and in words how many files were left out for their endings; empty if none were.

    Raises:
        InputError: a text names nothing, or two predictions would have the same name even with their endings.
    """
    sources: dict[Path, Source] = {}
    barred = [real(folder) for folder in barred]
    left_out = Counter[str]()
    for text in texts:
        others = Counter[str]()
        try:
            found = _found(text, barred, others)
        except OSError as error:
            raise InputError(f"no image: {text}: {error.strerror}; check the path") from None
        if not found:
            raise InputError(
                f"no image: {text}: expected a file, a folder with images, a pattern in quotes or a video "
                f"(folders of predictions are left out){', found ' + _counted(others) if others else ''}; "
                "check the path (settings are NAME=VALUE)"
            )
        for source in found:
            sources.setdefault(source.path, source)
        left_out += others
    return _with_names_of_their_own(list(sources.values())), _counted(left_out)


def _counted(others: Counter[str]) -> str:
    return ", ".join(f"{count} {kind}" for kind, count in others.most_common())


def _found(text: str, barred: Sequence[Path], others: Counter[str]) -> list[Source]:
    """Returns what a text names, and counts in `others` what it would name if its ending were another one."""
    path = _absolute(text)
    if path.is_dir():
        return _in_folder(path, barred, others)
    if path.exists():
        return [Source(path, Path(path.name))]
    if not glob.has_magic(text):
        return []
    pattern = Path(text).expanduser()
    fixed = _absolute(Path(*takewhile(lambda part: not glob.has_magic(part), pattern.parts)))
    # A pattern that ends in `**` finds files here; with Path.glob it would find folders alone.
    matches = map(_absolute, glob.iglob(str(pattern), recursive=True))  # noqa: PTH207
    files = _below(fixed, (file for file in matches if not file.is_dir()), barred, others)
    return _wanted(files, lambda file: bool(FILE.fullmatch(file.name) or VIDEO.fullmatch(file.name)), others)


def _in_folder(root: Path, barred: Sequence[Path], others: Counter[str]) -> list[Source]:
    """Returns the images in and below a folder, and one source with a fault for each folder that cannot be read."""
    files, closed = [], list[OSError]()
    for folder, folders, names in os.walk(root, onerror=closed.append):
        files += [Path(folder, name) for name in names]
        if links := sum(Path(folder, name).is_symlink() for name in folders):
            others["linked folders"] += links
    found = _wanted(_below(root, files, barred, others), lambda file: FILE.fullmatch(file.name) is not None, others)
    for error in closed:
        fault = f"folder not readable: {error.filename}: {error.strerror}; open it, or name the files apart"
        found.append(Source(Path(error.filename), Path(error.filename).relative_to(root) / "-", InputError(fault)))
    return found


def _below(root: Path, files: Iterable[Path], barred: Sequence[Path], others: Counter[str]) -> list[Source]:
    """Returns the files, sorted by their paths, without those hidden or barred, and without earlier predictions."""
    sources = []
    is_marked = cache(lambda folder: (folder / MARKER).is_file())
    for file in sorted(files):
        below = file.relative_to(root)
        if any(part.startswith(".") for part in below.parts):
            if FILE.fullmatch(file.name) and not file.name.startswith("._"):  # which systems leave behind
                others["hidden"] += 1
        elif any(real(file).is_relative_to(folder) for folder in barred):
            continue
        elif any(is_marked(root / place.parent) for place in below.parents if place.name in FOLDERS):
            others["earlier predictions"] += 1
        else:
            sources.append(Source(file, below))
    return sources


def _wanted(sources: Sequence[Source], is_wanted: Callable[[Path], bool], others: Counter[str]) -> list[Source]:
    """Returns the files that are wanted for their names, and counts the others by their endings."""
    found = []
    for source in sources:
        is_regular = source.path.is_file() or source.path.is_symlink()  # a link that leads nowhere is said later
        if is_regular and is_wanted(source.path):
            found.append(source)
        else:
            others[(source.path.suffix or "without an ending") if is_regular else "no regular files"] += 1
    return found


def _absolute(path: str | Path) -> Path:
    """Returns the path without `..`, but does not follow links, because people know files by the links' names."""
    return Path(os.path.abspath(path))  # noqa: PTH100  Path.absolute keeps `..`


def real(path: Path) -> Path:
    """Returns where the path leads; of links that lead in a circle, one of them."""
    return Path(os.path.realpath(path))  # Path.resolve raises for those before Python 3.13


def _with_names_of_their_own(sources: Sequence[Source]) -> list[Source]:
    """Lets images and videos whose names collide keep their endings; InputError if that does not part them.

    A file also collides with a folder of other predictions: `x.jpg` and the folder `x.png` would both be `x.png`.
    """
    counts, folders = Counter(source.name for source in sources), _Folders(sources)
    named: dict[Path, Source] = {}
    for source in sources:
        if counts[source.name] > 1 or folders.collide(source):
            source = replace(source, with_ending=True)
        other = named.setdefault(source.name, source)
        if other is not source:
            raise _one_name(source, str(other.path))
    folders = _Folders(list(named.values()))
    for source in named.values():
        if folders.collide(source):
            raise _one_name(source, "a folder of others")
    return list(named.values())


def _one_name(source: Source, other: str) -> InputError:
    return InputError(
        f"two predictions of one name: {other} and {source.path} would both be {source.name}.png; "
        "name a folder above both of them, or predict them apart"
    )


class _Folders:
    """The folders that predictions go into."""

    def __init__(self, sources: Sequence[Source]) -> None:
        self.above = {parent for source in sources for parent in source.name.parents}
        self.of_videos = {source.name for source in sources if source.is_video}

    def collide(self, source: Source) -> bool:
        """Whether what is written for this source would have the name of one of them."""
        if source.is_video:
            return source.name in self.above
        files = [source.name.with_name(source.name.name + ending) for ending in FILE_ENDINGS]
        return any(file in self.above or file in self.of_videos for file in files)
