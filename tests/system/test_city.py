"""The Cityscapes experiment: its own values, its toy streets, and the whole program on them."""

import csv
import json
import os
import subprocess
import sys
from pathlib import Path

import pandas as pd
import pytest
from repository import REPOSITORY, copy_experiment

from furnace.__main__ import main
from furnace.config.experiment import Experiment, read_experiment
from furnace.config.settings import FIELDS
from furnace.data.datasets import CITYSCAPES
from furnace.semi.ensemble import PREDICTORS
from furnace.training.learner import supervised_loss

FOLDER = "exp.city/ensemble_teacher+cutmix"
CLASSES = set(range(CITYSCAPES.num_classes))
SHARED_LINES = 10  # of Python, between the VOC and the Cityscapes experiment


@pytest.fixture
def tiny(city_data: Path, tmp_path: Path) -> dict[str, str]:
    """Settings of a network and a run so small that a CPU is done in seconds."""
    return {
        "dataset_path": str(city_data),
        "pretrained_model": "none",
        "backbone": "resnet18_v1c",
        "width": "0.0625",
        "image_size": "64",
        "labeled_ratio": "2",
        "nepochs": "1",
        "batch_size": "4",
        "NGPUS": "0",
        "OUTPUT_PATH": str(tmp_path / "run"),
    }


@pytest.fixture
def experiment(tmp_path: Path) -> Path:
    """A copy of the experiment, so that its log_df.csv lies here."""
    copy_experiment("exp.city", tmp_path / FOLDER)
    return tmp_path / FOLDER


def read_city(city_data: Path, **texts: str) -> Experiment:
    return read_experiment(REPOSITORY / FOLDER, {"dataset_path": str(city_data), **texts})


@pytest.mark.parametrize(("ratio", "epochs"), [(16, 64), (8, 68), (4, 80), (2, 120)])
def test_published_values(city_data: Path, ratio: int, epochs: int) -> None:
    settings = read_city(city_data, labeled_ratio=str(ratio)).settings
    assert settings.nepochs == epochs
    assert settings.OUTPUT_PATH == REPOSITORY / f"output_city/city{ratio}_res50_cutmix_B4_EMA"
    assert (settings.batch_size, settings.image_size, settings.cps_weight) == (4, 800, 5)
    assert settings.learning_rate == 0.02
    assert settings.learning_rate * settings.learning_rate_factor == 0.01


@pytest.mark.parametrize(("processes", "min_kept"), [(1, 200_000), (2, 100_000), (4, 50_000)])
def test_ohem_keeps_as_many_pixels_as_published(city_data: Path, processes: int, min_kept: int) -> None:
    loss = supervised_loss(read_city(city_data).settings, processes)
    assert loss.keywords == {"threshold": 0.7, "min_kept": min_kept}


def test_hardly_a_line_is_shared_with_voc() -> None:
    shared = 0
    for name in ("config.py", "network.py"):
        lines = [
            {line for line in (REPOSITORY / folder / name).read_text().splitlines() if line.strip()}
            for folder in ("exp.voc/ensemble_teacher+cutmix", FOLDER)
        ]
        shared += len(lines[0] & lines[1])
    assert shared <= SHARED_LINES


def test_scripts_are_those_of_voc_but_for_names_and_values() -> None:
    for name in ("train_org.sh", "train_ema.sh", "eval.sh"):
        city, voc = (REPOSITORY / exp / "ensemble_teacher+cutmix" / name for exp in ("exp.city", "exp.voc"))
        assert city.stat().st_mode == voc.stat().st_mode
        settings = [[line.split(":=")[0] for line in path.read_text().splitlines()[3:]] for path in (city, voc)]
        assert settings[0] == settings[1]
        assert "voc" not in city.read_text().lower()


def arguments(settings: dict[str, str]) -> list[str]:
    return [f"{name}={value}" for name, value in settings.items()]


def test_trains_and_evaluates(experiment: Path, tiny: dict[str, str], tmp_path: Path) -> None:
    assert main(["train", str(experiment), *arguments(tiny)]) == 0
    description = json.loads((tmp_path / "run/config.json").read_text())
    assert description["effective"]["learning_rate"] == 0.01
    assert description["effective"]["weight_decay"] == 2e-4
    assert description["settings"]["ohem_threshold"] == 0.7 and description["settings"]["cps_weight"] == 5
    assert main(["eval", str(experiment), *arguments(tiny), "ensemble=all"]) == 0
    table = pd.read_csv(experiment / "log_df.csv")
    assert table["Ensemble"].tolist() == list(PREDICTORS)
    assert table["mean_IU"].between(0, 100).all()
    assert [f"IoU_{name}" for name in CITYSCAPES.classes] == list(table.columns[-19:])
    assert len(list((tmp_path / "run/results_color").iterdir())) == 2


def first_losses(output: Path) -> tuple[float, float]:
    with open(output / "metrics.csv") as file:
        row = next(csv.DictReader(file))
    return float(row["loss_sup_1"]), float(row["loss_cross_1"])


def test_ohem_is_used_by_the_supervised_loss_alone(experiment: Path, tiny: dict[str, str], tmp_path: Path) -> None:
    """At a threshold that some pixels exceed from the start; at 0.7 none does, and every pixel is hard."""
    losses = {}
    for ohem in ({"ohem_threshold": "none"}, {}, {"ohem_threshold": "0.02", "ohem_min_kept": "50"}):
        output = tmp_path / str(len(losses))
        assert main(["train", str(experiment), *arguments({**tiny, **ohem, "OUTPUT_PATH": str(output)})]) == 0
        losses[ohem.get("ohem_threshold", "published")] = first_losses(output)
    assert losses["published"] == losses["none"]
    assert losses["0.02"][0] > 1.1 * losses["none"][0]  # the hardest pixels alone
    assert losses["0.02"][1] == losses["none"][1]


def test_scripts_run_from_another_folder(experiment: Path, tiny: dict[str, str], tmp_path: Path) -> None:
    environment = {name: value for name, value in os.environ.items() if name not in FIELDS} | tiny
    environment |= {"volna": str(REPOSITORY), "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"}
    for script, settings in {"train_ema.sh": {}, "eval.sh": {"ensemble": "v3"}, "train_org.sh": {"method": ""}}.items():
        changes = settings | {"OUTPUT_PATH": str(tmp_path / ("org" if script == "train_org.sh" else "run"))}
        command = ["bash", f"{FOLDER}/{script}"]
        subprocess.run(command, cwd=tmp_path, env=environment | changes, check=True, capture_output=True)
    table = pd.read_csv(experiment / "log_df.csv")
    assert table["method"].value_counts().to_dict() == {"ema": 7, "org": 3}
