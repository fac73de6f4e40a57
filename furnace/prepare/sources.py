"""Where a download lies: a folder, or an archive that is read as it is. Nothing here changes a source."""

import glob
import os
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path, PurePosixPath
from typing import NamedTuple, Protocol

from furnace.errors import InputError
from furnace.prepare.archives import ARCHIVE_ENDINGS, Archive, open_archive

DEEPEST = 3  # folders above the one that is looked for: VOCdevkit/VOC2012/JPEGImages
Unpack = Callable[[Path], Path]  # a compressed tar file to the folder that holds its files


class Source(Protocol):
    """Files by name: paths with `/`, relative to the source."""

    def names(self, folder: str) -> list[str]:
        """All files below `folder`, sorted; empty if there is no such folder."""

    def read(self, name: str) -> bytes:
        """A file's content; InputError if it is missing or damaged."""

    def path(self, name: str) -> Path | None:
        """The file to link to, None in an archive."""

    def describe(self, name: str) -> str:
        """The file as a user would look for it."""


class File(NamedTuple):
    """One file of a source."""

    source: Source
    name: str

    def read(self) -> bytes:
        return self.source.read(self.name)

    def path(self) -> Path | None:
        return self.source.path(self.name)

    def __str__(self) -> str:
        return self.source.describe(self.name)


@dataclass(frozen=True)
class Folder:
    """A folder as a source; what was unpacked for a while is copied, not linked to."""

    root: Path
    stays: bool = True

    def names(self, folder: str) -> list[str]:
        found, seen = [], set()
        for place, folders, files in os.walk(self.root / folder, onerror=_say_unless_absent, followlinks=True):
            real = os.path.realpath(place)
            if real in seen:  # by a link to a folder above it
                folders.clear()
                continue
            seen.add(real)
            below = Path(place).relative_to(self.root)
            found += [(below / name).as_posix() for name in files]
        return sorted(found)

    def read(self, name: str) -> bytes:
        try:
            return (self.root / name).read_bytes()
        except OSError as error:
            raise InputError(f"file not readable: {self.describe(name)}: {error.strerror}; replace it") from None

    def path(self, name: str) -> Path | None:
        return self.root / name if self.stays else None

    def describe(self, name: str) -> str:
        return str(self.root / name)


def require_source(place: Path) -> None:
    """InputError if there is nothing at `place`, or nothing that may be looked at."""
    try:
        place.stat()
        if place.is_dir():
            next(place.iterdir(), None)
    except OSError as error:
        raise InputError(
            f"source not found: {place}: expected a folder or an archive ({error.strerror}); name the download"
        ) from None


def locate(place: Path, wanted: str, unpack: Unpack) -> Source | None:
    """The source at or in `place` whose `wanted` (a file or folder, `ImageSets/Segmentation/train.txt`) exists.

    `place` is an archive, or a folder that holds `wanted` at most three folders deep or has an archive with it. Nothing
    wanted, "", is `place` itself.

    Raises:
        InputError: `place` is missing, or an archive is damaged or holds a path outside of itself.
    """
    require_source(place)
    if not place.is_dir():
        return _within(_open(place, unpack), wanted)
    if found := _within(Folder(place), wanted):
        return found
    archives = (path for path in sorted(place.iterdir()) if path.name.lower().endswith(ARCHIVE_ENDINGS))
    return next((found for path in archives if (found := _within(_open(path, unpack), wanted))), None)


def _within(source: Folder | Archive, wanted: str) -> Source | None:
    """`source` from the folder on that holds `wanted`; of several the first that is least deep."""
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


def _open(location: Path, unpack: Unpack) -> Folder | Archive:
    return open_archive(location) or Folder(unpack(location), stays=False)


def _say_unless_absent(error: OSError) -> None:
    if not isinstance(error, FileNotFoundError | NotADirectoryError):
        raise InputError(f"folder not readable: {error.filename}: {error.strerror}; change its mode") from None
