"""A run on decoded files is the run on the originals: the same weights, scores and predictions, from the same lists."""

import csv
import json
import shutil
from pathlib import Path

import cv2
import pytest
import torch
from photos import files_below
from runs import tiny_settings

from furnace.__main__ import main
from furnace.data import netpbm
from furnace.data.images import read_image
from furnace.data.prepared import DECODED, RECORD


def decode_all(folder: Path) -> None:
    """Puts decoded files in the places of all images and masks below `folder`; the lists stay as they are."""
    for path in [*folder.rglob("*.jpg"), *folder.rglob("*.png")]:
        is_mask = path.suffix == ".png"
        pixels = cv2.imread(str(path), cv2.IMREAD_UNCHANGED) if is_mask else read_image(path)
        path.with_suffix(netpbm.ENDINGS[is_mask]).write_bytes(netpbm.file_bytes(pixels))
        path.unlink()
    (folder / RECORD).write_text(json.dumps({"request": {"files": DECODED}}))


def results(output: Path) -> tuple[dict[str, torch.Tensor], list[dict[str, str]], dict[str, bytes]]:
    """The weights of all networks, the scores without times, and the predictions."""
    weights = {
        f"{path.name}:{key}": value
        for path in output.rglob("*epoch1.pth")
        for key, value in torch.load(path, weights_only=True)["model"].items()
    }
    with open(output / "metrics.csv", newline="") as file:
        rows = [{name: cell for name, cell in row.items() if "seconds" not in name} for row in csv.DictReader(file)]
    predictions = output.with_name(f"{output.name} predicted") / "index"
    return weights, rows, {name: (predictions / name).read_bytes() for name in files_below(predictions)}


def test_a_run_and_its_predictions(
    experiment: Path, demo_data: Path, tmp_path: Path, recwarn: pytest.WarningsRecorder
) -> None:
    decoded = shutil.copytree(demo_data, tmp_path / "decoded")
    decode_all(decoded)
    for name, data in (("theirs", demo_data), ("ours", decoded)):
        settings = [*tiny_settings(data, tmp_path / name), "nepochs=1", "validate_epochs=1", "num_workers=1"]
        assert main(["train", str(experiment), *settings]) == 0
        images, out = str(data / "val/image"), str(tmp_path / f"{name} predicted")
        assert main(["predict", str(experiment), images, *settings, "--out", out]) == 0
    (weights, rows, predictions), (their_weights, their_rows, their_predictions) = map(
        results, (tmp_path / "ours", tmp_path / "theirs")
    )
    assert weights.keys() == their_weights.keys() and len(weights) > 100
    assert all(torch.equal(value, their_weights[name]) for name, value in weights.items())
    assert rows == their_rows and len(rows) == 1
    assert predictions == their_predictions and len(predictions) == 8
    assert not [warning for warning in recwarn.list if "writable" in str(warning.message)]
