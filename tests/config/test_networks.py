"""The network of an experiment: what its network.py is given, and what is refused before a device is touched."""

import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from repository import REPOSITORY
from torch import nn

from furnace.config.checks import check_networks, without_effect
from furnace.config.completion import network_name
from furnace.config.experiment import Experiment, read_experiment
from furnace.errors import InputError
from furnace.network.deeplabv3plus import DeepLabV3Plus

VOC = REPOSITORY / "exp.voc/ensemble_teacher+cutmix"
BUILDS = """from torch import nn


def build_network({parameters}):
    network = nn.Conv2d(3, 21, 1)
    network.given = locals()
    return network
"""
LOOKS_AT_VALUES = """import torch
from torch import nn


class Network(nn.Conv2d):
    def forward(self, image):
        return super().forward(image) / max(1, image.abs().max().item())


def build_network(num_classes):
    assert torch.ones(1).item() == 1  # what has no values cannot do this either
    return Network(3, num_classes, {kernel})
"""


@pytest.fixture
def make(tmp_path: Path, demo_data: Path) -> Callable[..., Experiment]:
    """Reads an experiment that builds on exp.voc's, and has a network.py of its own if that is given."""

    def read(network: str | None = None, **settings: str) -> Experiment:
        folder = tmp_path / "experiment"
        folder.mkdir()
        (folder / "config.py").write_text(f"config = dict(base={str(VOC)!r}, pretrained_model='none')\n")
        if network:
            (folder / "network.py").write_text(network)
        return read_experiment(folder, {"dataset_path": str(demo_data), "image_size": "32", **settings})

    return read


@pytest.mark.parametrize(
    ("parameters", "given"),
    [
        ("num_classes", {"num_classes": 21}),
        ("atrous_rates", {"atrous_rates": None}),
        ("image_size, num_classes, depth=3", {"image_size": 32, "num_classes": 21, "depth": 3}),
        ("width, *, backbone='x'", {"width": 0.5, "backbone": "mine"}),
        ("**rest", {"rest": {"num_classes": 21, "decoder": "published", "backbone": "mine", "width": 0.5,
                             "atrous_rates": None, "image_size": 32}}),
        ("", {}),
    ],
)  # fmt: skip
def test_a_network_is_given_what_it_names(make: Callable, parameters: str, given: dict) -> None:
    network = make(BUILDS.format(parameters=parameters), backbone="mine", width="0.5").network()
    del network.given["network"]
    assert network.given == given


def test_the_second_student_has_its_own_names(make: Callable) -> None:
    experiment = make(
        BUILDS.format(parameters="decoder, backbone"), backbone="one", backbone_2="two", decoder_2="other"
    )
    found = [experiment.network(number).given for number in (1, 2)]
    assert [(each["decoder"], each["backbone"]) for each in found] == [("published", "one"), ("other", "two")]


def test_a_class_can_be_the_function(make: Callable) -> None:
    """As it is for the published network, whose arguments are backbone, num_classes and width."""
    network = "from furnace.network.deeplabv3plus import DeepLabV3Plus as build_network\n"
    experiment = make(network, backbone="resnet18", width="0.0625")
    check_networks(experiment)
    assert isinstance(experiment.network(), DeepLabV3Plus)


@pytest.mark.parametrize("backbone", ["", "unet"])
@pytest.mark.parametrize("decoder", ["", "UPerNet"])
def test_a_network_of_ones_own_is_not_called_a_resnet(make: Callable, backbone: str, decoder: str) -> None:
    experiment, name = (
        make(BUILDS.format(parameters="num_classes"), backbone=backbone, decoder=decoder),
        backbone or "own",
    )
    assert experiment.settings.OUTPUT_PATH.name == f"voc8_{name}_cutmix_B8_EMA"
    assert network_name(experiment.result_settings()) == name


def test_what_network_py_does_not_ask_for_has_no_effect(make: Callable) -> None:
    experiment = make(BUILDS.format(parameters="num_classes, width"), decoder="UPerNet", backbone="resnet18", width="2")
    assert without_effect(experiment) == [
        f"{name} has no effect with a network.py that does not ask for it" for name in ("decoder", "backbone")
    ]


def test_a_decoder_that_network_py_does_not_ask_for_is_refused(make: Callable) -> None:
    """To train another network than the one that is named would be worse than to train none."""
    experiment = make(BUILDS.format(parameters="num_classes"), decoder="UPerNet")
    with pytest.raises(InputError, match=r"^decoder: .*network\.py builds its own network and does not ask for a dec"):
        check_networks(experiment)


def test_a_network_that_looks_at_values_is_asked_with_values(make: Callable) -> None:
    check_networks(make(LOOKS_AT_VALUES.format(kernel=1)))


def test_and_is_refused_if_it_does_not_fit(make: Callable) -> None:
    experiment = make(LOOKS_AT_VALUES.format(kernel=3))
    with pytest.raises(InputError, match=r"its logits are \(2, 21, 30, 30\), not \(2, 21, 32, 32\); mend the file"):
        check_networks(experiment)


OWN = """import torch
from torch import nn


class Network(nn.Conv2d):
    def {does}


def build_network(num_classes):
    return {made}
"""
NETWORK = "Network(3, num_classes, 1)"
NOTHING = "nothing(self): pass"


@pytest.mark.parametrize(
    ("does", "made", "said"),
    [
        ("get_extra_state(self): return {'seen': 0}", NETWORK, r"of tensors alone, found _extra_state, a dict; keep"),
        (NOTHING, "nn.LazyConv2d(num_classes, 1)", "of known sizes, found weight without one; name its number"),
        (NOTHING, f"{NETWORK}.requires_grad_(False)", "expected parameters that are trained, found none; leave"),
        ("forward(self, image): return super().forward(image).detach()", NETWORK, "found some that need none; compute"),
        ("forward(self, image): return super().forward(image.clamp_(0))", NETWORK, "found one that changes them, wh"),
        (
            "forward(self, image): return nn.functional.dropout(super().forward(image))",
            NETWORK,
            r"that draws no random numbers in evaluation mode, found one .*; draw only while self\.training",
        ),
    ],
    ids=["extra state", "lazy", "frozen", "detached", "in place", "drawing"],
)
def test_what_cannot_be_trained_is_refused_in_one_line(make: Callable, does: str, made: str, said: str) -> None:
    with pytest.raises(InputError, match=rf"^\S*network\.py: .*{said}") as caught:
        check_networks(make(OWN.format(does=does, made=made)))
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    "builds",
    [
        "@functools.cache\ndef build_network(num_classes):\n    return nn.Conv2d(3, num_classes, 1)\n",
        "@functools.cache\ndef build_network(num_classes):\n    return nn.Conv2d(3, int(torch.tensor(21).item()), 1)\n",
        "first = nn.Conv2d(3, 4, 1)\ndef build_network(num_classes):\n"
        "    return nn.Sequential(nn.Conv2d(3, 3, 1), first, nn.Conv2d(4, num_classes, 1))\n",
    ],
    ids=["one network", "one network that needs values", "a part"],
)
def test_students_that_would_share_parameters_are_refused(make: Callable, builds: str) -> None:
    with pytest.raises(InputError, match=r"to return new parameters each time, found (1\.)?weight again in the next"):
        check_networks(make(f"import functools\nimport torch\nfrom torch import nn\n{builds}"))


def test_sides_that_a_network_of_ones_own_does_not_take(make: Callable) -> None:
    network = BUILDS.format(parameters="").replace("    return", "    network.multiple = 24\n    return")
    with pytest.raises(InputError, match=r"at image_size=32: it takes multiples of 24; .* set another image_size$"):
        check_networks(make(network))


def test_a_backbone_that_is_no_module_takes_no_weights(make: Callable, tmp_path: Path) -> None:
    network = BUILDS.format(parameters="").replace("    return", "    network.backbone = 'a name'\n    return")
    with pytest.raises(InputError, match=r"called backbone, but Conv2d has none; set pretrained_model=none"):
        check_networks(make(network, pretrained_model=str(tmp_path / "weights.pth")))


@pytest.mark.parametrize("package", ["segmentation_models_pytorch", "timm"])
def test_without_the_library_one_line_says_what_to_install(
    make: Callable, monkeypatch: pytest.MonkeyPatch, package: str
) -> None:
    monkeypatch.setitem(sys.modules, package, None)
    experiment = make(decoder="UPerNet", backbone="tu-test_convnext")
    with pytest.raises(InputError, match=r"^decoder: expected segmentation_models_pytorch .* pip install") as caught:
        check_networks(experiment)
    assert "\n" not in str(caught.value) and package in str(caught.value)


def test_the_published_network_does_without_the_library(make: Callable, monkeypatch: pytest.MonkeyPatch) -> None:
    for package in ("segmentation_models_pytorch", "timm"):
        monkeypatch.setitem(sys.modules, package, None)
    experiment = make(backbone="resnet18_v1c", width="0.0625")
    check_networks(experiment)
    assert isinstance(experiment.network(), nn.Module)
