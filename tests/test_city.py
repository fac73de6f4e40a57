"""The Cityscapes experiment: its own values, its toy streets, and the whole program on them."""

import csv
import json
import os
import subprocess
import sys
from pathlib import Path

import cv2
import numpy as np
import pandas as pd
import pytest
from conftest import REPOSITORY, copy_experiment

from furnace.__main__ import main
from furnace.config.experiment import Experiment, read_experiment
from furnace.config.settings import FIELDS
from furnace.data.datasets import CITYSCAPES
from furnace.semi.ensemble import PREDICTORS
from furnace.synthetic.drawing import IGNORE_LABEL
from furnace.synthetic.layout import write_city_layout
from furnace.synthetic.street import KINDS, draw_street
from furnace.training.learner import supervised_loss

FOLDER = "exp.city/ensemble_teacher+cutmix"
CLASSES = set(range(CITYSCAPES.num_classes))
SHARED_LINES = 10  # of Python, between the VOC and the Cityscapes experiment


@pytest.fixture(scope="module")
def streets() -> list[tuple[np.ndarray, np.ndarray]]:
    return [draw_street(np.random.default_rng([1, index]), 96) for index in range(150)]


@pytest.fixture(scope="module")
def city_data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Ten images: at 1/2 four labelled and four unlabelled ones, so that an epoch is one iteration."""
    folder = tmp_path_factory.mktemp("data") / "city"
    write_city_layout(folder, images=10, seed=0)
    return folder


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


def test_a_street_is_twice_as_wide_as_high(streets: list[tuple[np.ndarray, np.ndarray]]) -> None:
    for image, label in streets:
        assert image.dtype == label.dtype == np.uint8
        assert image.shape == (96, 192, 3) and label.shape == (96, 192)
        assert set(np.unique(label).tolist()) <= CLASSES | {IGNORE_LABEL}
        assert (label == IGNORE_LABEL).mean() < 0.25


def test_every_class_is_drawn_often(streets: list[tuple[np.ndarray, np.ndarray]]) -> None:
    assert set(KINDS) == set(CITYSCAPES.classes)
    images_with = {name: 0 for name in CITYSCAPES.classes}
    for _, label in streets:
        for index in np.flatnonzero(np.bincount(label[label != IGNORE_LABEL], minlength=19) > 20):
            images_with[CITYSCAPES.classes[index]] += 1
    assert min(images_with.values()) > len(streets) / 5, images_with


def test_colour_tells_no_class_from_another(streets: list[tuple[np.ndarray, np.ndarray]]) -> None:
    means: dict[int, list[np.ndarray]] = {index: [] for index in CLASSES}
    for image, label in streets:
        for index in np.unique(label[label != IGNORE_LABEL]):
            means[int(index)].append(image[label == index].mean(axis=0))
    for index, colours in means.items():
        # The regions of every class have the one distribution: a mean of 127.5, and about the same deviation.
        deviation = np.std(colours, axis=0)
        error = np.abs(np.mean(colours, axis=0) - 127.5) / (deviation / np.sqrt(len(colours)))
        assert error.max() < 4.5, CITYSCAPES.classes[index]
        assert 20 < deviation.min() and deviation.max() < 65, CITYSCAPES.classes[index]


@pytest.mark.parametrize(
    ("above", "below"),
    [("sky", "building"), ("vegetation", "road"), ("wall", "road"), ("traffic light", "bicycle"), ("rider", "road")],
)
def test_classes_have_their_place(streets: list[tuple[np.ndarray, np.ndarray]], above: str, below: str) -> None:
    rows = {name: [] for name in (above, below)}
    for _, label in streets:
        for name, found in rows.items():
            found.extend(np.nonzero(label == CITYSCAPES.classes.index(name))[0])
    assert np.mean(rows[above]) < np.mean(rows[below])


def test_riders_ride(streets: list[tuple[np.ndarray, np.ndarray]]) -> None:
    """Where a rider is seen, a bicycle or motorcycle is, unless something in front hides it."""
    bicycle, motorcycle, rider = map(CITYSCAPES.classes.index, ("bicycle", "motorcycle", "rider"))
    with_rider = [label for _, label in streets if (label == rider).sum() > 20]
    carried = [label for label in with_rider if np.isin(label, (bicycle, motorcycle)).any()]
    assert len(carried) > 0.95 * len(with_rider)


def test_the_command_writes_streets(tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    assert main(["demo-data", str(tmp_path / "demo"), "--layout", "city", "--images", "30", "--seed", "3"]) == 0
    shown = set()
    for path in (tmp_path / "demo/segmentation").rglob("*_gtFine.png"):
        label = cv2.imread(str(path), cv2.IMREAD_UNCHANGED)
        assert label.shape[1] == 2 * label.shape[0] and 96 <= label.shape[0] <= 128
        shown |= set(np.unique(label).tolist())
    assert shown == CLASSES | {IGNORE_LABEL}
    assert sum(path.stat().st_size for path in (tmp_path / "demo").rglob("*.png")) < 30 * 80_000
    with pytest.raises(SystemExit, match="2"):
        main(["demo-data", str(tmp_path / "other"), "--layout", "town"])
    assert "--layout: invalid choice: 'town' (choose from" in capsys.readouterr().err
    assert not (tmp_path / "other").exists()


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
