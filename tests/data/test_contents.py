"""Bytes of files: mapped where they are pixels, read elsewhere, and neither changed nor kept open."""

import errno
import mmap
import os
from pathlib import Path

import numpy as np
import pytest

from furnace.data.contents import file_content, is_mapped
from furnace.errors import InputError

PPM = b"P6 30 20 255\n" + bytes(range(256)) * 7 + bytes(8)


def open_descriptors() -> int:
    return len(list(Path("/proc/self/fd").iterdir()))


def is_in_memory(path: Path) -> bool:
    return str(path) in Path("/proc/self/maps").read_text()


def test_pixels_are_mapped_and_given_back(tmp_path: Path) -> None:
    path, before = tmp_path / "a.ppm", open_descriptors()
    path.write_bytes(PPM)
    content = file_content(path, "image")
    assert is_mapped(content) and content.tobytes() == PPM and is_in_memory(path)
    part = content[100:200]
    del content
    assert part.tobytes() == PPM[100:200]
    part[:] = 0
    assert path.read_bytes() == PPM  # a write changes a copy
    del part
    assert not is_in_memory(path) and open_descriptors() == before


@pytest.mark.parametrize("content", [b"\xff\xd8 a JPEG", b"P4 8 1\n1", b"P5", b"P7\n", b""])
def test_other_files_are_read(tmp_path: Path, content: bytes) -> None:
    path, before = tmp_path / "a", open_descriptors()
    path.write_bytes(content)
    found = file_content(path, "image")
    assert not is_mapped(found) and found.tobytes() == content and open_descriptors() == before


def test_where_nothing_can_be_mapped_files_are_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object, **__: object) -> None:
        raise OSError(errno.ENODEV, "No such device")

    (tmp_path / "a.ppm").write_bytes(PPM)
    monkeypatch.setattr(mmap, "mmap", refuse)
    monkeypatch.setattr("furnace.data.contents.is_mapped", None)
    assert file_content(tmp_path / "a.ppm", "image").tobytes() == PPM


def test_a_system_that_reads_a_part_at_a_time(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path, real = tmp_path / "a", os.readv
    path.write_bytes(bytes(range(100)))
    monkeypatch.setattr(os, "readv", lambda descriptor, buffers: real(descriptor, [buffers[0][:7]]))
    assert file_content(path, "image").tobytes() == bytes(range(100))
    monkeypatch.setattr(os, "readv", lambda descriptor, buffers: 0)  # as of a file that has become shorter
    assert len(file_content(path, "image")) == 0


def test_what_is_no_file_is_one_line(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    writer = os.open(tmp_path / "pipe", os.O_RDWR)
    (tmp_path / "folder").mkdir()
    before = open_descriptors()
    for name, said in (("none", "No such file"), ("folder", "directory"), ("pipe", "Illegal seek"), ("a\0b", "null")):
        with pytest.raises(InputError, match=f"image not readable: .*{said}") as error:
            file_content(tmp_path / name, "image")
        assert "\n" not in str(error.value)
    assert open_descriptors() == before
    os.close(writer)


def test_views_keep_their_memory(tmp_path: Path) -> None:
    """An image outlives what it was made of."""
    for number in range(50):
        (tmp_path / f"{number}.ppm").write_bytes(PPM[:-1] + bytes([number]))
    kept = [file_content(tmp_path / f"{number}.ppm", "image")[-1:] for number in range(50)]
    assert np.concatenate(kept).tolist() == list(range(50))
