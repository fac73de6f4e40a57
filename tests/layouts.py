"""Small copies of the official downloads, made by hand: the same folders, names, formats and oddities."""

import tarfile
import zipfile
from pathlib import Path

import cv2
import numpy as np
import pytest
from PIL import Image
from scipy.io import savemat

from furnace.__main__ import main
from furnace.data.datasets import voc_palette

SIZE = (12, 16)  # height and width of every image here


def picture(seed: int) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, (*SIZE, 3), dtype=np.uint8)


def mask(seed: int, high: int, ignore: int | None = 255) -> np.ndarray:
    found = np.random.default_rng(seed).integers(0, high, SIZE, dtype=np.uint8)
    if ignore is not None:
        found[0] = ignore
    return found


def write_image(path: Path, seed: int) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(cv2.imencode(path.suffix.lower(), picture(seed))[1].tobytes())


def write_mask(path: Path, values: np.ndarray) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(cv2.imencode(path.suffix.lower(), values)[1].tobytes())


def write_palette_mask(path: Path, values: np.ndarray) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    coloured = Image.fromarray(values, mode="P")
    coloured.putpalette(np.array(voc_palette(256), dtype=np.uint8).tobytes())
    coloured.save(path)


VOC_TRAIN, VOC_VAL = ["2007_000000", "2007_000001"], ["2007_000002", "2007_000003"]


def make_voc(root: Path) -> Path:
    """VOCdevkit/VOC2012 with images 0 to 6, palette masks of 0 to 3, and the two lists."""
    voc = root / "VOCdevkit/VOC2012"
    for number in range(7):
        write_image(voc / f"JPEGImages/2007_00000{number}.jpg", number)
    for number in range(4):
        write_palette_mask(voc / f"SegmentationClass/2007_00000{number}.png", mask(number, 21))
    (voc / "ImageSets/Segmentation").mkdir(parents=True)
    (voc / "ImageSets/Segmentation/train.txt").write_text("\n".join(VOC_TRAIN) + "\n")
    (voc / "ImageSets/Segmentation/val.txt").write_text("\r\n".join(VOC_VAL))
    return root / "VOCdevkit"


def make_sbd(root: Path) -> Path:
    """benchmark_RELEASE with images and masks of 0 (VOC has another mask), 2 (validates), 4, 5, 6, and 7 (new)."""
    data = root / "benchmark_RELEASE/dataset"
    (data / "cls").mkdir(parents=True)
    for number in (0, 2, 4, 5, 6, 7):
        content = {"Segmentation": mask(100 + number, 21, None), "CategoriesPresent": np.array([1, 2])}
        savemat(data / f"cls/2007_00000{number}.mat", {"GTcls": content}, do_compression=True)
        write_image(data / f"img/2007_00000{number}.jpg", number)
    return root / "benchmark_RELEASE"


def make_city(root: Path, ids: str = "labelIds") -> Path:
    """Two cities to train and one to validate; masks of label ids or of train ids, beside gtFine's other files."""
    for part, city, count in (("train", "aachen", 3), ("train", "ulm", 2), ("val", "lindau", 2), ("test", "bonn", 1)):
        for number in range(count):
            name = f"{city}_{number:06d}_000019"
            write_image(root / f"leftImg8bit/{part}/{city}/{name}_leftImg8bit.png", number)
            label = root / f"gtFine/{part}/{city}/{name}_gtFine"
            write_mask(Path(f"{label}_{ids}.png"), mask(number, 34 if ids == "labelIds" else 19, None))
            write_mask(Path(f"{label}_instanceIds.png"), mask(number, 200, None))
            write_image(Path(f"{label}_color.png"), number)
            Path(f"{label}_polygons.json").write_text("{}")
    return root


def make_camvid(root: Path) -> Path:
    """`train/images`, `train/labels`: 11 classes, void is 255."""
    for part, count in (("train", 5), ("val", 2)):
        for number in range(count):
            write_image(root / f"{part}/images/0001TP_{part}{number}.jpg", number)
            write_mask(root / f"{part}/labels/0001TP_{part}{number}.png", mask(number, 11))
    return root


def make_segnet_camvid(root: Path) -> Path:
    """`CamVid/train`, `CamVid/trainannot`: 11 classes, void is 11."""
    for part, count in (("train", 5), ("val", 2), ("test", 2)):
        for number in range(count):
            write_image(root / f"CamVid/{part}/0001TP_{part}{number}.png", number)
            write_mask(root / f"CamVid/{part}annot/0001TP_{part}{number}.png", mask(number, 12, None))
    return root


def pack(folder: Path, archive: Path, below: str = "") -> Path:
    """`folder` as an archive, by its ending."""
    archive.parent.mkdir(parents=True, exist_ok=True)
    files = sorted(path for path in folder.rglob("*") if path.is_file())
    names = [(path, f"{below}{path.relative_to(folder).as_posix()}") for path in files]
    if archive.suffix == ".zip":
        with zipfile.ZipFile(archive, "w", zipfile.ZIP_DEFLATED) as target:
            for path, name in names:
                target.write(path, name)
        return archive
    mode = {".tar": "w", ".tgz": "w:gz", ".gz": "w:gz", ".xz": "w:xz", ".bz2": "w:bz2"}[archive.suffix]
    with tarfile.open(archive, mode) as target:
        for path, name in names:
            target.add(path, name)
    return archive


ONE = ["--workers", "1"]


def lines(path: Path) -> list[str]:
    return path.read_text().splitlines()


def prepare(*arguments: object) -> int:
    return main(["prepare", *map(str, arguments)])


def error_of(capfd: pytest.CaptureFixture, *arguments: object) -> str:
    """The one line that a bad request prints."""
    assert prepare(*arguments) == 2
    found = [line for line in capfd.readouterr().err.splitlines() if line.startswith("error: ")]
    assert len(found) == 1
    return found[0]
