"""Losses and times are counted right."""

import numpy as np
import pytest
import torch

from furnace.training.meters import LossMeter, NotFinite, Stopwatch


def test_loss_meter_leaves_out_what_is_not_finite() -> None:
    def step(meter: LossMeter, iteration: int, loss: float, norm: float) -> None:
        meter.add(iteration, {"loss": torch.tensor(loss), "loss_sup_1": torch.tensor(loss), "norm": torch.tensor(norm)})

    meter, again = LossMeter(), LossMeter()
    for iteration, loss in ((4, 1.0), (5, 3.0)):
        step(meter, iteration, loss, norm=2.0)
    assert meter.read_back() == [] and meter.read_back() == []
    assert meter.means() == {"loss": 2.0, "loss_sup_1": 2.0, "norm": 2.0, "skipped_steps": 0}
    step(meter, 6, float("inf"), norm=float("nan"))
    step(meter, 7, 8.0, norm=5.0)
    step(meter, 8, 9.0, norm=float("-inf"))
    found = meter.read_back()
    assert found == [NotFinite(6, "loss_sup_1", float("inf")), NotFinite(8, "norm", float("-inf"))]
    expected = {"loss": 4.0, "loss_sup_1": 4.0, "norm": 3.0, "skipped_steps": 2}
    again.restore(meter.state())
    assert meter.means() == again.means() == expected
    meter.reset()
    step(meter, 9, float("nan"), norm=1.0)
    meter.read_back()
    assert np.isnan(meter.means()["loss"]) and meter.means()["skipped_steps"] == 1


def test_a_term_that_is_not_finite_elsewhere_is_not_finite_here() -> None:
    others = torch.tensor([[2.0, 1.0], [float("nan"), 1.0], [3.0, float("-inf")]], dtype=torch.float64)
    meter = LossMeter(lambda ours: (ours + others) / 2)
    for iteration in range(3):
        meter.add(iteration, {"loss_sup_1": torch.tensor(4.0), "loss_sup_2": torch.tensor(3e38)})
    found = meter.read_back()
    assert [(step.iteration, step.term) for step in found] == [(1, "loss_sup_1"), (2, "loss_sup_2")]
    assert meter.means() == pytest.approx({"loss_sup_1": 3.0, "loss_sup_2": 1.5e38, "skipped_steps": 2})


def test_stopwatch_parts_waiting_from_stepping(monkeypatch: pytest.MonkeyPatch) -> None:
    clock = iter([0.0, 0.0, 3.0, 3.0, 7.0, 7.0, 7.0])  # two batches, waited for 3 s and 4 s; then the end
    stopwatch = Stopwatch()
    monkeypatch.setattr("time.perf_counter", lambda: next(clock))
    assert list(stopwatch.waiting("ab")) == ["a", "b"]
    monkeypatch.setattr("time.perf_counter", lambda: 12.0)
    assert (stopwatch.seconds, stopwatch.data_seconds, stopwatch.step_seconds) == (12.0, 7.0, 2.5)


def test_stopwatch_counts_neither_what_comes_before_the_first_step_nor_saving(monkeypatch: pytest.MonkeyPatch) -> None:
    now = 0.0
    monkeypatch.setattr("time.perf_counter", lambda: now)
    stopwatch = Stopwatch()
    with stopwatch.stopped():  # a validation that was due
        now = 5.0
    stopwatch.reset(seconds=2.0, data_seconds=1.0, batches=1)
    now = 20.0  # data are looked at, and so on
    assert stopwatch.seconds == 2.0
    for _ in stopwatch.waiting("ab"):
        now += 3.0
    assert (stopwatch.seconds, stopwatch.step_seconds) == (8.0, 7.0 / 3)
    stopwatch.reset()
    with pytest.raises(OSError), stopwatch.stopped():
        now += 30.0
        raise OSError("the disk is full")
    now += 1.0
    assert stopwatch.seconds == 1.0
