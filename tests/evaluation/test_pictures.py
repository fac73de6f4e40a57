"""What an evaluation leaves to look at."""

from pathlib import Path

import pytest
import torch

from furnace.data.datasets import VOC
from furnace.data.entries import Split
from furnace.data.file_list import FileList
from furnace.evaluation.pictures import PANEL_SIDE, EvaluationPictures, picture_names


def pictures(folder: Path) -> EvaluationPictures:
    (folder / "val.txt").write_text("\n".join(map(str, range(20))) + "\n")
    split = Split(VOC, folder, FileList(folder / "val.txt"), "val")
    return EvaluationPictures(folder / "output", split, ["v0"], "v0")


def add_images(writer: EvaluationPictures, count: int) -> None:
    for number in range(count):
        label = torch.full((5, 6), number, dtype=torch.uint8)
        writer.add(number, torch.zeros(5, 6, 3, dtype=torch.uint8), label, label[None])


def test_every_picture_is_written_when_the_context_is_left(tmp_path: Path) -> None:
    with pictures(tmp_path) as writer:
        add_images(writer, 20)
    for folder in ("results", "results_color"):
        assert len(list((tmp_path / "output" / folder).iterdir())) == 20


@pytest.mark.parametrize("count", [1, 20])
def test_pictures_that_cannot_be_written_do_not_end_the_evaluation(tmp_path: Path, count: int) -> None:
    (tmp_path / "output").write_text("a file in the folder's place")
    with pictures(tmp_path) as writer:
        add_images(writer, count)
        writer.write_panel()
    assert len(writer.faults) == count + 1
    assert any(str(fault).startswith(f"cannot write {tmp_path}/output/results/0.png: ") for fault in writer.faults)


def names_of(folder: Path, *entries: str) -> list[str]:
    (folder / "images").mkdir(exist_ok=True)
    (folder / "val.txt").write_text("".join(f"images/{entry}\timages/{entry}\n" for entry in entries))
    return picture_names(Split(VOC, folder, FileList(folder / "val.txt"), "val"))


def test_no_picture_takes_the_place_of_another(tmp_path: Path) -> None:
    assert names_of(tmp_path, "a/x.jpg", "b/y.jpg", "b/y.jpg") == ["x", "y", "y"]
    assert names_of(tmp_path, "a/x.jpg", "b/x.jpg") == ["images_a_x", "images_b_x"]
    assert names_of(tmp_path, "a/b_x.jpg", "a_b/x.jpg", "x.jpg") == [
        "images/a/b_x.jpg",
        "images/a_b/x.jpg",
        "images/x.jpg",
    ]
    assert names_of(tmp_path, "x.jpg", "x.png") == ["images/x.jpg", "images/x.png"]
    long = "l" * 130
    assert names_of(tmp_path, f"{long}/{long}.png", f"b/{long}.png")[0] == f"images/{long}/{long}.png"


def test_a_panel_shows_large_images_smaller(tmp_path: Path) -> None:
    writer = pictures(tmp_path)
    writer.saved = None
    size = (1, 2 * PANEL_SIDE)
    label = torch.zeros(*size, dtype=torch.uint8)
    writer.add(0, torch.zeros(*size, 3, dtype=torch.uint8), label, label[None])
    assert [picture.shape for picture in writer.panel_rows[0]] == 3 * [(1, PANEL_SIDE, 3)]
