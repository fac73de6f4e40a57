"""Finds what a download holds, in a folder or in an archive that is read as it is. Nothing here changes a source."""

import glob
import os
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path, PurePosixPath
from typing import NamedTuple, Protocol

from furnace.errors import InputError
from furnace.prepare.archives import ARCHIVE_ENDINGS, Archive, changed, open_archive

DEEPEST = 3  # how many folders may lie around what is looked for, as VOCdevkit/VOC2012 around JPEGImages
Unpack = Callable[[Path], Path]  # takes a compressed tar file, returns the folder that holds its files


class Source(Protocol):
    """A folder or an archive as files by name. Names are paths with `/`, relative to the source."""

    def names(self, folder: str) -> list[str]:
        """Returns all files below `folder`, sorted; none if there is no such folder."""

    def read(self, name: str, count: int = -1) -> bytes:
        """Returns a file's content, or its first `count` bytes; raises InputError if it is missing or damaged."""

    def path(self, name: str) -> Path | None:
        """Returns the file to link to, None if there is none that stays."""

    def changed(self, name: str) -> int:
        """Returns when a file, or its archive, was last written or replaced, in ns; raises InputError if it is gone."""

    def describe(self, name: str) -> str:
        """Returns what an error calls the file, so that a user finds it."""


class File(NamedTuple):
    """One file of a source."""

    source: Source
    name: str

    def read(self, count: int = -1) -> bytes:
        """Returns the content, or its first `count` bytes; raises InputError if the file is missing or damaged."""
        return self.source.read(self.name, count)

    def path(self) -> Path | None:
        """Returns the file to link to, None if there is none that stays."""
        return self.source.path(self.name)

    def changed(self) -> int:
        """Returns when the file, or its archive, was last written or replaced, in ns; InputError if it is gone."""
        return self.source.changed(self.name)

    def __str__(self) -> str:
        return self.source.describe(self.name)


@dataclass(frozen=True)
class Folder:
    """A folder as a source.

    Attributes:
        archive: the archive that is unpacked here for a while, whose files must not be linked to; None for a folder
            that stays.
    """

    root: Path
    archive: Path | None = None

    def names(self, folder: str) -> list[str]:
        """Returns all files below `folder`, sorted; links to folders are followed."""
        found: list[str] = []
        seen: set[str] = set()
        for place, folders, files in os.walk(self.root / folder, onerror=_say_unless_absent, followlinks=True):
            real = os.path.realpath(place)
            if real in seen:  # by a link; one to a folder above itself would never end
                folders.clear()
                continue
            seen.add(real)
            below = Path(place).relative_to(self.root)
            found += [(below / name).as_posix() for name in files]
        return sorted(found)

    def read(self, name: str, count: int = -1) -> bytes:
        """Returns a file's content, or its first `count` bytes; raises InputError if it cannot be read."""
        try:
            with open(self.root / name, "rb") as file:
                return file.read(count)
        except OSError as error:
            raise InputError(f"file not readable: {self.describe(name)}: {error.strerror}; replace it") from None

    def path(self, name: str) -> Path | None:
        """Returns the file, None if it does not stay."""
        return None if self.archive else self.root / name

    def changed(self, name: str) -> int:
        """Returns when a file, or its archive, was last written or replaced, in ns; raises InputError if it is gone."""
        return changed(self.archive or self.root / name)

    def describe(self, name: str) -> str:
        """Returns the file's path."""
        return str(self.root / name)


def require_source(place: Path) -> None:
    """Raises InputError if there is nothing at `place`, or if it must not be looked at."""
    try:
        place.stat()
        if place.is_dir():
            next(place.iterdir(), None)
    except OSError as error:
        raise InputError(
            f"source not found: {place}: expected a folder or an archive ({error.strerror}); name the download"
        ) from None


def locate(place: Path, wanted: str, unpack: Unpack) -> Source | None:
    """Finds the source at or in `place` that holds `wanted`.

    Args:
        place: an archive, or a folder that holds `wanted` at most three folders deep, or a folder that has an archive
            in it which does.
        wanted: a file or folder, such as `ImageSets/Segmentation/train.txt`; "" stands for `place` itself.

    Returns:
        The source from that folder on in which `wanted` lies, so that `wanted` is a name of it; None if there is none.

    Raises:
        InputError: `place` is missing, or an archive is damaged or holds a path outside of itself.
    """
    require_source(place)
    if not place.is_dir():
        return _within(_open(place, unpack), wanted)
    if found := _within(Folder(place), wanted):
        return found
    return next((found for path in _archives(place) if (found := _within(_open(path, unpack), wanted))), None)


def listing(place: Path, unpack: Unpack) -> Iterator[list[File]]:
    """Yields all files at `place`; where that is a folder, those of all archives in it after its own.

    Raises:
        InputError: `place` is missing, or an archive is damaged or holds a path outside of itself.
    """

    def files(source: Source) -> list[File]:
        return [File(source, name) for name in source.names("")]

    require_source(place)
    if place.is_dir():
        yield files(Folder(place))
        yield [file for path in _archives(place) for file in files(_open(path, unpack))]
    else:
        yield files(_open(place, unpack))


def require(source: Source | None, place: Path, expected: str) -> Source:
    """Returns what `locate` found in `place`; raises InputError, which names what was `expected`, if it is None."""
    if source is None:
        raise InputError(f"not found in {place}: expected {expected} in a folder or an archive; name the download")
    return source


def _within(source: Folder | Archive, wanted: str) -> Source | None:
    """Returns `source` from that folder on in which `wanted` lies; of several, the first of the least deep ones."""
    if not wanted:
        return source
    if isinstance(source, Folder):
        for depth in range(DEEPEST + 1):
            for path in sorted(source.root.glob("/".join(["*"] * depth + [glob.escape(wanted)]))):
                return replace(source, root=path.parents[len(PurePosixPath(wanted).parts) - 1])
        return None
    prefixes = {
        f"/{name}"[: at + 1].lstrip("/")
        for name in source.members
        if (at := f"/{name}/".find(f"/{wanted}/")) >= 0 and name.count("/", 0, at) <= DEEPEST
    }
    return replace(source, prefix=min(prefixes, key=lambda prefix: (prefix.count("/"), prefix))) if prefixes else None


def _archives(place: Path) -> list[Path]:
    return [path for path in sorted(place.iterdir()) if path.name.lower().endswith(ARCHIVE_ENDINGS)]


def _open(location: Path, unpack: Unpack) -> Folder | Archive:
    return open_archive(location) or Folder(unpack(location), archive=location)


def _say_unless_absent(error: OSError) -> None:
    if not isinstance(error, FileNotFoundError | NotADirectoryError):
        raise InputError(f"folder not readable: {error.filename}: {error.strerror}; change its mode") from None
