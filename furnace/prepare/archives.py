"""Archives as sources: zip and plain tar files are read where they lie, compressed tar files are unpacked once.

Only regular files count: links are never followed nor made, and an archive that holds a path outside of itself is
refused.
"""

import bz2
import gzip
import lzma
import os
import stat
import struct
import tarfile
import zipfile
import zlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import BinaryIO

from furnace.engine.files import writing
from furnace.errors import InputError

ARCHIVE_ENDINGS = (".zip", ".tar", ".tgz", ".tar.gz", ".tar.bz2", ".tar.xz")
MOST_BYTES = 2**30  # of one file in an archive, more than any image or mask has
BLOCK = 2**20
# Not tarfile's own "r|*", which never looks at gzip's checksum.
DECOMPRESSORS = {b"\x1f\x8b": gzip.open, b"BZh": bz2.open, b"\xfd7zXZ": lzma.open}
DAMAGE = (
    tarfile.TarError,
    zipfile.BadZipFile,
    zlib.error,
    lzma.LZMAError,
    struct.error,
    EOFError,
    OSError,  # not readable; and what gzip and bz2 raise
    ValueError,  # names that are not in the encoding they say
    NotImplementedError,  # a compression that Python lacks
)


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


def open_archive(location: Path) -> Archive | None:
    """A zip or plain tar file, None for any other.

    Raises:
        InputError: the archive is damaged or encrypted, or holds a path outside of itself.
    """
    with _damage_said(location):
        if zipfile.is_zipfile(location):
            return _zip(location)
        with open(location, "rb") as file:
            plain = file.read(512)[257:262] == b"ustar"
        return _tar(location) if plain else None


def unpack_tar(location: Path, folder: Path, progress: Callable[[int], None]) -> None:
    """Writes the regular files of a compressed tar file below `folder`; `progress` hears how far the file is read.

    Raises:
        InputError: the archive is damaged, holds a path outside of itself, or cannot be written.
    """
    with (
        _damage_said(location),
        open(location, "rb") as raw,
        _decompressed(raw) as stream,
        tarfile.open(fileobj=stream, mode="r|", tarinfo=_Member) as archive,
    ):
        for member in archive:
            name = _checked(member.name, location)
            if member.isreg():
                _require_small(member.size, name, location)
                content = archive.extractfile(member).read()
                with writing(folder / name):
                    (folder / name).parent.mkdir(parents=True, exist_ok=True)
                    (folder / name).write_bytes(content)
            progress(raw.tell())
        while stream.read(BLOCK):  # the checksum stands at the end
            pass


class _Member(tarfile.TarInfo):
    """A damaged header behind the first one is an error; by itself tarfile takes it for the archive's end."""

    @classmethod
    def fromtarfile(cls, archive: tarfile.TarFile) -> tarfile.TarInfo:
        try:
            return super().fromtarfile(archive)
        except (tarfile.InvalidHeaderError, tarfile.TruncatedHeaderError) as error:
            raise tarfile.ReadError(str(error)) from None


def _decompressed(raw: BinaryIO) -> BinaryIO:
    start = raw.peek(8)
    return next((opened(raw) for magic, opened in DECOMPRESSORS.items() if start.startswith(magic)), raw)


def _zip(location: Path) -> Archive:
    with zipfile.ZipFile(location) as archive:
        entries = {_checked(entry.filename, location): entry for entry in archive.infolist() if _is_regular(entry)}
    if any(entry.flag_bits & 1 for entry in entries.values()):
        raise InputError(f"archive is encrypted: {location}: expected one without password; unpack it yourself")
    handles: dict[int, zipfile.ZipFile] = {}  # by process: a handle's place in the file is shared after a fork

    def content(name: str) -> bytes:
        if os.getpid() not in handles:
            handles[os.getpid()] = zipfile.ZipFile(location)
        _require_small(entries[name].file_size, name, location)
        return handles[os.getpid()].read(entries[name])

    return Archive(location, frozenset(entries), content)


def _tar(location: Path) -> Archive:
    with tarfile.open(location, "r:", tarinfo=_Member) as archive:
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
        raise InputError(
            f"archive refused: {location}: it holds the path {name!r}; "
            "expected none outside of itself and none with a backslash; get it anew"
        )
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
        reason = getattr(error, "strerror", None) or error
        raise InputError(f"archive not readable: {location}: {reason}; get it anew, or unpack it yourself") from None
