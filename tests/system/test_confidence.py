"""A run with a threshold of confidence: its table, its events, its pictures, and going on in the middle of an epoch."""

import csv
import os
import signal
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from runs import assert_same_run, before_step
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from furnace.data.datasets import VOC
from furnace.labels import IGNORE
from furnace.pictures import IGNORED_COLOUR, colourize
from furnace.training.events import Events
from furnace.training.learner import Learner
from furnace.training.pictures import TrainingPictures

CONFIDENT = ["confidence=0.3", "cps_ramp=0.1,0.2"]


def rows(output: Path) -> list[dict[str, str]]:
    with open(output / "metrics.csv", newline="") as file:
        return list(csv.DictReader(file))


def test_shares_are_told_and_a_run_that_goes_on_has_the_same(
    run: Callable, straight: Callable, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Counted longhand from the pseudo-labels of every step, over a run that is stopped in the middle of epochs."""
    counts = np.zeros((3, 22, 2))  # of each epoch, class and all together: pixels, and those that are learned from
    step = Learner.step
    algorithms = []

    def watched(self: Learner, batch, iteration: int):
        if not algorithms or algorithms[-1] is not self.algorithm:
            algorithms.append(self.algorithm)
            find = self.algorithm.accumulate_gradients

            def accumulate(*arguments):
                losses = find(*arguments)
                watched.losses = losses
                return losses

            object.__setattr__(self.algorithm, "accumulate_gradients", accumulate)
        found = step(self, batch, iteration)
        for label, likeliest in zip(watched.losses.pseudo_labels or [], watched.losses.likeliest or [], strict=True):
            for number in range(21):
                here = counts[iteration // 7, number]
                here += [(likeliest == number).sum(), (label == number).sum()]
            counts[iteration // 7, 21] += [label.numel(), (label != IGNORE).sum()]
        return found

    expected = straight(*CONFIDENT)
    monkeypatch.setattr(Learner, "step", watched)
    before_step(monkeypatch, dict.fromkeys((4, 9, 18), lambda: os.kill(os.getpid(), signal.SIGTERM)))
    for _ in range(3):
        assert run("train", *CONFIDENT) == 75
    assert run("train", *CONFIDENT) == 0
    output = tmp_path / "run"
    assert_same_run(output, expected)
    events = EventAccumulator(str(output / "tb"), size_guidance={"scalars": 0}).Reload()
    partly = 0
    for epoch, row in enumerate(rows(output)):
        columns = ["confident_" + name for name in VOC.classes] + ["confident"]
        assert [name for name in row if name.startswith("confident")] == [columns[-1], *columns[:-1]]
        for (pixels, learned), name in zip(counts[epoch], columns, strict=True):
            assert row[name] == (f"{learned / pixels:.6g}" if pixels else "")
            partly += 0 < learned < pixels
            tag = name.replace("confident_", "confident/")
            if pixels:
                told = {event.step: event.value for event in events.Scalars(tag)}
                assert told[7 * (epoch + 1)] == pytest.approx(learned / pixels, rel=1e-5)
    assert partly > 5 and (counts[:, :21, 0] == 0).any()
    assert counts[0, 21, 0] < counts[1, 21, 0]  # the first steps use no pairs


@pytest.mark.parametrize("settings", [["confidence=0.3", "method=supervised"], ["method=ema"]])
def test_without_labellers_or_threshold_there_are_no_columns(run: Callable, tmp_path: Path, settings: list) -> None:
    assert run("train", "nepochs=1", *settings) == 0
    assert not [name for name in rows(tmp_path / "run")[0] if name.startswith("confident")]


def test_pictures_show_what_is_ignored_and_numbers_leave_it_out(run: Callable, monkeypatch: pytest.MonkeyPatch) -> None:
    shown, scalars, steps = {}, {}, []
    look = TrainingPictures.look

    def watched(self: TrainingPictures, raw, batch, step, iterations_done: int) -> None:
        steps.append(step)
        look(self, raw, batch, step, iterations_done)

    monkeypatch.setattr(TrainingPictures, "look", watched)
    monkeypatch.setattr(Events, "picture", lambda self, name, pixels, step: shown.update({name: pixels}))
    monkeypatch.setattr(Events, "scalars", lambda self, values, step: scalars.update(values))
    assert run("train", "nepochs=1", "picture_iter=7", "confidence=0.3") == 0
    first, second = (label.numpy() for label in steps[0].pseudo_labels)
    cells = [shown["step/unlabelled"][18:50, 36 * column : 36 * column + 32] for column in (4, 5, 6)]
    for cell, label in zip(cells, (first[0], second[0]), strict=False):
        assert np.array_equal(cell, colourize(label, VOC.palette))
        assert (cell[label == IGNORE] == IGNORED_COLOUR).all() and 0 < (label == IGNORE).mean() < 1
    both = (first != IGNORE) & (second != IGNORE)
    white = np.where((first == second)[..., None], np.uint8(255), np.uint8(0))
    assert np.array_equal(cells[2], np.where(both[..., None], white, np.uint8(IGNORED_COLOUR))[0])
    assert scalars["agreement"] == pytest.approx((first == second)[both].mean())
    labelled = np.concatenate([first[first != IGNORE], second[second != IGNORE]])
    for number, name in enumerate(VOC.classes):
        assert scalars[f"pseudo_label_share/{name}"] == pytest.approx((labelled == number).mean())


def test_where_nothing_is_labelled_there_are_pictures_without_numbers(
    run: Callable, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture
) -> None:
    scalars = {}
    monkeypatch.setattr(Events, "scalars", lambda self, values, step: scalars.update(values))
    assert run("train", "nepochs=1", "picture_iter=7", "confidence=1") == 0
    assert "no more pictures" not in capsys.readouterr().out
    assert scalars["confident"] == 0 and "distance/teacher_1" in scalars
    assert "agreement" not in scalars and not [name for name in scalars if name.startswith("pseudo_label_share")]
    assert scalars["loss_cross_1"] == 0 and torch.isfinite(torch.tensor(scalars["loss"]))
