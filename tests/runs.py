"""A run of a tiny network that several tests share."""

import csv
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import pytest
import torch
from repository import REPOSITORY

from furnace.__main__ import main
from furnace.network.deeplabv3plus import DeepLabV3Plus
from furnace.semi.ensemble import Ensemble
from furnace.training.learner import Learner

ORIGINAL = REPOSITORY / "exp.voc/ensemble_teacher+cutmix"


def make_experiment(root: Path, *more: str) -> Path:
    """A copy of exp.voc's experiment below `root`, with further files of it."""
    folder = root / "exp with space+plus"
    folder.mkdir(parents=True)
    for name in ("config.py", "network.py", *more):
        shutil.copy(ORIGINAL / name, folder)
    return folder


def tiny_settings(data: Path, output: Path) -> list[str]:
    """Settings of a network and a run that are over in a second."""
    return [
        f"dataset_path={data}",
        "pretrained_model=none",
        "backbone=resnet18_v1c",
        "width=0.0625",
        "image_size=32",
        "nepochs=3",
        "batch_size=4",
        "learning_rate=0.02",
        "NGPUS=0",
        f"OUTPUT_PATH={output}",
    ]


class TrainedRun(NamedTuple):
    experiment: Path
    run: Path


def train(root: Path, demo_data: Path, *settings: str) -> TrainedRun:
    """Trains in `root` until the network's maps are not all of one class."""
    experiment, run = make_experiment(root, "predict.sh"), root / "my run+1"
    assert main(["train", str(experiment), *tiny_settings(demo_data, run), *settings]) == 0
    return TrainedRun(experiment, run)


class KilledError(Exception):
    pass


def final_state(output: Path) -> dict[str, torch.Tensor]:
    """Every tensor of the last snapshot, students and teachers."""
    files = [*output.glob("snapshot/*epoch3.pth"), *output.glob("ema_snapshot/*epoch3.pth")]
    states = {path.name: torch.load(path, weights_only=True)["model"] for path in files}
    return {f"{name}:{key}": value for name, state in states.items() for key, value in state.items()}


def assert_same_run(one: Path, other: Path) -> None:
    """The same weights, and the same table but for times."""
    states = final_state(one), final_state(other)
    assert states[0].keys() == states[1].keys() and states[0]
    assert all(torch.equal(value, states[1][name]) for name, value in states[0].items())
    tables = []
    for output in (one, other):
        with open(output / "metrics.csv", newline="") as file:
            rows = list(csv.DictReader(file))
        tables.append([{name: cell for name, cell in row.items() if "seconds" not in name} for row in rows])
    assert tables[0] == tables[1] and len(tables[0]) == 3


def before_step(monkeypatch: pytest.MonkeyPatch, actions: dict[int, Callable[[], None]]) -> None:
    """Lets something happen at the beginning of some iterations, once each."""
    step = Learner.step

    def step_after_action(self: Learner, batch, iteration: int):
        actions.pop(iteration, lambda: None)()
        return step(self, batch, iteration)

    monkeypatch.setattr(Learner, "step", step_after_action)


PROGRESS = {"iteration": 0, "optimizers": [], "scaler": {}, "counters": {}, "settings": {}}


def small_ensemble(with_teachers: bool = True, classes: int = 3) -> Ensemble:
    return Ensemble(lambda: DeepLabV3Plus("resnet18_v1c", classes, width=0.0625), with_teachers)


class RunsCode:
    """Writes a file named `ran` when it is unpickled."""

    def __reduce__(self):
        return eval, ("open('ran', 'w')",)
