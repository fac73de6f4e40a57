"""What cannot be learned from masks is said in a line at the start, from a look that takes a moment."""

from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np
import pytest

from furnace.data import learnable
from furnace.data.datasets import CAMVID
from furnace.data.entries import Split
from furnace.data.file_list import FileList
from furnace.data.learnable import fault_of, look_at_masks, never_taught, shared_images
from furnace.errors import InputError

DATASET = replace(CAMVID, classes=("ground", "plant", "stone"), palette=CAMVID.palette[:3])
CLASSES = DATASET.classes


def split_of(folder: Path, name: str, *values: tuple[int, ...]) -> Split:
    """A list with a mask for each tuple, which holds these values."""
    (folder / "masks").mkdir(exist_ok=True)
    for number, shown in enumerate(values):
        cv2.imwrite(str(folder / f"masks/{name}{number}.png"), np.resize(np.array(shown, np.uint8), (4, 5)))
    lines = (f"images/{name}{number}.jpg\tmasks/{name}{number}.png\n" for number in range(len(values)))
    (folder / f"{name}.txt").write_text("".join(lines))
    return Split(DATASET, folder, FileList(folder / f"{name}.txt"), "train")


def test_faults_of_counts() -> None:
    assert fault_of(np.array([3, 0, 1, 9]), CLASSES) is None
    assert "no pixel of its masks has a class" in str(fault_of(np.array([0, 0, 0, 9]), CLASSES))
    assert "'plant' or ignored" in str(fault_of(np.array([0, 5, 0, 9]), CLASSES))
    assert never_taught(np.array([1, 0, 0, 5]), np.array([1, 0, 0, 5]), CLASSES) is None
    assert "shows plant, stone, which val" in str(never_taught(np.array([1, 0, 0, 5]), np.array([1, 1, 1, 0]), CLASSES))


def test_good_masks_say_nothing(tmp_path: Path) -> None:
    assert look_at_masks(split_of(tmp_path, "labeled", (0, 1), (2, 255)), split_of(tmp_path, "val", (0, 2))) == []


def test_one_class_among_what_is_ignored(tmp_path: Path) -> None:
    first, second = look_at_masks(split_of(tmp_path, "labeled", (1, 255), (1,)), split_of(tmp_path, "val", (1, 255)))
    assert first.startswith(f"{tmp_path}/labeled.txt: every pixel of its masks is 'plant' or ignored")
    assert second.startswith(f"{tmp_path}/val.txt: every pixel")


def test_no_labelled_pixel_is_refused(tmp_path: Path) -> None:
    labeled = split_of(tmp_path, "labeled", (255,), (255,))
    with pytest.raises(InputError, match=r"nothing to learn from: .*labeled\.txt: no pixel of its masks has a class"):
        look_at_masks(labeled, None)


def test_a_class_that_only_val_shows(tmp_path: Path) -> None:
    (line,) = look_at_masks(split_of(tmp_path, "labeled", (0, 1)), split_of(tmp_path, "val", (0, 2)))
    assert line == f"{tmp_path}/labeled.txt: no mask of it shows stone, which val shows: that cannot be learned"


def test_an_evaluation_looks_at_val_alone(tmp_path: Path) -> None:
    (line,) = look_at_masks(None, split_of(tmp_path, "val", (255,)))
    assert line == f"{tmp_path}/val.txt: no pixel of its masks has a class: all are ignored"


def test_a_long_list_is_looked_at_in_part(tmp_path: Path, monkeypatch) -> None:
    """So that nothing is concluded from masks that were not read, and the start takes no longer."""
    opened = []
    read = learnable.read_label_and_counts
    monkeypatch.setattr(
        learnable, "read_label_and_counts", lambda path, *rest: opened.append(path) or read(path, *rest)
    )
    monkeypatch.setattr(learnable, "MOST_MASKS", 3)
    monkeypatch.setattr(learnable, "MOST_SECONDS", 1000)
    (line,) = look_at_masks(split_of(tmp_path, "labeled", *[(255,)] * 9), split_of(tmp_path, "val", (0, 1)))
    assert line.startswith(f"{tmp_path}/labeled.txt (3 of 9 looked at): no pixel") and len(opened) == 4
    monkeypatch.setattr(learnable, "MOST_SECONDS", 0)
    look_at_masks(None, split_of(tmp_path, "val", (0, 1)))
    assert len(opened) == 4


def test_images_that_train_and_validate(tmp_path: Path, monkeypatch) -> None:
    val, other = split_of(tmp_path, "val", (0, 1), (0, 1)), split_of(tmp_path, "other", (0, 1))
    (tmp_path / "both.txt").write_text("images/z.jpg\nimages/val1.jpg\n")
    (tmp_path / "images").mkdir()
    both = Split(DATASET, tmp_path, FileList(tmp_path / "both.txt"), "train")
    (line,) = shared_images((other, both), val)
    assert line.startswith(f"{tmp_path}/images/val1.jpg trains and validates: it is in {tmp_path}/both.txt")
    monkeypatch.setattr(learnable, "MOST_ENTRIES", 1)
    assert shared_images((both,), val) == []
