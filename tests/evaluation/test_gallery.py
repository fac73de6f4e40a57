"""The few validation images that an evaluation keeps to show."""

from pathlib import Path

import cv2
import numpy as np
import torch

from furnace.data.datasets import VOC
from furnace.evaluation.gallery import DIFFERENT, LONGEST_SIDE, Gallery, draw_disagreement
from furnace.pictures import shrink
from furnace.semi.ensemble import PREDICTORS, count_different


def test_disagreement_is_how_many_classes_the_networks_say() -> None:
    labels = np.array([[[1, 1, 1, 4]], [[1, 2, 2, 3]], [[1, 1, 3, 2]], [[1, 1, 3, 1]]], dtype=np.uint8)
    different = count_different(torch.from_numpy(labels)).numpy()
    assert different.tolist() == [[1, 2, 3, 4]]
    drawn = draw_disagreement(np.zeros((1, 4, 3), np.uint8), different)
    assert [tuple(pixel) for pixel in drawn[0, 1:].tolist()] == list(DIFFERENT)
    assert drawn[0, 0].min() >= 170  # pale


def test_gallery_pictures_are_small_and_of_the_same_images_in_every_process(tmp_path: Path) -> None:
    class Files:
        dataset = VOC
        files = range(100)

        def image_path(self, number: int) -> Path:
            return Path(f"{number}.jpg")

    gallery = Gallery(tmp_path, 5, Files(), list(PREDICTORS))
    assert sorted(gallery.numbers) == [0, 19, 39, 59, 79, 99]
    image, label = torch.zeros(600, 1000, 3, dtype=torch.uint8), torch.zeros(600, 1000, dtype=torch.uint8)
    for number in (0, 1, 19):
        gallery.add(number, image, label, torch.zeros(7, 600, 1000, dtype=torch.uint8))
    assert sorted(path.stem for path in (tmp_path / "gallery/epoch5").glob("*.json")) == ["0", "19"]
    pictures = list((tmp_path / "gallery/epoch5").glob("0_*.*"))
    assert len(pictures) == 8 and all(cv2.imread(str(path)).shape == (192, LONGEST_SIDE, 3) for path in pictures)
    assert shrink(np.zeros((10, 20, 3), np.uint8), LONGEST_SIDE).shape == (10, 20, 3)

    class Fewer(Files):
        files = range(2)

    Gallery(tmp_path, 5, Fewer(), list(PREDICTORS)).remove_others()
    assert {path.name.partition("_")[0] for path in (tmp_path / "gallery/epoch5").iterdir()} == {"0", "0.json"}

    (tmp_path / "gallery/epoch5/77_truth.png").mkdir()  # stands for what cannot be removed
    (tmp_path / "gallery/epoch5/77.json").touch()
    (gallery := Gallery(tmp_path, 5, Fewer(), list(PREDICTORS))).remove_others()
    assert [str(fault).partition(":")[0] for fault in gallery.faults] == [
        f"cannot write {tmp_path}/gallery/epoch5/77_truth.png"
    ]
    alone = Gallery(tmp_path, 6, Files(), ["v0", "v3"])
    alone.add(0, image, label, torch.zeros(2, 600, 1000, dtype=torch.uint8))
    assert not (tmp_path / "gallery/epoch6").exists()
