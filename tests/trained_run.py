"""A run of a tiny network that several tests share."""

import shutil
from pathlib import Path
from typing import NamedTuple

from conftest import REPOSITORY

from furnace.__main__ import main

ORIGINAL = REPOSITORY / "exp.voc/ensemble_teacher+cutmix"


class TrainedRun(NamedTuple):
    experiment: Path
    run: Path


def train(root: Path, demo_data: Path, *settings: str) -> TrainedRun:
    """Trains in `root` until the network's maps are not all of one class."""
    experiment, run = root / "exp with space+plus", root / "my run+1"
    experiment.mkdir()
    for name in ("config.py", "network.py", "predict.sh"):
        shutil.copy(ORIGINAL / name, experiment)
    common = [f"dataset_path={demo_data}", "pretrained_model=none", "backbone=resnet18_v1c", "width=0.0625"]
    common += ["image_size=32", "nepochs=3", "batch_size=4", "learning_rate=0.02", "NGPUS=0", f"OUTPUT_PATH={run}"]
    assert main(["train", str(experiment), *common, *settings]) == 0
    return TrainedRun(experiment, run)
