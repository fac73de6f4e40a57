"""Where a download lies: a folder, or an archive that is read as it is.

Nothing here changes a source. Of an archive only regular files count: links are never followed nor made, and an archive
that holds a path outside of itself is refused.
"""

import lzma
import os
import stat
import tarfile
import zipfile
import zlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path, PurePosixPath
from typing import NamedTuple, Protocol

from furnace.errors import InputError

ARCHIVE_ENDINGS = (".zip", ".tar", ".tgz", ".tar.gz", ".tar.bz2", ".tar.xz")
DEEPEST = 3  # folders above the one that is looked for: VOCdevkit/VOC2012/JPEGImages
MOST_BYTES = 2**30  # of one file in an archive, more than any image or mask has
DAMAGE = (
    tarfile.TarError,
    zipfile.BadZipFile,
    zlib.error,
    lzma.LZMAError,
    EOFError,
    RuntimeError,  # encrypted
    NotImplementedError,  # a compression that Python lacks
)
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
        found = []
        for place, _, files in os.walk(self.root / folder, followlinks=True):
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


@dataclass(frozen=True)
class Archive:
    """The files of an archive below `prefix`."""

    location: Path
    members: frozenset[str]
    content: Callable[[str], bytes]
    prefix: str = ""

    def names(self, folder: str) -> list[str]:
        below = f"{self.prefix}{folder.rstrip('/')}/" if folder else self.prefix
        return sorted(name.removeprefix(self.prefix) for name in self.members if name.startswith(below))

    def read(self, name: str) -> bytes:
        if self.prefix + name not in self.members:
            raise InputError(f"file not found: {self.describe(name)}; replace the archive")
        with _damage_said(self.location):
            return self.content(self.prefix + name)

    def path(self, _: str) -> None:
        return None

    def describe(self, name: str) -> str:
        return f"{self.location}: {self.prefix}{name}"


def locate(place: Path, wanted: str, unpack: Unpack) -> Source | None:
    """The source at or in `place` whose `wanted` (a file or folder, `ImageSets/Segmentation/train.txt`) exists.

    `place` is an archive, or a folder that holds `wanted` at most three folders deep or has an archive with it.

    Raises:
        InputError: `place` is missing, or an archive is damaged or holds a path outside of itself.
    """
    if place.is_file():
        return _within(_open(place, unpack), wanted)
    if not place.is_dir():
        raise InputError(f"source not found: {place}: expected a folder or an archive; name the download")
    if found := _within(Folder(place), wanted):
        return found
    archives = (path for path in sorted(place.iterdir()) if path.name.lower().endswith(ARCHIVE_ENDINGS))
    return next((found for path in archives if (found := _within(_open(path, unpack), wanted))), None)


def unpack_tar(location: Path, folder: Path, progress: Callable[[int], None]) -> None:
    """Writes the regular files of a compressed tar file below `folder`; `progress` hears how far the file is read.

    Raises:
        InputError: the archive is damaged, or holds a path outside of itself.
    """
    with _damage_said(location), open(location, "rb") as raw, tarfile.open(fileobj=raw, mode="r|*") as archive:
        for member in archive:
            name = _checked(member.name, location)
            if not member.isreg():
                continue
            target = folder / name
            target.parent.mkdir(parents=True, exist_ok=True)
            with open(target, "wb") as file, archive.extractfile(member) as content:
                while block := content.read(1 << 20):
                    file.write(block)
            progress(raw.tell())


def _within(source: Folder | Archive, wanted: str) -> Source | None:
    """`source` from the folder on that holds `wanted`; of several the first that is least deep."""
    if isinstance(source, Folder):
        for depth in range(DEEPEST + 1):
            for path in sorted(source.root.glob("/".join(["*"] * depth + [wanted]))):
                return replace(source, root=path.parents[len(PurePosixPath(wanted).parts) - 1])
        return None
    ends = (f"/{wanted}", f"/{wanted}/")
    prefixes = {
        f"/{name}"[: at + 1].lstrip("/")
        for name in source.members
        if (at := max(f"/{name}/".find(end) for end in ends)) >= 0 and name.count("/", 0, at) <= DEEPEST
    }
    return replace(source, prefix=min(prefixes, key=lambda prefix: (prefix.count("/"), prefix))) if prefixes else None


def _open(location: Path, unpack: Unpack) -> Folder | Archive:
    with _damage_said(location):
        if zipfile.is_zipfile(location):
            return _zip(location)
        with open(location, "rb") as file:
            plain = file.read(512)[257:262] == b"ustar"
        return _tar(location) if plain else Folder(unpack(location), stays=False)


def _zip(location: Path) -> Archive:
    with zipfile.ZipFile(location) as archive:
        entries = {_checked(entry.filename, location): entry for entry in archive.infolist() if _is_regular(entry)}
    handles: dict[int, zipfile.ZipFile] = {}  # by process: a handle's place in the file is shared after a fork

    def content(name: str) -> bytes:
        if os.getpid() not in handles:
            handles[os.getpid()] = zipfile.ZipFile(location)
        _require_small(entries[name].file_size, name, location)
        return handles[os.getpid()].read(entries[name])

    return Archive(location, frozenset(entries), content)


def _tar(location: Path) -> Archive:
    with tarfile.open(location, "r:") as archive:
        places = {
            _checked(member.name, location): (member.offset_data, member.size)
            for member in archive
            if member.isreg() and not member.issparse()
        }

    def content(name: str) -> bytes:
        offset, size = places[name]
        _require_small(size, name, location)
        with open(location, "rb") as file:
            file.seek(offset)
            return file.read(size)

    return Archive(location, frozenset(places), content)


def _is_regular(entry: zipfile.ZipInfo) -> bool:
    kind = stat.S_IFMT(entry.external_attr >> 16)
    return not entry.is_dir() and kind in (0, stat.S_IFREG)


def _checked(name: str, location: Path) -> str:
    """A member's name without `./`; InputError if it leads out of the archive."""
    parts = PurePosixPath(name).parts
    if name.startswith("/") or ".." in parts or "\\" in name or "\0" in name:
        raise InputError(f"archive refused: {location}: it holds the path {name!r}, outside of itself; get it anew")
    return "/".join(parts)


def _require_small(size: int, name: str, location: Path) -> None:
    if size > MOST_BYTES:
        raise InputError(
            f"archive refused: {location}: {name} has {size} bytes; expected at most {MOST_BYTES}; get it anew"
        )


@contextmanager
def _damage_said(location: Path) -> Iterator[None]:
    try:
        yield
    except DAMAGE as error:
        raise InputError(f"archive not readable: {location}: {error}; get it anew, or unpack it yourself") from None
