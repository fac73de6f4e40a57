"""Images are scored together where their windows fill a batch, and nothing but the speed depends on it."""

from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from runs import ORIGINAL, tiny_settings
from torch import Tensor, nn

from furnace.config.experiment import Experiment, read_experiment
from furnace.engine import memory
from furnace.engine.distributed import World
from furnace.errors import InputError
from furnace.evaluation import validation
from furnace.evaluation.batching import Entry, in_groups
from furnace.evaluation.room import LIBRARIES, PLENTY, Room
from furnace.evaluation.sliding_window import SlidingWindow

CROP, STRIDE = 8, 6
ONE, TWO, FOUR = (5, 8), (8, 14), (14, 14)  # sizes of images with so many windows


def entries(*sizes: tuple[int, int]) -> list[Entry]:
    return [(n, torch.zeros(*size, 3, dtype=torch.uint8), torch.zeros(size)) for n, size in enumerate(sizes)]


def room_of(window_batch: int, scales: tuple[float, ...] = (1.0,)) -> Room:
    window = SlidingWindow({"v0": nn.Identity()}, 3, CROP, scales=scales, window_batch=window_batch)
    return Room(SimpleNamespace(network=nn.Identity), window, behind=1, beside=1, remedy="cut it up")


def grouped(found: list[Entry], room: Room) -> list[list[int]]:
    return [[number for number, _, _ in group] for group in in_groups(found, room, lambda n: Path(f"{n}.png"))]


def test_groups_fill_a_batch_and_keep_the_order() -> None:
    assert grouped(entries(*9 * [ONE]), room_of(4)) == [[0, 1, 2, 3], [4, 5, 6, 7], [8]]
    assert grouped(entries(ONE, TWO, TWO, ONE, FOUR, ONE, FOUR, ONE), room_of(4)) == [
        [0, 1], [2, 3], [4], [5], [6], [7]
    ]  # fmt: skip
    assert grouped(entries(*3 * [ONE]), room_of(4, (1.0, 2.0))) == [[0], [1], [2]]  # at twice the size one has 2 x 3
    assert grouped([], room_of(4)) == []


def test_an_image_is_alone_and_scored_before_the_next_is_read_where_a_batch_is_a_window() -> None:
    read = []

    def reading() -> Iterator[Entry]:
        for entry in entries(ONE, FOUR, ONE):
            read.append(entry[0])
            yield entry

    for expected, group in enumerate(in_groups(reading(), room_of(1), lambda n: Path(f"{n}.png"))):
        assert [number for number, _, _ in group] == [expected] and read[-1] == expected


def test_no_more_images_are_together_than_there_is_room_for(monkeypatch: pytest.MonkeyPatch) -> None:
    room, network = room_of(4), PLENTY * 4 * CROP**2 + LIBRARIES
    room.__dict__["_network"] = network
    two = room.window.memory([ONE, ONE]) + 2 * (1 + 1) * ONE[0] * ONE[1]
    monkeypatch.setattr(memory, "free", lambda *_: two + network)
    assert grouped(entries(*5 * [ONE]), room) == [[0, 1], [2, 3], [4]]
    tiny = (2, 3)  # takes no less, because it is padded
    assert grouped(entries(*3 * [tiny]), room) == [[0, 1], [2]]
    with pytest.raises(InputError, match=r"^image too large: 1\.png: 300 x 300 pixels"):
        grouped(entries(ONE, (300, 300)), room)


@pytest.fixture
def experiment(demo_data: Path, tmp_path: Path) -> Experiment:
    texts = dict(pair.split("=", 1) for pair in tiny_settings(demo_data, tmp_path))
    return read_experiment(ORIGINAL, texts)


def test_scores_and_pictures_are_the_same_in_groups(
    experiment: Experiment, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture
) -> None:
    """Each of eight images has six windows. The networks take a batch window by window, so that they round alike."""
    sliding_window, batches = validation.sliding_window, []

    def network(seed: int):
        convolution = nn.Conv2d(3, experiment.dataset.num_classes, 3, padding=1).requires_grad_(False)
        nn.init.normal_(convolution.weight, generator=torch.Generator().manual_seed(seed))

        def forward(windows: Tensor) -> Tensor:
            batches[-1].append(len(windows))
            return torch.cat([convolution(window[None]) for window in windows])

        return forward

    networks = {"student_1": network(1), "student_2": network(2)}

    def scored(window_batch: int) -> tuple[dict[str, np.ndarray], list]:
        def with_batch(*arguments) -> SlidingWindow:
            window = sliding_window(*arguments)
            window.window_batch = window_batch
            return window

        seen: list = []
        batches.append([])
        monkeypatch.setattr(validation, "sliding_window", with_batch)
        confusions = validation.count_confusions(
            experiment, World(), experiment.split("val"), networks, ["v0", "v2"],
            [lambda *of_image: seen.append(of_image)], title="here",
        )  # fmt: skip
        return confusions, seen

    (alone, images_alone), (together, images_together) = scored(1), scored(16)
    assert batches[0] == 8 * 2 * 6 * [1] and batches[1] == 4 * 2 * [8, 4]  # two images have 12 windows
    assert all(np.array_equal(alone[code], together[code]) for code in ("v0", "v2"))
    assert alone["v0"].sum() > 8 * 1000 and not np.array_equal(alone["v0"], alone["v2"])
    assert [image[0] for image in images_together] == list(range(8))
    for one, other in zip(images_alone, images_together, strict=True):
        assert one[0] == other[0] and all(map(torch.equal, one[1:], other[1:]))
    assert capsys.readouterr().err.count("here: 100%") == 2
