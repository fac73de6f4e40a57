"""Finds the images to predict in files, folders, patterns and videos, and gives each prediction a name.

A name is a path without an ending, relative to the folder that predictions are written into. An image that was found
in a folder, or by a pattern, keeps the folders between there and itself; for a pattern, "there" is the part before its
first wildcard. A file that the user names directly keeps nothing but its own name.
"""

import glob
import os
import re
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import takewhile
from pathlib import Path

import cv2
import numpy as np

from furnace.data.entries import FILE
from furnace.data.images import read_image
from furnace.errors import InputError

VIDEO = re.compile(r".*\.(?:mp4|avi|mov|mkv|webm)", re.IGNORECASE | re.DOTALL)
SHARE_OF_FRAMES = 0.9  # A video with fewer of its announced frames is damaged; some files announce a rough number.

# FFmpeg prints nothing by itself: Source.images says once what is wrong with a video.
os.environ.setdefault("OPENCV_FFMPEG_LOGLEVEL", "-8")


@dataclass(frozen=True)
class Source:
    """One file to predict, an image or a video."""

    path: Path
    name: Path  # the name of its prediction; for a video, the folder that the predictions of its frames go into

    @property
    def is_video(self) -> bool:
        """Whether the file's ending is that of a video."""
        return VIDEO.fullmatch(self.path.name) is not None

    def count(self) -> int:
        """Returns the number of images in the file: 1 for an image, otherwise how many frames the video announces.

        A video that announces nothing, or cannot be opened, counts as 0.
        """
        if not self.is_video:
            return 1
        video = cv2.VideoCapture(str(self.path))
        frames = max(0, int(video.get(cv2.CAP_PROP_FRAME_COUNT)))
        video.release()
        return frames

    def images(self) -> Iterator[tuple[Path, np.ndarray]]:
        """Yields the name of every image in the file, and its pixels (H, W, 3) uint8 RGB.

        Raises:
            InputError: the file is damaged. The frames of a video that come before the damage are yielded first.
        """
        if not self.is_video:
            yield self.name, read_image(self.path)
            return
        video, number = cv2.VideoCapture(str(self.path)), 0
        try:
            while (frame := video.read())[0]:
                number += 1
                yield self.name / f"frame_{number:06d}", cv2.cvtColor(frame[1], cv2.COLOR_BGR2RGB)
            announced = int(video.get(cv2.CAP_PROP_FRAME_COUNT))
        finally:
            video.release()
        if number < max(1, SHARE_OF_FRAMES * announced):
            raise InputError(
                f"video not readable: {self.path}: expected {announced if announced > 0 else 'some'} frames, "
                f"found {number}; replace it"
            )


def find_sources(texts: Sequence[str], left_out: Sequence[Path] = ()) -> list[Source]:
    """Finds every image that the texts name, each once, in the order of the texts.

    A folder gives the files in and below it that end as images do, but no videos. Where two predictions would have the
    same name, both keep their images' endings: `a.jpg` and `a.png`.

    Args:
        texts: files, folders, and patterns with wildcards.
        left_out: folders; what a folder or a pattern finds below them is ignored, as are hidden files and folders.

    Raises:
        InputError: a text names nothing, or two predictions would have the same name even with their endings.
    """
    sources: dict[Path, Source] = {}
    barred = [folder.resolve() for folder in left_out]
    for text in texts:
        found = _found(text, barred)
        if not found:
            raise InputError(
                f"no image: {text}: expected a file, a folder with images, a pattern in quotes or a video "
                "(folders of predictions are left out); check the path (settings are NAME=VALUE)"
            )
        for source in found:
            sources.setdefault(source.path, source)
    return _with_names_of_their_own(list(sources.values()))


def _found(text: str, barred: Sequence[Path]) -> list[Source]:
    path = _absolute(text)
    if path.is_dir():
        walk = os.walk(path, onerror=_not_readable)
        files = (Path(folder) / name for folder, _, names in walk for name in names)
        images = (file for file in files if FILE.fullmatch(file.name) and (file.is_file() or file.is_symlink()))
        return _below(path, images, barred)
    if path.exists():
        return [Source(path, Path(path.stem))]
    if not glob.has_magic(text):
        return []
    pattern = Path(text).expanduser()
    fixed = _absolute(Path(*takewhile(lambda part: not glob.has_magic(part), pattern.parts)))
    # A pattern that ends in `**` finds files here; with Path.glob it would find folders alone.
    matches = map(_absolute, glob.iglob(str(pattern), recursive=True))  # noqa: PTH207
    return _below(fixed, (file for file in matches if _is_wanted(file)), barred)


def _below(root: Path, files: Iterator[Path], barred: Sequence[Path]) -> list[Source]:
    """Returns the files, sorted by their paths and named relative to `root`, without those hidden or barred."""
    sources = []
    for file in sorted(files):
        below = file.relative_to(root)
        hidden = any(part.startswith(".") for part in below.parts)
        if not hidden and not any(file.resolve().is_relative_to(folder) for folder in barred):
            sources.append(Source(file, below.with_name(below.stem)))
    return sources


def _is_wanted(file: Path) -> bool:
    return file.is_file() and bool(FILE.fullmatch(file.name) or VIDEO.fullmatch(file.name))


def _not_readable(error: OSError) -> None:
    raise InputError(f"folder not readable: {error.filename}: {error.strerror}; open it, or name the files apart")


def _absolute(path: str | Path) -> Path:
    """Returns the path without `..`, but does not follow links, because people know files by the links' names."""
    return Path(os.path.abspath(path))  # noqa: PTH100  Path.absolute keeps `..`


def _with_names_of_their_own(sources: Sequence[Source]) -> list[Source]:
    """Lets images and videos whose names collide keep their endings; InputError if that does not part them."""
    counts = Counter(source.name for source in sources)
    folders = {parent for source in sources for parent in source.name.parents}
    named: dict[Path, Source] = {}
    for source in sources:
        if counts[source.name] > 1 or (source.is_video and source.name in folders):
            source = replace(source, name=source.name.with_name(source.path.name))
        other = named.setdefault(source.name, source)
        if other is not source:
            raise InputError(
                f"two predictions of one name: {other.path} and {source.path} would both be {source.name}.png; "
                "name a folder above both of them, or predict them apart"
            )
    return list(named.values())
