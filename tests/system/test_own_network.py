"""docs/own_network.md is followed word for word: its U-Net is written, trained, evaluated and exported."""

import json
import re
from pathlib import Path

import onnx
import pandas as pd
import pytest
import torch
from followed import commands, follow
from repository import REPOSITORY, copy_experiment

from furnace.config.experiment import read_experiment
from furnace.network.choice import build_network
from furnace.network.fit import fault_at, without_values

PAGE = (REPOSITORY / "docs/own_network.md").read_text(encoding="utf-8")
BY_SETTINGS, _, EXAMPLE = PAGE.partition("## What is asked of a network")


def test_the_page_leads_to_a_network_of_ones_own(tmp_path: Path) -> None:
    (tmp_path / "furnace").symlink_to(REPOSITORY / "furnace")  # what the page needs of a checkout
    copy_experiment("exp.voc", tmp_path / "exp.voc/ensemble_teacher+cutmix")
    follow(EXAMPLE, tmp_path)
    run = next((tmp_path / "output_voc").iterdir())
    assert "unet" in run.name and json.loads((run / "config.json").read_text())["settings"]["backbone"] == "unet"
    table = pd.read_csv(tmp_path / "exp.voc/unet/log_df.csv")
    assert len(table) == 7 and set(table["backbone"]) == {"unet"}
    onnx.checker.check_model(onnx.load(tmp_path / "exported/v3.onnx"))
    unet = read_experiment(tmp_path / "exp.voc/unet", {"dataset_path": str(tmp_path / "DATA/demo")}).network()
    unet.load_state_dict(torch.load(tmp_path / "exported/teacher_2.pth", weights_only=True))
    assert unet.eval()(torch.rand(1, 3, 33, 47)).shape == (1, 21, 33, 47)


@pytest.mark.parametrize(
    "command", re.findall(r"python -m furnace train .*", commands(BY_SETTINGS).replace("\\\n", ""))
)
def test_commands_name_settings_that_there_are(demo_data: Path, command: str) -> None:
    _, folder, arguments = re.split(r'"', command)
    settings = dict(text.split("=") for text in arguments.split())
    experiment = read_experiment(REPOSITORY / folder, {"dataset_path": str(demo_data), **settings})
    assert all(getattr(experiment.settings, name) == value for name, value in settings.items())


ROW = re.compile(r"\| `(\w+)` on `(\S+)` \| ([\d.]+) M \| multiples of (\d+) \|$", re.MULTILINE)


@pytest.mark.parametrize(("decoder", "backbone", "parameters", "multiple"), ROW.findall(BY_SETTINGS))
def test_examples_are_as_large_as_the_table_says(decoder: str, backbone: str, parameters: str, multiple: str) -> None:
    network, step = without_values(lambda: build_network(decoder, backbone, num_classes=21)), int(multiple)
    assert f"{sum(value.numel() for value in network.parameters()) / 1e6:.1f}" == parameters
    assert fault_at(network, 3 * step, 21) is None and fault_at(network, 3 * step + step // 2, 21) is not None


def test_the_table_has_an_example_in_every_row() -> None:
    table = BY_SETTINGS.partition("| encoder |")[2].partition("\n\n")[0]
    assert len(ROW.findall(BY_SETTINGS)) == len(table.splitlines()) - 2 == 5
