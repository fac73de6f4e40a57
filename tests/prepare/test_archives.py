"""Archives as sources: the right one is found, damage never passes for content, and nothing is written beside them."""

import gzip
import io
import shutil
import tarfile
import zipfile
from pathlib import Path

import numpy as np
import pytest
from layouts import ONE, SIZE, error_of, make_city, make_sbd, make_voc, mask, pack, prepare, write_image, write_mask

from furnace.prepare import archives

PACKED = ["tgz", "tar.bz2", "tar.xz"]
IMAGE = "leftImg8bit/train/ulm/ulm_000000_000019_leftImg8bit.png"


def add(path: Path, *members: tuple[str, bytes]) -> None:
    """Puts members behind those of a plain tar file."""
    with tarfile.open(path, "a") as archive:
        for name, content in members:
            member = tarfile.TarInfo(name)
            member.size = len(content)
            archive.addfile(member, io.BytesIO(content))


@pytest.fixture
def source_of_two(tmp_path: Path) -> Path:
    """Six photographs, their masks of two classes, and the file that names these."""
    for number in range(6):
        write_image(tmp_path / f"source/images/{number}.png", number)
        write_mask(tmp_path / f"source/masks/{number}.png", mask(number, 2))
    (tmp_path / "source/classes.csv").write_text("name,value\nground,0\nplant,1\n")
    return tmp_path / "source"


def compressed(path: Path) -> Path:
    target = path.with_suffix(".tgz")
    target.write_bytes(gzip.compress(path.read_bytes()))
    return target


def test_a_folder_whose_name_only_begins_alike_is_another(tmp_path: Path) -> None:
    """leftImg8bit_trainextra.zip stands before leftImg8bit_trainvaltest.zip."""
    source = make_city(tmp_path / "source")
    for name in ("leftImg8bit", "gtFine"):
        pack(source / name, tmp_path / f"downloads/{name}_trainvaltest.zip", f"{name}/")
    extra = tmp_path / "downloads/leftImg8bit_trainextra.zip"
    pack(source / "leftImg8bit/train", extra, "leftImg8bit/train_extra/")
    assert prepare("city", tmp_path / "downloads", tmp_path / "city", *ONE) == 0
    assert len((tmp_path / "city/config_new/train.txt").read_text().splitlines()) == 5


def test_two_archives_of_one_name(tmp_path: Path) -> None:
    voc = pack(make_voc(tmp_path), tmp_path / "voc/data.tgz", "VOCdevkit/")
    sbd = pack(make_sbd(tmp_path), tmp_path / "sbd/data.tgz", "benchmark_RELEASE/")
    assert prepare("voc", voc, tmp_path / "out", "--sbd", sbd, *ONE) == 0
    assert len((tmp_path / "out/train_aug.txt").read_text().splitlines()) == 6
    assert not (tmp_path / "out/.unpacked").exists()


def test_the_checksum_of_gzip_is_looked_at(tmp_path: Path, capfd: pytest.CaptureFixture) -> None:
    """A file that was stored without compression, so that its damage hurts nothing but the checksum."""
    plain = pack(make_city(tmp_path / "source"), tmp_path / "all.tar")
    content = bytearray(gzip.compress(plain.read_bytes(), compresslevel=0))
    content[content.index(b"IDAT") + 20] ^= 1
    path = tmp_path / "all.tgz"
    path.write_bytes(content)
    assert f"archive not readable: {path}: CRC" in error_of(capfd, "city", path, tmp_path / "out", *ONE)
    assert not (tmp_path / "out.partial").exists()


@pytest.mark.parametrize("ending", ["tar", "tgz"])
def test_a_damaged_header_does_not_end_the_archive(tmp_path: Path, capfd: pytest.CaptureFixture, ending: str) -> None:
    path = tmp_path / "all.tar"
    with tarfile.open(path, "w", format=tarfile.USTAR_FORMAT) as archive:
        archive.add(make_city(tmp_path / "source"), "city")
    content = bytearray(path.read_bytes())
    content[content.index(IMAGE.encode()) + 100] ^= 1
    path.write_bytes(content)
    path = compressed(path) if ending == "tgz" else path
    assert f"archive not readable: {path}: bad checksum" in error_of(capfd, "city", path, tmp_path / "out", *ONE)


@pytest.mark.parametrize("members", [("x", "x/y"), ("x/y", "x"), ("a" * 300,), ("",)])
def test_members_that_cannot_be_written(tmp_path: Path, capfd: pytest.CaptureFixture, members: tuple[str, ...]) -> None:
    path = pack(make_city(tmp_path / "source"), tmp_path / "all.tar")
    add(path, *((name, b"hello") for name in members))
    assert "cannot write" in error_of(capfd, "city", compressed(path), tmp_path / "out", *ONE)
    assert not (tmp_path / "out.partial").exists()


@pytest.mark.parametrize("ending", ["zip", "tar", *PACKED])
def test_a_member_that_would_fill_the_memory(
    tmp_path: Path, capfd: pytest.CaptureFixture, monkeypatch: pytest.MonkeyPatch, ending: str
) -> None:
    monkeypatch.setattr(archives, "MOST_BYTES", 300)
    path = pack(make_city(tmp_path / "source"), tmp_path / f"all.{ending}")
    message = error_of(capfd, "city", path, tmp_path / "out", *ONE)
    assert f"archive refused: {path}" in message and "expected at most 300" in message
    assert not (tmp_path / "out").exists()


def test_an_encrypted_zip_is_said_before_anything_is_made(tmp_path: Path, capfd: pytest.CaptureFixture) -> None:
    path = pack(make_city(tmp_path / "source"), tmp_path / "all.zip")
    content = bytearray(path.read_bytes())
    with zipfile.ZipFile(path) as archive:
        place = archive.start_dir
    content[place + 8] |= 1  # the flag of the first entry in the central directory
    path.write_bytes(content)
    assert f"archive is encrypted: {path}" in error_of(capfd, "city", path, tmp_path / "out", *ONE)
    assert not (tmp_path / "out.partial").exists()


def test_backslashes_of_windows_part_folders(tmp_path: Path) -> None:
    path = tmp_path / "all.zip"
    with zipfile.ZipFile(path, "w") as archive:
        for name in ("a\\b.txt", "c\\"):
            member = zipfile.ZipInfo("x")
            member.filename = name
            archive.writestr(member, b"1")
    found = archives.open_archive(path)
    assert found is not None and found.names("") == ["a/b.txt"] and found.read("a/b.txt") == b"1"


@pytest.mark.parametrize("start", [b"7z\xbc\xaf", b"Rar!", b"\x28\xb5\x2f\xfd", b"\xff\xd8", b"PK\x03\x04", b""])
def test_what_is_no_known_archive_is_not_called_damaged(
    tmp_path: Path, capfd: pytest.CaptureFixture, start: bytes
) -> None:
    path = tmp_path / "all.tar"
    path.write_bytes(start + b"1" * 600)
    assert "no archive that can be read" in error_of(capfd, "city", path, tmp_path / "out", *ONE)


def test_a_tar_file_that_ends_with_a_zip_is_a_tar_file(source_of_two: Path, tmp_path: Path) -> None:
    with zipfile.ZipFile(source_of_two / "zz_docs.zip", "w") as archive:
        archive.writestr("readme.txt", "hello")
    with tarfile.open(tmp_path / "data.tar", "w", format=tarfile.USTAR_FORMAT) as archive:
        for path in sorted(source_of_two.rglob("*.*")):
            archive.add(path, path.relative_to(source_of_two).as_posix())
    assert prepare("folder", tmp_path / "data.tar", tmp_path / "out", *ONE) == 0


@pytest.mark.parametrize("ending", ["zip", "folder"])
def test_masks_of_another_classes_file_are_not_gone_on_with(
    source_of_two: Path, tmp_path: Path, capfd: pytest.CaptureFixture, ending: str
) -> None:
    """The program itself says to give a value a line, which changes what the values of all other masks mean."""
    inside = tmp_path / "whole/a/b"
    inside.parent.mkdir(parents=True)
    source_of_two.rename(inside)
    write_mask(inside / "masks/5.png", np.full(SIZE, 7, dtype=np.uint8))

    def source() -> Path:
        return pack(tmp_path / "whole", tmp_path / "all.zip") if ending == "zip" else tmp_path / "whole"

    assert "7" in error_of(capfd, "folder", source(), tmp_path / "out", *ONE)
    (inside / "classes.csv").write_text("name,value\nroad,7\nground,0\nplant,1\n")
    (tmp_path / "all.zip").unlink(missing_ok=True)
    error = error_of(capfd, "folder", source(), tmp_path / "out", *ONE)
    assert "out.partial was begun " in error and "remove it to start anew" in error
    shutil.rmtree(tmp_path / "out.partial")
    assert prepare("folder", source(), tmp_path / "out", *ONE) == 0
    assert not list((tmp_path / "out").glob(".meaning"))
