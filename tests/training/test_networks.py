"""Networks of a user's own that cannot be trained as they are get one line."""

from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from repository import REPOSITORY
from torch import nn

from furnace.config.experiment import read_experiment
from furnace.engine.distributed import World
from furnace.errors import InputError
from furnace.evaluation.validation import for_windows
from furnace.training.networks import build_networks

VOC = REPOSITORY / "exp.voc/ensemble_teacher+cutmix"
NETWORK = """import torch
from torch import nn


class Network(nn.Module):
    def __init__(self, num_classes):
        super().__init__()
        self.odd, self.last = {odd}, nn.Conv2d(3, num_classes, 1)

    def forward(self, image):
        return self.last(image + self.odd(image[:, :, None]).mean(dim=2))


build_network = Network
"""


@pytest.fixture
def build(tmp_path: Path) -> Callable[..., object]:
    def build(odd: str, **settings: str) -> object:
        (tmp_path / "config.py").write_text(f"config = dict(base={str(VOC)!r}, pretrained_model='none')\n")
        (tmp_path / "network.py").write_text(NETWORK.format(odd=odd))
        experiment = read_experiment(tmp_path, {"dataset_path": str(tmp_path), "image_size": "32", **settings})
        return build_networks(experiment, World())

    return build


def test_a_weight_of_five_dimensions_has_no_place_in_channels_last(build: Callable) -> None:
    with pytest.raises(InputError, match="a weight of five dimensions; set channels_last=0"):
        build("nn.Conv3d(3, 3, 1)")
    build("nn.Conv3d(3, 3, 1)", channels_last="0")


def test_nor_has_it_in_an_evaluation_or_a_prediction() -> None:
    with pytest.raises(InputError, match="a weight of five dimensions; set channels_last=0"):
        for_windows(nn.Conv3d(3, 3, 1), torch.device("cpu"), torch.float32, channels_last=True)


def test_a_setting_that_finds_no_norms_says_so(build: Callable, capsys: pytest.CaptureFixture) -> None:
    build("nn.Conv3d(3, 3, 1)", channels_last="0", backbone_norm="frozen")
    said = "note: backbone_norm has no effect on a network without a backbone whose norms keep statistics\n"
    assert capsys.readouterr().err == said


def test_a_network_that_cannot_be_copied_has_no_teacher(build: Callable) -> None:
    old = "torch.nn.utils.weight_norm(nn.Conv3d(3, 3, 1))"
    with pytest.raises(
        InputError, match=r"network\.py: a teacher is a copy of its student, which cannot be copied: Only"
    ):
        build(old, channels_last="0")
    build(old, channels_last="0", method="org")
    build("torch.nn.utils.parametrizations.weight_norm(nn.Conv3d(3, 3, 1))", channels_last="0")


@pytest.mark.parametrize("seeded", [False, True])
def test_students_that_are_equal_are_noted(build: Callable, capsys: pytest.CaptureFixture, seeded: bool) -> None:
    layer = "nn.Conv3d(3, 3, 1)"
    build(f"(torch.manual_seed(7), {layer})[1]" if seeded else layer, channels_last="0")
    assert ("both students start with equal parameters" in capsys.readouterr().err) == seeded
