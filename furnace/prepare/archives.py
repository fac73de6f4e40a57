"""Reads archives as sources: zip and plain tar files where they lie, compressed tar files by unpacking them once.

Only regular files count. Links in an archive are neither followed nor made, and an archive that holds a path outside of
itself is refused.
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
from io import BufferedIOBase, BufferedReader
from pathlib import Path, PurePosixPath
from typing import Self

from furnace.engine.files import writing
from furnace.errors import InputError

ARCHIVE_ENDINGS = (".zip", ".tar", ".tgz", ".tar.gz", ".tar.bz2", ".tbz2", ".tar.xz", ".txz")
MOST_BYTES = 2**30  # that one file in an archive may have: more than any image or mask
BLOCK = 2**20  # bytes read at once
# tarfile's own "r|*" would decompress too, but it never looks at gzip's checksum.
DECOMPRESSORS: dict[bytes, Callable[[BufferedReader], BufferedIOBase]] = {
    b"\x1f\x8b": gzip.open,
    b"BZh": bz2.open,
    b"\xfd7zXZ": lzma.open,
}
DAMAGE = (
    tarfile.TarError,
    zipfile.BadZipFile,
    zlib.error,
    lzma.LZMAError,
    struct.error,
    EOFError,
    OSError,  # the file cannot be read; gzip and bz2 raise it for damage too
    ValueError,  # a name is not in the encoding that the archive states
    NotImplementedError,  # a compression that Python lacks
)


@dataclass(frozen=True)
class Archive:
    """An archive as a source: its files below `prefix`.

    Attributes:
        members: the full names of all regular files in the archive.
        content: returns the content of the file with a full name, or its first so many bytes; -1 means all.
        prefix: what full names begin with, "" or a folder with `/` behind it; the names of the source leave it out.
    """

    location: Path
    members: frozenset[str]
    content: Callable[[str, int], bytes]
    prefix: str = ""

    def names(self, folder: str) -> list[str]:
        """Returns all files below `folder`, sorted."""
        below = f"{self.prefix}{folder.rstrip('/')}/" if folder else self.prefix
        return sorted(name.removeprefix(self.prefix) for name in self.members if name.startswith(below))

    def read(self, name: str, count: int = -1) -> bytes:
        """Returns a file's content, or its first `count` bytes; InputError if it is missing, damaged or too large."""
        if self.prefix + name not in self.members:
            raise InputError(f"file not found: {self.describe(name)}; replace the archive")
        with _damage_said(self.location):
            return self.content(self.prefix + name, count)

    def path(self, name: str) -> None:
        """Returns None: a file in an archive cannot be linked to."""
        return None

    def changed(self, name: str) -> int:
        """Returns when the archive was last written or replaced, in ns; raises InputError if it is gone."""
        return changed(self.location)

    def describe(self, name: str) -> str:
        """Returns the archive's path, and the name of the file in it."""
        return f"{self.location}: {self.prefix}{name}"


def changed(path: Path) -> int:
    """Returns when a file was last written or replaced, in ns; raises InputError if it is gone.

    This is its inode's time, because an older file that is put into its place, or unpacked there, may bring along a
    time of writing that lies before.
    """
    try:
        return path.stat().st_ctime_ns
    except OSError as error:
        raise InputError(f"file not readable: {path}: {error.strerror}; replace it") from None


def open_archive(location: Path) -> Archive | None:
    """Opens a zip or plain tar file; returns None for any other file.

    Raises:
        InputError: the archive is damaged or encrypted, or holds a path outside of itself.
    """
    with _damage_said(location):
        with open(location, "rb") as file:
            head = file.read(512)
        if head[257:262] == b"ustar":  # asked first, because a tar file whose last members hold a zip looks like one
            return _tar(location)
        if zipfile.is_zipfile(location):
            return _zip(location)
    if not head.startswith(tuple(DECOMPRESSORS)) and not _is_old_tar(head):
        raise InputError(
            f"no archive that can be read: {location}: expected {', '.join(ARCHIVE_ENDINGS)}, whole; "
            "name a folder, or unpack it yourself (7z, RAR, zstd, zip in parts), and name the folder"
        )
    return None


def unpack_tar(location: Path, folder: Path, progress: Callable[[int], None]) -> None:
    """Writes the regular files of a compressed tar file below `folder`.

    Args:
        progress: called after each member with the number of compressed bytes that are read.

    Raises:
        InputError: the archive is damaged, holds a path outside of itself or too large a file, or `folder` cannot be
            written.
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
                file = archive.extractfile(member)
                assert file is not None  # a regular file has content
                content = file.read()
                with writing(folder / name):
                    (folder / name).parent.mkdir(parents=True, exist_ok=True)
                    (folder / name).write_bytes(content)
            progress(raw.tell())
        while stream.read(BLOCK):  # the checksum stands at the end, where tarfile does not read
            pass


class _Member(tarfile.TarInfo):
    """A member of an archive whose damaged header is an error; tarfile's own takes it for the end of the archive."""

    @classmethod
    def fromtarfile(cls, archive: tarfile.TarFile) -> Self:
        try:
            return super().fromtarfile(archive)
        # The types of the standard library lack these two.
        except (tarfile.InvalidHeaderError, tarfile.TruncatedHeaderError) as error:  # type: ignore[attr-defined]
            raise tarfile.ReadError(str(error)) from None


def _is_old_tar(head: bytes) -> bool:
    """Whether a tar file without a mark may begin so, as systems before 1988 wrote it."""
    try:
        tarfile.TarInfo.frombuf(head, "utf-8", "surrogateescape")
        return True
    except tarfile.HeaderError:
        return False


def _decompressed(raw: BufferedReader) -> BufferedIOBase:
    start = raw.peek(8)
    for magic, opened in DECOMPRESSORS.items():
        if start.startswith(magic):
            return opened(raw)
    return raw


def _zip(location: Path) -> Archive:
    with zipfile.ZipFile(location) as archive:
        entries = {_checked(_named(entry), location): entry for entry in archive.infolist() if _is_regular(entry)}
    if any(entry.flag_bits & 1 for entry in entries.values()):
        raise InputError(f"archive is encrypted: {location}: expected one without password; unpack it yourself")
    handles: dict[int, zipfile.ZipFile] = {}  # by process id: forked processes would share the place in one open file

    def content(name: str, count: int) -> bytes:
        if os.getpid() not in handles:
            handles[os.getpid()] = zipfile.ZipFile(location)
        _require_small(entries[name].file_size, name, location)
        with handles[os.getpid()].open(entries[name]) as file:
            return file.read(count)

    return Archive(location, frozenset(entries), content)


def _tar(location: Path) -> Archive:
    with tarfile.open(location, "r:", tarinfo=_Member) as archive:
        places = {
            _checked(member.name, location): (member.offset_data, member.size)
            for member in archive
            if member.isreg() and not member.issparse()
        }

    def content(name: str, count: int) -> bytes:
        offset, size = places[name]
        _require_small(size, name, location)
        with open(location, "rb") as file:
            file.seek(offset)
            return file.read(size if count < 0 else min(size, count))

    return Archive(location, frozenset(places), content)


def _named(entry: zipfile.ZipInfo) -> str:
    """Returns a member's name; some programs of Windows write backslashes between folders."""
    return entry.filename.replace("\\", "/")


def _is_regular(entry: zipfile.ZipInfo) -> bool:
    kind = stat.S_IFMT(entry.external_attr >> 16)
    return not _named(entry).endswith("/") and kind in (0, stat.S_IFREG)


def _checked(name: str, location: Path) -> str:
    """Returns a member's name without `./`; raises InputError if it leads out of the archive."""
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
    """Turns whatever is raised for a damaged archive into an InputError that names it."""
    try:
        yield
    except DAMAGE as error:
        reason = getattr(error, "strerror", None) or error
        raise InputError(f"archive not readable: {location}: {reason}; get it anew, or unpack it yourself") from None
