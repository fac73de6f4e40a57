"""Training with every image labelled: the upper bound that runs with fewer labels are compared with."""

import csv
import json
from pathlib import Path

import pytest
from runs import KilledError, assert_same_run, before_step, make_experiment, tiny_settings

from furnace.__main__ import main
from furnace.config.experiment import read_experiment
from furnace.engine.distributed import World
from furnace.training.footprint import least_bytes

LISTS = "subset_train_aug/train_aug_{}_1-1.txt"


def settings_of(demo_data: Path, root: Path, run: str, *more: str) -> list[str]:
    return [
        *tiny_settings(demo_data, root / run),
        f"lists_path={root / 'lists'}",
        "labeled_ratio=1",
        "method=supervised",
        *more,
    ]


@pytest.fixture
def root(demo_data: Path, tmp_path: Path) -> Path:
    """A folder with `lists`, in which all of the demo's 32 training images are labelled."""
    lists = tmp_path / "lists"
    assert main(["prepare", "split", str(demo_data), "--ratio", "1", "--lists", str(lists), "--workers", "1"]) == 0
    (lists / "val.txt").write_bytes((demo_data / "val.txt").read_bytes())
    return tmp_path


def test_it_is_the_run_of_the_same_labels_beside_unlabelled_images(
    root: Path, demo_data: Path, capsys: pytest.CaptureFixture
) -> None:
    """Supervised training looks at labelled images alone, so what stands in a shorter unlabelled list is no matter."""
    experiment, unlabeled = str(make_experiment(root)), root / "lists" / LISTS.format("unlabeled")
    assert main(["train", experiment, *settings_of(demo_data, root, "none")]) == 0
    said = capsys.readouterr().out
    assert "1/1: 32 labelled, 0 unlabelled images\n" in said and "3 epochs of 8 iterations" in said
    record = json.loads((root / "none/config.json").read_text())
    assert [entry["entries"] for entry in record["lists"].values()] == [32, 0, 8]
    assert record["effective"]["iterations_per_epoch"] == 8 and record["effective"]["iterations"] == 24
    with open(root / "none/metrics.csv", newline="") as file:
        rows = list(csv.DictReader(file))
    assert [row["iteration"] for row in rows] == ["8", "16", "24"]
    assert {float(row[f"loss_cross_{number}"]) for row in rows for number in (1, 2)} == {0.0}

    unlabeled.write_text((demo_data / "val.txt").read_text())  # 1/1 is every mask, whatever has none beside them
    assert main(["train", experiment, *settings_of(demo_data, root, "eight")]) == 0
    assert "1/1: 32 labelled, 8 unlabelled images\n" in capsys.readouterr().out
    assert_same_run(root / "none", root / "eight")


def test_it_goes_on_where_it_stopped_and_is_scored(
    root: Path, demo_data: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def kill() -> None:
        raise KilledError

    experiment = make_experiment(root)
    whole, parts = (settings_of(demo_data, root, name, "picture_iter=2") for name in ("whole", "parts"))
    assert main(["train", str(experiment), *whole]) == 0
    before_step(monkeypatch, {12: kill})  # in the second of three epochs
    with pytest.raises(KilledError):
        main(["train", str(experiment), *parts])
    assert main(["train", str(experiment), *parts]) == 0
    assert_same_run(root / "whole", root / "parts")
    assert main(["eval", str(experiment), *whole]) == 0
    with open(experiment / "log_df.csv", newline="") as file:
        found = [(row["Ensemble"], row["labeled_ratio"], row["method"]) for row in csv.DictReader(file)]
    assert found == [(code, "1", "supervised") for code in ("v0", "v0_2", "v2")]


def test_memory_is_counted_as_for_any_supervised_run(root: Path, demo_data: Path) -> None:
    def least(*settings: str) -> float:
        pairs = dict(pair.split("=", 1) for pair in [*settings_of(demo_data, root, "run"), *settings])
        return least_bytes(read_experiment(make_experiment(root / "-".join(settings)), pairs), 4, World().device)

    assert least("labeled_ratio=1") == least("labeled_ratio=8", f"lists_path={demo_data}")
