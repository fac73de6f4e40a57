"""What scoring an image takes is known before, closely enough."""

import ctypes
import gc
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from photos import noise, write
from torch import Tensor

from furnace.engine import memory
from furnace.errors import InputError
from furnace.evaluation import room
from furnace.evaluation.sliding_window import SlidingWindow
from furnace.network.deeplabv3plus import DeepLabV3Plus
from furnace.semi.ensemble import NETWORKS, predicted_labels

CLEAR, PEAK = Path("/proc/self/clear_refs"), "5"  # resets the largest use that the system has seen


def memory_of(line: str) -> int:
    status = dict(row.split(":", 1) for row in Path("/proc/self/status").read_text().splitlines())
    return 1024 * int(status[line].split()[0])


def room_of(window: SlidingWindow, classes: int) -> room.Room:
    experiment = SimpleNamespace(network=lambda: DeepLabV3Plus("resnet18_v1c", classes, 0.125))
    return room.Room(experiment, window, behind=1, beside=0, remedy="cut it up")


@pytest.mark.skipif(not CLEAR.exists(), reason="the system does not tell how much memory was used")
@pytest.mark.parametrize("scales", [(1.0,), (0.5, 1.0)])
def test_what_is_known_is_what_is_taken(monkeypatch: pytest.MonkeyPatch, scales: tuple[float, ...]) -> None:
    """Of blocks so large that the allocator keeps none of them for the next one."""
    network = DeepLabV3Plus("resnet18_v1c", 21, 0.0625).eval()
    window = SlidingWindow({"teacher_1": network, "teacher_2": network}, 21, 321, scales=scales)
    image, needed = torch.from_numpy(noise(1000, 900)), []
    with monkeypatch.context() as patched:
        patched.setattr(memory, "free", lambda *_: 0)
        patched.setattr(memory, "require", lambda size, *_: needed.append(size))
        room_of(window, 21).require(Path("x.png"), 1000, 900)
    window.scores(image[:321, :321])  # libraries take their part once
    gc.collect()
    ctypes.CDLL(None).malloc_trim(0)  # what earlier tests left to the allocator
    CLEAR.write_text(PEAK)
    before = memory_of("VmRSS")
    predicted_labels(window.scores(image), ["v3"])
    taken = memory_of("VmHWM") - before
    assert 0.9 * taken < needed[0] < 1.5 * taken + room.LIBRARIES, (taken, needed)


@pytest.mark.parametrize("sizes", [[(200, 180)], [(60, 65)], 8 * [(60, 62)], [(60, 62), (64, 40), *3 * [(65, 108)]]])
@pytest.mark.parametrize("scales", [(1.0,), (0.5, 1.0), (1.0, 1.5)])
@pytest.mark.parametrize("flip", [False, True])
def test_images_take_no_more_together_than_is_known(
    sizes: list[tuple[int, int]], scales: tuple[float, ...], flip: bool
) -> None:
    """Tensors alone are counted here. A network takes what it returns; small maps of classes come on top."""

    def network(windows: Tensor) -> Tensor:
        return windows.new_zeros(len(windows), 21, 65, 65)

    for networks in ({"v0": network}, dict.fromkeys(NETWORKS, network)):
        window = SlidingWindow(networks, 21, 65, scales=scales, flip=flip, window_batch=8)
        images = [torch.zeros(*size, 3, dtype=torch.uint8) for size in sizes]
        with memory.Counting() as counting:
            window.scores_of(images)
        taken = counting.peak
        beside = (1 + flip) * 8 * 65**2 * 21 * 4
        assert 0 < 0.95 * taken < window.memory(sizes) + beside < 2 * taken + 2 * beside


def test_the_largest_image_is_found_by_the_headers(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for number, side in enumerate((20, 90, 30)):
        write(tmp_path / f"{number}.png", noise(side, side + 1))
    (tmp_path / "none.png").write_bytes(b"no image")
    monkeypatch.setattr(memory, "free", lambda *_: 100_000)
    window = SlidingWindow({"teacher_1": lambda windows: windows}, 3, 8)
    with pytest.raises(InputError, match=r"^image too large: .*/1\.png: 90 x 91 pixels \(height x width\) needs about"):
        room_of(window, 3).require_largest(sorted(tmp_path.iterdir()))


def test_small_images_are_looked_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[int] = []
    monkeypatch.setattr(memory, "free", lambda *_: asked.append(1) or float("inf"))
    checked = room_of(SlidingWindow({}, 3, 8), 3)
    for height in (10, 20, 20, 15):
        checked.require(Path("x.png"), height, 10)
    small = len(asked)
    assert small == 4  # twice for each of the first two
    for _ in range(2):
        checked.require(Path("x.png"), 3000, 3000)
    assert len(asked) == small + 4


def test_a_network_that_cannot_be_counted_counts_as_nothing() -> None:
    experiment = SimpleNamespace(network=lambda: np.zeros(3))
    window = SlidingWindow({}, 3, 8)
    assert room.Room(experiment, window, 0, 0, "")._network == room.LIBRARIES
