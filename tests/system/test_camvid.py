"""The worked example of another data set, on the real images where they are linked to DATA/camvid."""

import csv
from pathlib import Path

import pandas as pd
import pytest
from repository import REPOSITORY, copy_experiment

from furnace.__main__ import main
from furnace.data.file_list import FileList

FOLDER = REPOSITORY / "exp.camvid/ensemble_teacher+cutmix"
CAMVID = REPOSITORY / "DATA/camvid"
needs_images = pytest.mark.skipif(not CAMVID.is_dir(), reason="DATA/camvid is not linked")


@pytest.mark.parametrize("ratio", [16, 8, 4, 2])
def test_lists_part_the_training_set(ratio: int) -> None:
    labeled = FileList(FOLDER / f"lists/labeled_1-{ratio}.txt")
    unlabeled = FileList(FOLDER / f"lists/unlabeled_1-{ratio}.txt")
    images = {labeled[index].split("\t")[0] for index in range(len(labeled))}
    assert all("\t" in labeled[index] for index in range(len(labeled)))
    others = {unlabeled[index] for index in range(len(unlabeled))}
    assert len(labeled) == 367 // ratio and not images & others and len(images | others) == 367


@needs_images
def test_trains_and_evaluates_on_real_images(tmp_path: Path) -> None:
    experiment = tmp_path / "experiment"
    copy_experiment("exp.camvid", experiment)
    with open(experiment / "lists/val.txt") as file:
        lines = file.readlines()[:3]
    (experiment / "lists/val.txt").write_text("".join(lines))
    settings = [
        f"dataset_path={CAMVID}",
        "backbone=resnet18_v1c",
        "width=0.0625",
        "image_size=64",
        "nepochs=1",
        "batch_size=32",
        "cps_ramp=0,0",
        "NGPUS=0",
        f"OUTPUT_PATH={tmp_path / 'run'}",
    ]
    assert main(["train", str(experiment), *settings]) == 0
    assert main(["eval", str(experiment), *settings, "ensemble=v3"]) == 0
    with open(tmp_path / "run/metrics.csv") as file:
        assert len(list(csv.DictReader(file))) == 1
    table = pd.read_csv(experiment / "log_df.csv")
    assert table["IoU_road"].between(0, 100).all() and table["mean_IU"].notna().all()
