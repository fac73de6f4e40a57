"""Fixtures shared by the tests."""

import os
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
import torch

REPOSITORY = Path(__file__).resolve().parents[1]

os.environ.setdefault("CUDA_VISIBLE_DEVICES", "")  # every test runs on the CPU
for name in ("WORLD_SIZE", "RANK", "LOCAL_RANK"):
    os.environ.pop(name, None)


torch.set_num_threads(1)  # networks here are tiny: threads would only wait for each other


def copy_experiment(name: str, target: Path) -> None:
    """An experiment's files, without the scores that its own runs have left there."""
    folder = REPOSITORY / name / "ensemble_teacher+cutmix"
    shutil.copytree(folder, target, ignore=shutil.ignore_patterns("*log_df.csv*", "__pycache__"))


@pytest.fixture(autouse=True)
def seeded() -> None:
    torch.manual_seed(0)


@pytest.fixture(scope="session")
def demo_data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A small data set in the VOC layout: 32 training images, 8 to validate."""
    from furnace.synthetic.layout import write_voc_layout

    folder = tmp_path_factory.mktemp("data") / "demo"
    write_voc_layout(folder, images=40, seed=0)
    return folder


@pytest.fixture
def experiment(tmp_path: Path) -> Path:
    """A copy of exp.voc's experiment, so that its log_df.csv lies here."""
    folder = tmp_path / "exp with space+plus"
    folder.mkdir()
    for name in ("config.py", "network.py"):
        shutil.copy(REPOSITORY / "exp.voc/ensemble_teacher+cutmix" / name, folder)
    return folder


@pytest.fixture
def tiny(demo_data: Path, tmp_path: Path) -> list[str]:
    """Settings of a network and a run that are over in a second."""
    return [
        f"dataset_path={demo_data}",
        "pretrained_model=none",
        "backbone=resnet18_v1c",
        "width=0.0625",
        "image_size=32",
        "nepochs=3",
        "batch_size=4",
        "learning_rate=0.02",
        "NGPUS=0",
        f"OUTPUT_PATH={tmp_path / 'run'}",
    ]


@pytest.fixture
def run(experiment: Path, tiny: list[str]) -> Callable[..., int]:
    """Runs a command on a tiny network; returns its exit status."""
    from furnace.__main__ import main

    return lambda command, *settings: main([command, str(experiment), *tiny, *settings])
