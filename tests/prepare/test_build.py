"""Downloads become data sets: masks hold the right indices, lists the right images, and nothing is left half-made."""

import io
import json
import os
import shutil
import stat
import tarfile
import zipfile
from pathlib import Path

import cv2
import numpy as np
import pytest
from layouts import (
    ONE,
    SIZE,
    VOC_VAL,
    error_of,
    lines,
    make_camvid,
    make_city,
    make_sbd,
    make_segnet_camvid,
    make_voc,
    mask,
    pack,
    picture,
    prepare,
    write_image,
    write_mask,
)
from repository import REPOSITORY

from furnace.data.images import read_image, read_label
from furnace.prepare.check import check, dataset_of
from furnace.prepare.official import CITYSCAPES_CITIES, CITYSCAPES_COUNTS, CITYSCAPES_TRAIN_IDS

EVERYTHING = ["voc", "city", "camvid"]


def snapshot(folder: Path) -> dict[str, tuple]:
    """Every file below `folder` with what would show that somebody touched it."""
    return {
        path.relative_to(folder).as_posix(): (
            path.stat().st_mtime_ns,
            stat.S_IMODE(path.stat().st_mode),
            path.read_bytes(),
        )
        for path in sorted(folder.rglob("*"))
        if path.is_file()
    }


def test_voc_is_augmented_by_sbd(tmp_path: Path, capfd: pytest.CaptureFixture) -> None:
    source, sbd, folder = make_voc(tmp_path), make_sbd(tmp_path), tmp_path / "pascal_voc"
    before = snapshot(source) | snapshot(sbd)
    assert prepare("voc", source, folder, "--sbd", sbd, "--ratios", "2", *ONE) == 0
    names = [f"2007_00000{number}" for number in (0, 1, 4, 5, 6, 7)]  # 2 validates, 7 has its image in SBD alone
    assert lines(folder / "train_aug.txt") == [f"/train_aug/image/{n}.jpg\t/train_aug/label/{n}.png" for n in names]
    assert lines(folder / "val.txt") == [f"/val/image/{n}.jpg\t/val/label/{n}.png" for n in VOC_VAL]
    for number in (0, 1):  # VOC's own mask, not SBD's
        assert (read_label(folder / f"train_aug/label/2007_00000{number}.png", 21) == mask(number, 21)).all()
    for number in (4, 5, 6, 7):
        found = read_label(folder / f"train_aug/label/2007_00000{number}.png", 21)
        assert (found == mask(100 + number, 21, None)).all()
    stored = cv2.imread(str(folder / "train_aug/label/2007_000000.png"), cv2.IMREAD_UNCHANGED)
    assert stored.shape == SIZE and stored.dtype == np.uint8  # indices, no palette
    image = folder / "train_aug/image/2007_000004.jpg"
    assert image.is_symlink() and image.resolve() == (source / "VOC2012/JPEGImages/2007_000004.jpg").resolve()
    labeled = lines(folder / "subset_train_aug/train_aug_labeled_1-2.txt")
    unlabeled = lines(folder / "subset_train_aug/train_aug_unlabeled_1-2.txt")
    assert len(labeled) == 3 and all("\t" in line for line in labeled)
    assert sorted([line.split("\t")[0] for line in labeled] + unlabeled) == [f"/train_aug/image/{n}.jpg" for n in names]
    assert snapshot(source) | snapshot(sbd) == before
    warnings = capfd.readouterr().err
    assert "warning: 6 training images, the official data set has 10,582" in warnings
    assert "warning: 2 validation images, the official data set has 1,449" in warnings
    assert f"note: lists from {source / 'VOC2012/ImageSets/Segmentation'}" in warnings
    assert f"note: further masks as {sbd / 'dataset/cls'}" in warnings


def test_voc_without_sbd_says_what_is_missing(tmp_path: Path, capfd: pytest.CaptureFixture) -> None:
    source = make_voc(tmp_path)
    (source / "VOC2012/JPEGImages/2007_000001.jpg").unlink()
    (source / "VOC2012/SegmentationClass/2007_000003.png").unlink()
    assert prepare("voc", source, tmp_path / "out", *ONE) == 0
    warnings = capfd.readouterr().err
    assert "warning: SBD is missing" in warnings and "--sbd" in warnings
    assert "warning: train_aug: images missing: 1: 2007_000001" in warnings
    assert "warning: val: masks missing: 1: 2007_000003" in warnings
    assert lines(tmp_path / "out/train_aug.txt") == [
        "/train_aug/image/2007_000000.jpg\t/train_aug/label/2007_000000.png"
    ]


@pytest.mark.parametrize("where", ["beside", "inside", "zip"])
def test_voc_takes_ready_made_augmented_masks(tmp_path: Path, where: str) -> None:
    source = make_voc(tmp_path)
    masks = source / "VOC2012/SegmentationClassAug" if where == "inside" else tmp_path / "SegmentationClassAug"
    for number in range(7):
        write_mask(masks / f"2007_00000{number}.png", mask(200 + number, 21))
    given = [] if where == "inside" else ["--sbd", masks]
    if where == "zip":
        given = ["--sbd", pack(tmp_path / "SegmentationClassAug", tmp_path / "aug.zip", "SegmentationClassAug/")]
    assert prepare("voc", source, tmp_path / "out", *given, *ONE) == 0
    assert len(lines(tmp_path / "out/train_aug.txt")) == 5
    assert (read_label(tmp_path / "out/train_aug/label/2007_000005.png", 21) == mask(205, 21)).all()


@pytest.mark.parametrize("ids", ["labelIds", "labelTrainIds"])
def test_city_maps_label_ids(tmp_path: Path, ids: str, capfd: pytest.CaptureFixture) -> None:
    source, folder = make_city(tmp_path / "source", ids), tmp_path / "city"
    assert prepare("city", source, folder, "--ratios", "2", *ONE) == 0
    names = [
        "aachen_000000_000019",
        "aachen_000001_000019",
        "aachen_000002_000019",
        "ulm_000000_000019",
        "ulm_000001_000019",
    ]
    expected = [f"/images/train/{name}.png\t/segmentation/train/{name}_gtFine.png" for name in names]
    assert lines(folder / "config_new/train.txt") == expected
    assert len(lines(folder / "config_new/val.txt")) == 2
    assert len(lines(folder / "config_new/subset_train/train_aug_labeled_1-2.txt")) == 2
    stored = mask(1, 34 if ids == "labelIds" else 19, None)
    longhand = np.array(
        [[CITYSCAPES_TRAIN_IDS.get(int(v), 255) if ids == "labelIds" else int(v) for v in row] for row in stored]
    )
    assert (read_label(folder / "segmentation/train/aachen_000001_000019_gtFine.png", 19) == longhand).all()
    assert (read_image(folder / "images/train/ulm_000001_000019.png")[..., ::-1] == picture(1)).all()
    warnings = capfd.readouterr().err
    assert "warning: train: 3 of 174 images of aachen" in warnings and "warning: val: 0 of 59" not in warnings
    assert "warning: val: 0 of 267 images of frankfurt" in warnings
    assert "warning: 5 training images, the official data set has 2,975" in warnings
    assert f"note: images from {source / 'leftImg8bit'}, masks from {source / 'gtFine'}" in warnings
    assert ("7 masks hold ready-made train ids" in warnings) == (ids == "labelTrainIds")


def test_city_facts_agree() -> None:
    assert tuple(sum(cities.values()) for cities in CITYSCAPES_CITIES.values()) == CITYSCAPES_COUNTS == (2975, 500)
    assert sorted(CITYSCAPES_TRAIN_IDS.values()) == list(range(19))


def test_city_from_the_two_zip_files(tmp_path: Path) -> None:
    source = make_city(tmp_path / "source")
    for name in ("leftImg8bit", "gtFine"):
        pack(source / name, tmp_path / f"downloads/{name}_trainvaltest.zip", f"{name}/")
    (tmp_path / "downloads/license.txt").write_text("terms")
    assert prepare("city", tmp_path / "downloads", tmp_path / "city", "--workers", 2) == 0
    assert prepare("city", source, tmp_path / "plain", *ONE) == 0
    image = tmp_path / "city/images/train/ulm_000001_000019.png"
    assert not image.is_symlink() and (read_image(image)[..., ::-1] == picture(1)).all()
    assert_same_data(tmp_path / "city", tmp_path / "plain")


def assert_same_data(one: Path, other: Path) -> None:
    """The same files with the same content, however they were made."""
    files = [sorted(path.relative_to(root) for path in root.rglob("*") if path.is_file()) for root in (one, other)]
    assert files[0] == files[1]
    for name in files[0]:
        if name.name != "prepared.json":
            assert (one / name).read_bytes() == (other / name).read_bytes(), name


@pytest.mark.parametrize("ending", ["tar", "tgz", "tar.xz", "zip"])
def test_voc_from_archives(tmp_path: Path, ending: str) -> None:
    source, sbd = make_voc(tmp_path), make_sbd(tmp_path)
    archive = pack(source, tmp_path / f"VOCtrainval.{ending}", "VOCdevkit/")
    sbd_archive = pack(sbd, tmp_path / f"benchmark.{ending}", "benchmark_RELEASE/")
    assert prepare("voc", archive, tmp_path / "out", "--sbd", sbd_archive, "--workers", 2) == 0
    assert prepare("voc", source, tmp_path / "plain", "--sbd", sbd, "--files", "copy", *ONE) == 0
    assert_same_data(tmp_path / "out", tmp_path / "plain")


@pytest.mark.parametrize("form", ["ours", "segnet"])
def test_camvid(tmp_path: Path, form: str, capfd: pytest.CaptureFixture) -> None:
    make = make_segnet_camvid if form == "segnet" else make_camvid
    assert prepare("camvid", make(tmp_path / "source"), tmp_path / "out", "--ratios", "2", *ONE) == 0
    assert f"masks from {tmp_path / 'source'}/{'CamVid/valannot' if form == 'segnet' else 'val/labels'}" in (
        capfd.readouterr().err
    )
    assert len(lines(tmp_path / "out/train.txt")) == 5 and len(lines(tmp_path / "out/val.txt")) == 2
    path = tmp_path / "out" / lines(tmp_path / "out/train.txt")[2].split("\t")[1][1:]
    expected = mask(2, 12, None) if form == "segnet" else mask(2, 11)
    assert (read_label(path, 11) == np.where(expected == 11, 255, expected)).all()


def test_the_tracked_camvid_lists_are_those_that_prepare_draws(tmp_path: Path) -> None:
    if not (REPOSITORY / "DATA/camvid").is_dir():
        pytest.skip("DATA/camvid is not linked")
    ratios = ("--ratios", "32,16,8,4,2,1")
    assert prepare("camvid", REPOSITORY / "DATA/camvid", tmp_path / "camvid", *ratios, *ONE) == 0
    for path in (REPOSITORY / "exp.camvid/ensemble_teacher+cutmix/lists").iterdir():
        assert path.read_text() == (tmp_path / "camvid" / path.name).read_text()


def test_the_same_request_again_does_nothing(tmp_path: Path, capfd: pytest.CaptureFixture) -> None:
    source, folder = make_city(tmp_path / "source"), tmp_path / "city"
    assert prepare("city", source, folder, *ONE) == 0
    before = snapshot(folder)
    assert prepare("city", source, folder) == 0  # however many workers
    assert "nothing to do" in capfd.readouterr().out and snapshot(folder) == before
    message = error_of(capfd, "city", source, folder, "--seed", 1)
    assert (
        "there already: expected a new folder" in message and "another request (with another --seed); name" in message
    )
    assert snapshot(folder) == before


@pytest.mark.parametrize("occupied_by", ["file", "folder"])
def test_what_is_there_is_never_touched(tmp_path: Path, capfd: pytest.CaptureFixture, occupied_by: str) -> None:
    folder = tmp_path / "city"
    if occupied_by == "file":
        folder.write_text("precious")
    else:
        folder.mkdir()
        (folder / "list.txt").write_text("precious")
    assert "there already" in error_of(capfd, "city", make_city(tmp_path / "source"), folder, *ONE)
    assert (folder if occupied_by == "file" else folder / "list.txt").read_text() == "precious"
    assert not (tmp_path / "city.partial").exists()


def test_it_goes_on_where_it_was_interrupted(tmp_path: Path, capfd: pytest.CaptureFixture, monkeypatch) -> None:
    """A bad mask ends it without a folder; when the mask is mended, what was made is not made again."""
    source, folder = make_city(tmp_path / "source"), tmp_path / "city"
    bad = source / "gtFine/train/ulm/ulm_000001_000019_gtFine_labelIds.png"
    whole = bad.read_bytes()
    bad.write_bytes(whole[:40])
    assert f"label not readable: {bad}" in error_of(capfd, "city", source, folder, *ONE)
    assert not folder.exists()
    made = tmp_path / "city.partial/segmentation/train/aachen_000000_000019_gtFine.png"
    before = made.stat().st_ino
    assert "was begun for another request" in error_of(capfd, "city", source, folder, "--files", "copy", *ONE)
    bad.write_bytes(whole)
    assert prepare("city", source, folder, *ONE) == 0
    assert not (tmp_path / "city.partial").exists()
    assert (folder / "segmentation/train" / made.name).stat().st_ino == before
    assert prepare("city", source, tmp_path / "at_once", *ONE) == 0
    assert_same_data(folder, tmp_path / "at_once")


def test_ctrl_c_leaves_something_to_go_on_with(tmp_path: Path, monkeypatch) -> None:
    from furnace.prepare import placing

    source, folder = make_city(tmp_path / "source"), tmp_path / "city"
    real, calls = placing._place_mask, []

    def interrupted(*arguments) -> object:
        calls.append(arguments)
        if len(calls) == 4:
            raise KeyboardInterrupt
        return real(*arguments)

    monkeypatch.setattr(placing, "_place_mask", interrupted)
    assert prepare("city", source, folder, *ONE) == 130
    assert not folder.exists() and len(list((tmp_path / "city.partial/segmentation").rglob("*.png"))) == 3
    assert prepare("city", source, folder, *ONE) == 0
    assert len(calls) == 4 + 7  # 7 pairs looked at anew, and masks that were there are skipped inside
    assert folder.is_dir()


BAD_VALUES = {
    "voc": ("VOCdevkit/VOC2012/SegmentationClass/2007_000001.png", 21),
    "city": ("gtFine/train/ulm/ulm_000001_000019_gtFine_labelIds.png", 34),
    "camvid": ("train/labels/0001TP_train1.png", 12),
}


@pytest.mark.parametrize("kind", EVERYTHING)
def test_a_mask_with_another_value_is_named(tmp_path: Path, capfd: pytest.CaptureFixture, kind: str) -> None:
    {"voc": make_voc, "city": make_city, "camvid": make_camvid}[kind](tmp_path / "source")
    name, value = BAD_VALUES[kind]
    write_mask(tmp_path / "source" / name, np.full(SIZE, value, dtype=np.uint8))
    message = error_of(capfd, kind, tmp_path / "source", tmp_path / "out", *ONE)
    assert f"{tmp_path / 'source' / name} has the value {value}" in message
    assert not (tmp_path / "out").exists()


def test_sbd_masks_that_are_none(tmp_path: Path, capfd: pytest.CaptureFixture) -> None:
    source, sbd = make_voc(tmp_path), make_sbd(tmp_path)
    path = sbd / "dataset/cls/2007_000004.mat"
    for content in (b"", b"no mat file", path.read_bytes()[:150]):
        path.write_bytes(content)
        message = error_of(capfd, "voc", source, tmp_path / "out", "--sbd", sbd, *ONE)
        assert f"mask not readable: {path}: no .mat file of SBD" in message
    for absent in (tmp_path / "nowhere", tmp_path / "empty"):
        (tmp_path / "empty").mkdir(exist_ok=True)
        shutil.rmtree(tmp_path / "out.partial", ignore_errors=True)
        assert str(absent) in error_of(capfd, "voc", source, tmp_path / "out", "--sbd", absent, *ONE)
        assert not (tmp_path / "out.partial").exists()


@pytest.mark.parametrize("kind", EVERYTHING)
@pytest.mark.parametrize("source", ["missing", "empty", "text file", "in itself"])
def test_a_source_that_is_none(tmp_path: Path, capfd: pytest.CaptureFixture, kind: str, source: str) -> None:
    place, folder = tmp_path / "source", tmp_path / "out"
    if source == "empty":
        place.mkdir()
    elif source == "text file":
        place.write_text("hello")
    elif source == "in itself":
        place.mkdir()
        folder = place / "out"
    message = error_of(capfd, kind, place, folder, *ONE)
    assert str(place) in message and not folder.exists()
    assert sorted(tmp_path.iterdir()) == ([] if source == "missing" else [place])


def tar_of(path: Path, *members: tarfile.TarInfo, mode: str = "w") -> Path:
    with tarfile.open(path, mode) as archive:
        for member in members:
            member.size = 5 if member.isreg() else 0
            archive.addfile(member, io.BytesIO(b"hello") if member.isreg() else None)
    return path


def link(name: str, target: str, kind: bytes = tarfile.SYMTYPE) -> tarfile.TarInfo:
    member = tarfile.TarInfo(name)
    member.type, member.linkname = kind, target
    return member


@pytest.mark.parametrize("name", ["../outside.txt", "/tmp/furnace_outside.txt", "leftImg8bit/../../outside.txt"])
@pytest.mark.parametrize("ending", ["tar", "tgz", "zip"])
def test_an_archive_with_a_path_outside_is_refused(
    tmp_path: Path, capfd: pytest.CaptureFixture, name: str, ending: str
) -> None:
    path = tmp_path / f"inside/bad.{ending}"
    path.parent.mkdir()
    if ending == "zip":
        with zipfile.ZipFile(path, "w") as archive:
            archive.writestr(name, "hello")
    else:
        tar_of(path, tarfile.TarInfo(name), mode="w" if ending == "tar" else "w:gz")
    message = error_of(capfd, "city", path, tmp_path / "inside/out", *ONE)
    assert f"archive refused: {path}: it holds the path" in message
    assert sorted(tmp_path.rglob("*")) == [tmp_path / "inside", path]
    assert not Path("/tmp/furnace_outside.txt").exists()


@pytest.mark.parametrize("ending", ["tar", "tgz"])
@pytest.mark.parametrize("kind", [tarfile.SYMTYPE, tarfile.LNKTYPE])
def test_links_in_an_archive_lead_nowhere(
    tmp_path: Path, capfd: pytest.CaptureFixture, ending: str, kind: bytes
) -> None:
    """A folder that is a link, and a file to be written through it; and an image that is a link to a secret."""
    outside = tmp_path / "outside"
    outside.mkdir()
    (outside / "secret.png").write_bytes(b"secret")
    name = "leftImg8bit/train/ulm/ulm_000000_000019_leftImg8bit.png"
    path = tar_of(
        tmp_path / f"bad.{ending}",
        link("leftImg8bit/train/aachen", str(outside)),
        tarfile.TarInfo("leftImg8bit/train/aachen/written.png"),
        link(name, str(outside / "secret.png"), kind),
        tarfile.TarInfo("gtFine/train/ulm/ulm_000000_000019_gtFine_labelIds.png"),
        mode="w" if ending == "tar" else "w:gz",
    )
    prepare("city", path, tmp_path / "out", *ONE)
    assert list(outside.iterdir()) == [outside / "secret.png"]
    assert not [file for file in tmp_path.rglob("*ulm*") if file.is_file() and file.read_bytes() == b"secret"]


def test_links_in_a_zip_are_no_images(tmp_path: Path, capfd: pytest.CaptureFixture) -> None:
    source = make_city(tmp_path / "source")
    archive = pack(source, tmp_path / "all.zip")
    entry = zipfile.ZipInfo("leftImg8bit/train/ulm/ulm_000009_000019_leftImg8bit.png")
    entry.external_attr = (stat.S_IFLNK | 0o777) << 16
    with zipfile.ZipFile(archive, "a") as target:
        target.writestr(entry, "/etc/passwd")
    assert prepare("city", archive, tmp_path / "out", *ONE) == 0
    assert not list((tmp_path / "out").rglob("ulm_000009*"))


@pytest.mark.parametrize("ending", ["tar", "tgz", "tar.xz", "zip"])
@pytest.mark.parametrize("share", [0.1, 0.5, 0.9])
def test_a_truncated_archive_is_named(tmp_path: Path, capfd: pytest.CaptureFixture, ending: str, share: float) -> None:
    path = pack(make_city(tmp_path / "source"), tmp_path / f"all.{ending}")
    path.write_bytes(path.read_bytes()[: int(share * path.stat().st_size)])
    message = error_of(capfd, "city", path, tmp_path / "out", *ONE)
    assert str(path) in message
    assert not (tmp_path / "out").exists() and not (tmp_path / "out.partial").exists()


def test_a_damaged_file_in_a_zip_is_named(tmp_path: Path, capfd: pytest.CaptureFixture) -> None:
    path = pack(make_city(tmp_path / "source"), tmp_path / "all.zip")
    with zipfile.ZipFile(path) as archive:
        entry = next(entry for entry in archive.infolist() if "ulm_000001_000019_gtFine_labelIds" in entry.filename)
        place = entry.header_offset + 30 + len(entry.filename) + entry.compress_size // 2
    content = bytearray(path.read_bytes())
    content[place] ^= 0xFF
    path.write_bytes(content)
    assert f"archive not readable: {path}" in error_of(capfd, "city", path, tmp_path / "out", *ONE)
    assert not (tmp_path / "out").exists()


def test_a_full_disk_is_one_line(tmp_path: Path, capfd: pytest.CaptureFixture, monkeypatch) -> None:
    from furnace.prepare import build

    def full(*_) -> None:
        raise OSError(28, "No space left on device")

    source = make_city(tmp_path / "source")
    monkeypatch.setattr(build.os, "replace", full)
    assert "No space left on device" in error_of(capfd, "city", source, tmp_path / "out", *ONE)


@pytest.mark.parametrize("workers", [1, 2])
def test_a_disk_that_gets_full_is_gone_on_from(
    tmp_path: Path, capfd: pytest.CaptureFixture, monkeypatch: pytest.MonkeyPatch, workers: int
) -> None:
    source, folder = tmp_path / "source", tmp_path / "camvid"
    for part, count in (("train", 80), ("val", 2)):
        for number in range(count):
            write_image(source / f"{part}/images/{number}.png", number)
            write_mask(source / f"{part}/labels/{number}.png", mask(number, 11))
    request = ["camvid", source, folder, "--files", "copy", "--workers", workers]
    real = Path.write_bytes

    def write(path: Path, content: bytes) -> int:
        if path.name.startswith(".40."):  # as its temporary name does
            raise OSError(28, "No space left on device")
        return real(path, content)

    monkeypatch.setattr(Path, "write_bytes", write)
    message = error_of(capfd, *request)
    assert f"cannot write {tmp_path / 'camvid.partial/train/images/40.png'}: No space left on device" in message
    assert not folder.exists()
    monkeypatch.undo()
    assert prepare(*request) == 0
    assert not list(folder.rglob(".*")) and len(lines(folder / "train.txt")) == 80


@pytest.mark.parametrize("leads_to", ["an empty folder", "nothing yet"])
def test_a_folder_that_is_a_link_stays_one(tmp_path: Path, leads_to: str) -> None:
    """`DATA/city` on another disk."""
    disk, folder = tmp_path / "disk/city", tmp_path / "city"
    (disk if leads_to == "an empty folder" else disk.parent).mkdir(parents=True)
    folder.symlink_to(disk)
    source = make_city(tmp_path / "source")
    assert prepare("city", source, folder, *ONE) == 0
    assert folder.is_symlink() and len(lines(disk / "config_new/train.txt")) == 5
    assert sorted(path.name for path in tmp_path.iterdir()) == ["city", "disk", "source"]


def test_a_mount_point_is_said_at_once(tmp_path: Path, capfd: pytest.CaptureFixture) -> None:
    """It could not be renamed into place."""
    assert "/ is a mount point" in error_of(capfd, "city", make_city(tmp_path / "source"), "/", *ONE)


def test_sbd_is_a_source_too(tmp_path: Path, capfd: pytest.CaptureFixture) -> None:
    source, sbd = make_voc(tmp_path), make_sbd(tmp_path)
    before = snapshot(sbd)
    assert f"lies in the source {sbd}" in error_of(capfd, "voc", source, sbd / "out", "--sbd", sbd, *ONE)
    assert snapshot(sbd) == before and not (sbd / "out.partial").exists()


@pytest.mark.parametrize("kind", ["city", "camvid"])
def test_no_mask_at_all_is_no_data_set(tmp_path: Path, capfd: pytest.CaptureFixture, kind: str) -> None:
    source = (make_city if kind == "city" else make_camvid)(tmp_path / "source")
    for path in source.rglob("*.png"):
        if "labelIds" in path.name or "labels" in path.parts:
            path.rename(path.with_suffix(".txt"))
    assert "nothing to train with" in error_of(capfd, kind, source, tmp_path / "out", *ONE)
    assert not (tmp_path / "out").exists() and not (tmp_path / "out.partial").exists()


def test_all_may_be_labelled(tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    out = tmp_path / "out"
    assert prepare("camvid", make_camvid(tmp_path / "source"), out, "--ratios", "2,1", *ONE) == 0
    assert lines(out / "labeled_1-1.txt") == lines(out / "train.txt") and len(lines(out / "train.txt")) == 5
    assert (out / "unlabeled_1-1.txt").read_bytes() == b""
    assert [len(lines(out / f"{name}_1-2.txt")) for name in ("labeled", "unlabeled")] == [2, 3]
    said = capsys.readouterr().out
    assert (
        "labeled_1-1.txt labels all 5 training images with masks: train with labeled_ratio=1 method=supervised" in said
    )
    written = json.loads((out / "prepared.json").read_text())["lists"]
    assert [written[f"{name}_1-1.txt"]["entries"] for name in ("labeled", "unlabeled")] == [5, 0]


def test_ratio_1_is_drawn_on_request_alone_where_every_image_has_a_mask(tmp_path: Path) -> None:
    assert prepare("camvid", make_camvid(tmp_path / "source"), tmp_path / "out", *ONE) == 0
    assert not list((tmp_path / "out").glob("*_1-1.txt"))


def test_a_read_only_place_is_one_line(tmp_path: Path, capfd: pytest.CaptureFixture) -> None:
    (tmp_path / "file").write_text("")
    source = make_city(tmp_path / "source")
    assert "cannot write" in error_of(capfd, "city", source, tmp_path / "file/out", *ONE)


def test_every_image_and_mask_can_be_opened(tmp_path: Path) -> None:
    """What was prepared passes the check."""
    assert prepare("voc", make_voc(tmp_path), tmp_path / "voc", "--sbd", make_sbd(tmp_path), "--ratios", "2", *ONE) == 0
    report = check(dataset_of(tmp_path / "voc"), tmp_path / "voc", tmp_path / "voc", 1, lambda steps, total: steps)
    assert [problem for problem in report.problems if problem.kind != "duplicate"] == []
    record = json.loads((tmp_path / "voc/prepared.json").read_text())
    assert record["request"]["kind"] == "voc" and record["lists"]["train_aug.txt"]["entries"] == 6
    assert os.fspath(tmp_path) in record["request"]["source"] and len(record["warnings"]) == 2


def test_help_shows_an_example(capsys: pytest.CaptureFixture) -> None:
    for kind in ("voc", "city", "camvid", "folder", "split", "check"):
        with pytest.raises(SystemExit) as exit_:
            prepare(kind, "--help")
        assert exit_.value.code == 0
        assert f"example: python -m furnace prepare {kind}" in capsys.readouterr().out


def test_where_no_links_can_be_made_images_are_copied(
    tmp_path: Path, capfd: pytest.CaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: object) -> None:
        raise PermissionError(1, "Operation not permitted")

    source, folder = make_city(tmp_path / "source"), tmp_path / "city"
    monkeypatch.setattr(os, "symlink", refuse)
    assert prepare("city", source, folder, *ONE) == 0
    note = (
        f"note: no links can be made in {tmp_path} (Operation not permitted): images are copied, as with --files copy"
    )
    assert capfd.readouterr().err.count(note) == 1
    images = list((folder / "images").rglob("*.png"))
    assert images and not any(path.is_symlink() for path in images) and not list(folder.rglob(".link"))
