"""Pixels that are learned from are counted by class, over steps and processes, and told as shares."""

import pytest
import torch

from furnace.labels import IGNORE
from furnace.training.log import RunLogs
from furnace.training.meters import LossMeter
from furnace.training.shares import count_confident, shares

CLASSES = ("background", "cat", "dog", "traffic light")


def random_labels() -> tuple[list[torch.Tensor], list[torch.Tensor]]:
    """Both labellers' labels with and without ignored pixels; nobody says class 2."""
    likeliest = [torch.tensor([0, 1, 3], dtype=torch.uint8)[torch.randint(3, (2, 9, 11))] for _ in range(2)]
    return [label.masked_fill(torch.rand(label.shape) < 0.3, IGNORE) for label in likeliest], likeliest


def test_pixels_are_counted_by_their_likeliest_class() -> None:
    labels, likeliest = random_labels()
    expected = [[0, 0] for _ in CLASSES]
    for found, first in zip(labels, likeliest, strict=True):
        for label, true in zip(found.flatten().tolist(), first.flatten().tolist(), strict=True):
            expected[true][label != IGNORE] += 1
    assert count_confident(labels, likeliest, len(CLASSES)).tolist() == expected
    assert expected[2] == [0, 0] and sum(map(sum, expected)) == 2 * 2 * 9 * 11


def test_shares_are_of_sums_and_empty_where_there_is_no_pixel() -> None:
    assert shares([30.0, 10.0, 0.0, 50.0, 0.0, 0.0, 7.0, 3.0], CLASSES) == {
        "confident": 0.63,
        "confident_background": 0.25,
        "confident_cat": 1.0,
        "confident_dog": "",
        "confident_traffic light": 0.3,
    }
    assert shares([0.0] * 8, CLASSES)["confident"] == ""
    assert shares([], CLASSES) == {}


def step(meter: LossMeter, iteration: int, loss: float, counts: torch.Tensor | None) -> None:
    meter.add(iteration, {"loss": torch.tensor(loss), "loss_sup_1": torch.tensor(loss)}, counts)


def test_the_meter_sums_up_counts_of_finite_steps() -> None:
    meter, again = LossMeter(), LossMeter()
    large = 2**24 + 1  # which fp32 does not hold
    for iteration, (loss, counts) in enumerate([(1.0, [[1, large]]), (float("nan"), [[7, 7]]), (3.0, [[0, 5]])]):
        step(meter, iteration, loss, torch.tensor(counts))
    assert [bad.iteration for bad in meter.read_back()] == [1]
    assert meter.counts == [1, large + 5] and meter.means()["loss"] == 2
    again.restore(meter.state())
    for each in (meter, again):
        step(each, 3, 5.0, torch.tensor([[2, 2]]))
        each.read_back()
    assert meter.counts == again.counts == [3, large + 7] and meter.state() == again.state()
    step(again, 4, 5.0, None)  # a run that goes on without a threshold
    again.read_back()
    assert again.counts == [3, large + 7]
    meter.reset()
    assert meter.counts == [] and "counts" not in meter.state()


def test_counts_are_those_of_all_processes() -> None:
    others = torch.tensor([[0.0, 0.0, 90.0, 10.0]], dtype=torch.float64)
    meter = LossMeter(lambda ours: (ours + others) / 2)
    step(meter, 0, 1.0, torch.tensor([[0, 10]]))
    meter.read_back()
    assert shares(meter.counts, ["all"])["confident"] == pytest.approx(20 / 110)


def test_tensorboard_shows_classes_together_and_no_empty_cells(tmp_path, monkeypatch: pytest.MonkeyPatch) -> None:
    shown = {}
    logs = RunLogs(tmp_path, nepochs=1, epochs_done=0, iterations_done=0, workers=0)
    monkeypatch.setattr(logs.events, "scalars", lambda values, step: shown.update(values))
    losses = dict.fromkeys(("loss", "loss_sup_1", "loss_sup_2", "loss_cross_1", "loss_cross_2"), 0.5)
    times = {"seconds": 1.0, "step_seconds": 0.1, "data_seconds": 0.0}
    cells = {"confident": 0.75, "confident_over confident_x": 0.5, "confident_dog": ""}
    row = {"epoch": 1, "iteration": 10, **losses, **cells, **times}
    logs.record(row)
    logs.tell(row)
    assert shown == losses | times | {"confident": 0.75, "confident/over confident_x": 0.5}
    assert ",0.75,0.5,,1," in (tmp_path / "metrics.csv").read_text()
