"""Toy streets: sizes, places and forms of all nineteen classes."""

from pathlib import Path

import cv2
import numpy as np
import pytest

from furnace.__main__ import main
from furnace.data.datasets import CITYSCAPES
from furnace.labels import IGNORE
from furnace.synthetic.street import KINDS, draw_street

CLASSES = set(range(CITYSCAPES.num_classes))


@pytest.fixture(scope="module")
def streets() -> list[tuple[np.ndarray, np.ndarray]]:
    return [draw_street(np.random.default_rng([1, index]), 96) for index in range(150)]


def test_a_street_is_twice_as_wide_as_high(streets: list[tuple[np.ndarray, np.ndarray]]) -> None:
    for image, label in streets:
        assert image.dtype == label.dtype == np.uint8
        assert image.shape == (96, 192, 3) and label.shape == (96, 192)
        assert set(np.unique(label).tolist()) <= CLASSES | {IGNORE}
        assert (label == IGNORE).mean() < 0.25


def test_every_class_is_drawn_often(streets: list[tuple[np.ndarray, np.ndarray]]) -> None:
    assert set(KINDS) == set(CITYSCAPES.classes)
    images_with = {name: 0 for name in CITYSCAPES.classes}
    for _, label in streets:
        for index in np.flatnonzero(np.bincount(label[label != IGNORE], minlength=19) > 20):
            images_with[CITYSCAPES.classes[index]] += 1
    assert min(images_with.values()) > len(streets) / 5, images_with


def test_colour_tells_no_class_from_another(streets: list[tuple[np.ndarray, np.ndarray]]) -> None:
    means: dict[int, list[np.ndarray]] = {index: [] for index in CLASSES}
    for image, label in streets:
        for index in np.unique(label[label != IGNORE]):
            means[int(index)].append(image[label == index].mean(axis=0))
    for index, colours in means.items():
        # The regions of every class have the one distribution: a mean of 127.5, and about the same deviation.
        deviation = np.std(colours, axis=0)
        error = np.abs(np.mean(colours, axis=0) - 127.5) / (deviation / np.sqrt(len(colours)))
        assert error.max() < 4.5, CITYSCAPES.classes[index]
        assert 20 < deviation.min() and deviation.max() < 65, CITYSCAPES.classes[index]


@pytest.mark.parametrize(
    ("above", "below"),
    [("sky", "building"), ("vegetation", "road"), ("wall", "road"), ("traffic light", "bicycle"), ("rider", "road")],
)
def test_classes_have_their_place(streets: list[tuple[np.ndarray, np.ndarray]], above: str, below: str) -> None:
    rows = {name: [] for name in (above, below)}
    for _, label in streets:
        for name, found in rows.items():
            found.extend(np.nonzero(label == CITYSCAPES.classes.index(name))[0])
    assert np.mean(rows[above]) < np.mean(rows[below])


def test_riders_ride(streets: list[tuple[np.ndarray, np.ndarray]]) -> None:
    """Where a rider is seen, a bicycle or motorcycle is, unless something in front hides it."""
    bicycle, motorcycle, rider = map(CITYSCAPES.classes.index, ("bicycle", "motorcycle", "rider"))
    with_rider = [label for _, label in streets if (label == rider).sum() > 20]
    carried = [label for label in with_rider if np.isin(label, (bicycle, motorcycle)).any()]
    assert len(carried) > 0.95 * len(with_rider)


def test_the_command_writes_streets(tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    assert main(["demo-data", str(tmp_path / "demo"), "--layout", "city", "--images", "30", "--seed", "3"]) == 0
    shown = set()
    for path in (tmp_path / "demo/segmentation").rglob("*_gtFine.png"):
        label = cv2.imread(str(path), cv2.IMREAD_UNCHANGED)
        assert label.shape[1] == 2 * label.shape[0] and 96 <= label.shape[0] <= 128
        shown |= set(np.unique(label).tolist())
    assert shown == CLASSES | {IGNORE}
    assert sum(path.stat().st_size for path in (tmp_path / "demo").rglob("*.png")) < 30 * 80_000
    with pytest.raises(SystemExit, match="2"):
        main(["demo-data", str(tmp_path / "other"), "--layout", "town"])
    assert "--layout: expected one of voc, city, found 'town'" in capsys.readouterr().err
    assert not (tmp_path / "other").exists()
