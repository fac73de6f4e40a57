"""What an evaluation leaves to look at."""

from pathlib import Path

import pytest
import torch

from furnace.data.datasets import VOC
from furnace.data.entries import Split
from furnace.data.file_list import FileList
from furnace.errors import InputError
from furnace.evaluation.pictures import EvaluationPictures


def pictures(folder: Path) -> EvaluationPictures:
    (folder / "val.txt").write_text("\n".join(map(str, range(20))) + "\n")
    split = Split(VOC, folder, FileList(folder / "val.txt"), "val")
    return EvaluationPictures(folder / "output", split, ["v0"], "v0", short_names=True)


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
def test_a_picture_that_cannot_be_written_ends_the_evaluation(tmp_path: Path, count: int) -> None:
    (tmp_path / "output").write_text("a file in the folder's place")
    with pytest.raises(InputError, match="cannot write"), pictures(tmp_path) as writer:
        add_images(writer, count)
