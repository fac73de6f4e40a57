"""`prepare --files decoded`: the same pixels as the originals give, under lists that name either; room is asked for."""

import json
import re
import shutil
from collections.abc import Callable
from pathlib import Path

import cv2
import numpy as np
import pytest
from layouts import (
    ONE,
    VOC_VAL,
    error_of,
    lines,
    make_camvid,
    make_city,
    make_sbd,
    make_voc,
    mask,
    pack,
    picture,
    prepare,
    write_image,
    write_mask,
)
from PIL import Image

from furnace.data.contents import file_content, is_mapped
from furnace.data.decoding import decode_image
from furnace.data.entries import Split
from furnace.data.file_list import FileList
from furnace.prepare import decoded, placing
from furnace.prepare.check import check, dataset_of
from furnace.prepare.listed import find_lists

DECODED = ["--files", "decoded", "--ratios", "2", *ONE]


def make_own(root: Path) -> Path:
    for number in range(6):
        write_image(root / f"images/{number}.png", number)
        write_mask(root / f"masks/{number}.png", mask(number, 2))
    write_image(root / "images/more.jpg", 9)
    (root / "classes.txt").write_text("ground\nplant\n")
    return root


def request(kind: str, root: Path) -> list[object]:
    """The kind, and what of it makes a data set."""
    match kind:
        case "voc":
            return ["voc", make_voc(root), "--sbd", make_sbd(root)]
        case "city":
            return ["city", make_city(root / "city")]
        case "camvid":
            return ["camvid", make_camvid(root / "camvid")]
    return ["folder", make_own(root / "own")]


def splits(folder: Path) -> dict[str, tuple[str, Split]]:
    return find_lists(dataset_of(folder), folder, folder)


def assert_equal(ours: Path, theirs: Path) -> None:
    """Every list of both names the same images and masks, pixel by pixel."""
    found, expected = splits(ours), splits(theirs)
    assert found.keys() == expected.keys()
    for name, (role, split) in found.items():
        other = expected[name][1]
        assert len(split.files) == len(other.files) > 0
        for index in range(len(split.files)):
            assert np.array_equal(split.image(index), other.image(index))
            assert is_mapped(file_content(split.image_path(index), "image"))
            assert split.name_of(index) == other.name_of(index)
            if role in ("train", "labeled", "val"):
                assert np.array_equal(split.label(index), other.label(index))
                assert is_mapped(file_content(split.label_path(index), "label"))


@pytest.mark.parametrize("packed", [None, "zip", "tar", "tgz"])
@pytest.mark.parametrize("kind", ["voc", "city", "camvid", "folder"])
def test_pixels_are_those_of_the_originals(tmp_path: Path, kind: str, packed: str | None, capfd) -> None:
    kind, source, *more = request(kind, tmp_path / "source")
    if packed:
        source = pack(source, tmp_path / f"packed/data.{packed}", f"{source.name}/")
    assert prepare(kind, source, tmp_path / "linked", *more, "--ratios", "2", *ONE) == 0
    assert prepare(kind, source, tmp_path / "decoded", *more, *DECODED) == 0
    assert re.search(r"note: decoded images take [\d.]+ kB, [\d.]+ GB are free", capfd.readouterr().err)
    assert_equal(tmp_path / "decoded", tmp_path / "linked")
    endings = {path.suffix for path in (tmp_path / "decoded").rglob("*") if path.is_file()}
    assert endings <= {".ppm", ".pgm", ".txt", ".json"}
    folder = tmp_path / "decoded"
    report = check(dataset_of(folder), folder, folder, 1, lambda steps, total: steps)
    assert {problem.kind for problem in report.problems} <= {"duplicate"}
    asked = json.loads((tmp_path / "decoded/prepared.json").read_text())["request"]
    assert asked["files"] == "decoded"
    assert "is there already" in error_of(capfd, kind, source, tmp_path / "decoded", *more, "--ratios", "2", *ONE)


def test_kinds_of_images_and_masks(tmp_path: Path) -> None:
    """Grey, 16 bits, a photograph that is turned; masks of colours, in a palette, of one bit."""
    source = make_own(tmp_path / "own")
    write = {
        "0": lambda path: cv2.imwrite(path, picture(0)[..., 0]),
        "1": lambda path: cv2.imwrite(path, picture(1).astype(np.uint16) * 257),
        "2": lambda path: Image.fromarray(picture(2)).save(path, exif=turned()),
    }
    for name, draw in write.items():
        draw(str(source / f"images/{name}.png"))
    rotated = np.ascontiguousarray(np.rot90(mask(2, 2, None), 3))
    Image.fromarray(rotated, mode="P").save(source / "masks/2.png")
    Image.fromarray(mask(3, 2, None).astype(bool)).save(source / "masks/3.png")
    assert prepare("folder", source, tmp_path / "linked", "--ratios", "2", *ONE) == 0
    assert prepare("folder", source, tmp_path / "decoded", *DECODED) == 0
    assert_equal(tmp_path / "decoded", tmp_path / "linked")
    ours, theirs = (json.loads((tmp_path / f"{name}/prepared.json").read_text()) for name in ("decoded", "linked"))
    assert ours["warnings"] == theirs["warnings"] and any("EXIF orientation" in line for line in ours["warnings"])


def turned() -> Image.Exif:
    exif = Image.Exif()
    exif[274] = 6
    return exif


@pytest.mark.parametrize(
    "line",
    [
        "{name}",
        "JPEGImages/{name}.jpg SegmentationClassAug/{name}.png",
        "/train_aug/image/{name}.jpg\t/train_aug/label/{name}.png",
        "/train_aug/image/{name}.ppm\t/train_aug/label/{name}.pgm",
    ],
)
def test_lists_of_the_originals_name_decoded_files(tmp_path: Path, line: str) -> None:
    _, source, *more = request("voc", tmp_path)
    folder = tmp_path / "voc"
    assert prepare("voc", source, folder, *more, *DECODED) == 0
    for number in range(30):  # strangers, in whatever order the folder has them
        (folder / f"train_aug/image/{number}.jpg").touch()
    (folder / "mine.txt").write_text(line.format(name="2007_000004"))
    split = Split(dataset_of(folder), folder, FileList(folder / "mine.txt"), "train_aug")
    assert split.image_path(0) == folder / "train_aug/image/2007_000004.ppm"
    assert split.label_path(0) == folder / "train_aug/label/2007_000004.pgm"
    split.check_files(with_labels=True)
    assert np.array_equal(split.label(0), mask(104, 21, None))


def test_originals_that_are_there_and_other_files_are_what_they_are_called(tmp_path: Path) -> None:
    _, source, *more = request("voc", tmp_path)
    folder = tmp_path / "voc"
    assert prepare("voc", source, folder, *more, *DECODED) == 0
    shutil.copy(source / "VOC2012/JPEGImages/2007_000001.jpg", folder / "train_aug/image/2007_000004.jpg")
    (folder / "mine.txt").write_text("/train_aug/image/2007_000004.jpg\n/train_aug/image/none.jpg\n/elsewhere/x.jpg")
    split = Split(dataset_of(folder), folder, FileList(folder / "mine.txt"), "train_aug")
    assert split.image_path(0).suffix == split.image_path(1).suffix == split.image_path(2).suffix == ".jpg"


def test_too_little_room_is_one_line_before_anything_is_written(tmp_path: Path, capfd, monkeypatch) -> None:
    source = make_city(tmp_path / "source")
    usage = shutil.disk_usage(tmp_path)._replace(free=1000)
    monkeypatch.setattr(decoded.shutil, "disk_usage", lambda _: usage)
    message = error_of(capfd, "city", source, tmp_path / "city", *DECODED)
    assert f"not enough room for {tmp_path / 'city.partial'}: decoded images take 57.3 kB, 1.0 kB are free" in message
    assert not (tmp_path / "city").exists() and not (tmp_path / "city.partial").exists()


@pytest.mark.parametrize("packed", [False, True])
def test_what_is_said_to_be_taken_is_taken(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, packed: bool) -> None:
    _, source = request("folder", tmp_path)
    said: list[int] = []
    monkeypatch.setattr(decoded, "_said", lambda size: said.append(size) or "")
    monkeypatch.setattr(decoded, "HEAD", 10)  # in which no image tells its size
    source = pack(source, tmp_path / "own.zip") if packed else source
    assert prepare("folder", source, tmp_path / "out", *DECODED) == 0
    files = [path for path in (tmp_path / "out").rglob("*.p?m")]
    assert len(files) == 13 and said[0] == sum(4096 * -(-path.stat().st_size // 4096) for path in files)


@pytest.mark.parametrize("workers", [1, 2])
def test_a_disk_that_gets_full_is_gone_on_from(tmp_path: Path, capfd, monkeypatch, workers: int) -> None:
    source, folder = tmp_path / "source", tmp_path / "camvid"
    for part, count in (("train", 40), ("val", 2)):
        for number in range(count):
            write_image(source / f"{part}/images/{number}.png", number)
            write_mask(source / f"{part}/labels/{number}.png", mask(number, 11))
    asked = ["camvid", source, folder, "--files", "decoded", "--workers", workers]
    real = Path.write_bytes

    def write(path: Path, content: bytes) -> int:
        if path.name.startswith(".30.ppm"):  # as its temporary name does
            raise OSError(28, "No space left on device")
        return real(path, content)

    monkeypatch.setattr(Path, "write_bytes", write)
    message = error_of(capfd, *asked)
    assert f"cannot write {tmp_path / 'camvid.partial/train/images/30.ppm'}: No space left on device" in message
    assert not folder.exists()
    monkeypatch.undo()
    there = tmp_path / "camvid.partial/train/images/3.ppm"
    before, done = there.stat().st_ino, len(list((tmp_path / "camvid.partial").rglob("*.ppm")))

    def decode(content: np.ndarray, name: str) -> np.ndarray:
        assert not name.endswith("train/images/3.png")  # nobody reads it again
        return decode_image(content, name)

    monkeypatch.setattr(placing, "decode_image", decode)
    said: list[int] = []
    monkeypatch.setattr(decoded, "_said", lambda size: said.append(size) or "")
    assert prepare(*asked) == 0
    assert said[0] == (42 - done) * 2 * 4096  # what is there needs no room any more
    assert not list(folder.rglob(".*")) and len(lines(folder / "train.txt")) == 40
    assert (folder / "train/images/3.ppm").stat().st_ino == before
    assert (FileList(folder / "train.txt")[3]) == "/train/images/11.ppm\t/train/labels/11.pgm"


@pytest.mark.parametrize("damage", [lambda content: content[:30], lambda content: b"no image at all"])
def test_an_image_that_cannot_be_decoded_is_named(tmp_path: Path, capfd, damage: Callable[[bytes], bytes]) -> None:
    source = make_city(tmp_path / "source")
    path = next(source.rglob("ulm_000001_*_leftImg8bit.png"))
    path.write_bytes(damage(path.read_bytes()))
    assert f"image not readable: {path}" in error_of(capfd, "city", source, tmp_path / "city", *DECODED)


def test_a_mask_of_another_size_is_refused(tmp_path: Path, capfd) -> None:
    source = make_own(tmp_path / "own")
    write_mask(source / "masks/3.png", mask(3, 2)[:-1])
    message = error_of(capfd, "folder", source, tmp_path / "out", *DECODED)
    assert f"masks do not fit their images: 1, the first: {source / 'images/3.png'} is 12 x 16" in message
    write_mask(source / "masks/3.png", mask(3, 2))
    assert prepare("folder", source, tmp_path / "out", *DECODED) == 0


def test_the_official_lists_validate_what_they_name(tmp_path: Path) -> None:
    _, source, *more = request("voc", tmp_path)
    assert prepare("voc", source, tmp_path / "voc", *more, *DECODED) == 0
    assert lines(tmp_path / "voc/val.txt") == [f"/val/image/{n}.ppm\t/val/label/{n}.pgm" for n in VOC_VAL]
