"""Weights: recognised whatever their naming, taken whole or refused, and the outputs they give."""

import gzip
import re
import socket
import urllib.error
import urllib.request
import zipfile
from collections.abc import Callable
from pathlib import Path

import pytest
import safetensors.torch
import torch
from repository import REPOSITORY
from runs import RunsCode
from torch import Tensor, nn
from torchvision.models import get_model

from furnace.__main__ import main
from furnace.config.checks import check_training
from furnace.config.experiment import read_experiment
from furnace.errors import InputError
from furnace.network import tensors, weight_files
from furnace.network.deeplabv3plus import DeepLabV3Plus
from furnace.network.pretrained import check_weights, load_backbone, network_of
from furnace.network.recognize import recognize
from furnace.network.resnet import BACKBONES, ResNet

EXPERIMENT = REPOSITORY / "exp.voc/ensemble_teacher+cutmix"
BLOCKS = {18: (2, 2, 2, 2), 34: (3, 4, 6, 3), 50: (3, 4, 6, 3), 101: (3, 4, 23, 3)}


class Block(nn.Module):
    """A block of the reference network, dilated in its 3x3 convolutions."""

    def __init__(self, inputs: int, channels: int, stride: int, dilation: int, bottleneck: bool) -> None:
        super().__init__()
        outputs = 4 * channels if bottleneck else channels
        around = dict(padding=dilation, dilation=dilation, bias=False)
        if bottleneck:
            self.conv1 = nn.Conv2d(inputs, channels, 1, bias=False)
            self.conv2 = nn.Conv2d(channels, channels, 3, stride, **around)
            self.conv3 = nn.Conv2d(channels, outputs, 1, bias=False)
            self.bn3 = nn.BatchNorm2d(outputs)
        else:
            self.conv1 = nn.Conv2d(inputs, channels, 3, stride, **around)
            self.conv2 = nn.Conv2d(channels, channels, 3, padding=1, bias=False)
            if dilation > 1:
                self.conv2 = nn.Conv2d(channels, channels, 3, **around)
        self.bn1, self.bn2 = nn.BatchNorm2d(channels), nn.BatchNorm2d(channels)
        self.downsample = None
        if stride > 1 or inputs != outputs:
            self.downsample = nn.Sequential(nn.Conv2d(inputs, outputs, 1, stride, bias=False), nn.BatchNorm2d(outputs))

    def forward(self, feature: Tensor) -> Tensor:
        shortcut = self.downsample(feature) if self.downsample else feature
        feature = self.bn2(self.conv2(self.bn1(self.conv1(feature)).relu()))
        if hasattr(self, "conv3"):
            feature = self.bn3(self.conv3(feature.relu()))
        return (feature + shortcut).relu()


class Reference(nn.Module):
    """A ResNet as OpenMMLab builds it, `stem` with its last norm inside, or with torchvision's 7x7 stem.

    Args:
        base: channels of layer1's blocks, 64 in a network of full width.
        stem_channels: None for the 7x7 stem; else those of the third convolution, the other two have half as many.
    """

    def __init__(self, depth: int, base: int, stem_channels: int | None) -> None:
        super().__init__()
        inputs = stem_channels or base
        if stem_channels:
            half = stem_channels // 2
            self.stem = nn.Sequential(
                nn.Conv2d(3, half, 3, 2, 1, bias=False), nn.BatchNorm2d(half), nn.ReLU(),
                nn.Conv2d(half, half, 3, 1, 1, bias=False), nn.BatchNorm2d(half), nn.ReLU(),
                nn.Conv2d(half, inputs, 3, 1, 1, bias=False), nn.BatchNorm2d(inputs), nn.ReLU(),
            )  # fmt: skip
        else:
            self.conv1, self.bn1 = nn.Conv2d(3, base, 7, 2, 3, bias=False), nn.BatchNorm2d(base)
        bottleneck = depth >= 50
        for stage, (number, stride) in enumerate(zip(BLOCKS[depth], (1, 2, 2, 1), strict=True)):
            channels, layers = base * 2**stage, []
            for index in range(number):
                dilation = 2 ** (index + 1) if stage == 3 else 1
                layers.append(Block(inputs, channels, 1 if index else stride, dilation, bottleneck))
                inputs = channels * (4 if bottleneck else 1)
            setattr(self, f"layer{stage + 1}", nn.Sequential(*layers))
        self.fc = nn.Linear(inputs, 5)

    def forward(self, image: Tensor) -> tuple[Tensor, Tensor]:
        feature = self.stem(image) if hasattr(self, "stem") else self.bn1(self.conv1(image)).relu()
        low_level = self.layer1(nn.functional.max_pool2d(feature, 3, 2, 1))
        return low_level, self.layer4(self.layer3(self.layer2(low_level)))


def with_random_norms(network: nn.Module) -> nn.Module:
    """In evaluation mode, its batch norms anything but the identity they start as."""
    for name, value in network.state_dict().items():
        if value.dim() == 1:
            value.uniform_(0.5, 1.5) if name.endswith(("weight", "running_var")) else value.normal_()
    return network.eval()


def in_network(part: nn.Module) -> nn.Module:
    """A network that has nothing but a backbone."""
    network = nn.Module()
    network.backbone = part
    return network


def load(part: nn.Module, source: str) -> str:
    return load_backbone(in_network(part), source, "resnet18_v1c")


def check(source: str, backbone: str, width: float) -> None:
    with torch.device("meta"):
        network = in_network(ResNet(backbone, width))
    check_weights(network, source, backbone, width)


def saved(path: Path, content: object) -> str:
    path.parent.mkdir(parents=True, exist_ok=True)
    torch.save(content, path)
    return str(path)


def small() -> ResNet:
    return ResNet("resnet18_v1c", width=0.125)


REFERENCES = {
    "OpenMMLab, full width": ((18, 64, 64), "resnet18_v1c_stem32", "ResNet-18 v1c with a stem of 32 channels"),
    "OpenMMLab, bottlenecks": (
        (50, 8, 8), "resnet50_v1c_stem32", "ResNet-50 v1c of width 0.125 with a stem of 4 channels"
    ),
    "OpenMMLab, wide stem": ((34, 4, 8), "resnet34_v1c", "ResNet-34 v1c of width 0.0625"),
    "torchvision, full width": ((18, 64, None), "resnet18", "ResNet-18 with a 7x7 stem"),
    "torchvision, bottlenecks": ((101, 4, None), "resnet101", "ResNet-101 of width 0.0625 with a 7x7 stem"),
}  # fmt: skip


@pytest.mark.parametrize("name", REFERENCES)
def test_converted_weights_give_the_outputs_of_the_network_they_come_from(name: str, tmp_path: Path) -> None:
    arguments, backbone, words = REFERENCES[name]
    reference = with_random_norms(Reference(*arguments))
    source = saved(tmp_path / "whatever.pth", {"meta": {"epoch": 1}, "state_dict": reference.state_dict()})
    naming = "OpenMMLab's naming" if arguments[2] else "torchvision's naming"
    assert network_of(source) == (backbone, arguments[1] / 64)
    network = ResNet(backbone, arguments[1] / 64).eval()
    assert load(network, source) == f"whatever.pth: {words} in {naming}; left out: 2 of fc"
    image = torch.randn(2, 3, 33, 47, dtype=torch.float64)
    with torch.no_grad():
        for expected, found in zip(reference.double()(image), network.double()(image), strict=True):
            torch.testing.assert_close(found, expected, rtol=1e-9, atol=1e-9 * expected.abs().max().item())


@pytest.mark.parametrize("backbone", BACKBONES)
@pytest.mark.parametrize("width", [0.0625, 0.1, 0.25, 0.3, 1 / 3, 0.7, 1, 1.7])
def test_backbone_and_width_follow_from_the_shapes(backbone: str, width: float) -> None:
    with torch.device("meta"):  # shapes alone
        state = ResNet(backbone, width).state_dict()
        found = recognize(state, "x")
        again = ResNet(found.backbone, found.width).state_dict()
    assert found.backbone == backbone and found.state.keys() == state.keys()
    assert {name: value.shape for name, value in again.items()} == {name: value.shape for name, value in state.items()}


def test_widths_are_round_numbers() -> None:
    with torch.device("meta"):
        for width in (0.3, 0.1, 0.0625, 1):
            assert recognize(ResNet("resnet18", width).state_dict(), "x").width == width


def in_parts(prefix: str, *beside: str) -> Callable[[dict], dict]:
    """The backbone below a prefix, with other parts beside it."""
    return lambda state: {
        **{f"{prefix}{name}": value for name, value in state.items()}, **{name: torch.zeros(3) for name in beside}
    }  # fmt: skip


FILES = {
    "published": (dict, "ResNet-18 v1c of width 0.125 in the published naming"),
    "with a classifier": (in_parts("", "fc.weight", "fc.bias"), "in the published naming; left out: 2 of fc"),
    "in state_dict": (lambda state: {"state_dict": state, "epoch": 3}, "in the published naming"),
    "in model": (lambda state: {"model": state}, "in the published naming"),
    "of DataParallel": (in_parts("module."), "in the published naming"),
    "of torch.compile": (in_parts("_orig_mod.module."), "in the published naming"),
    "OpenMMLab classifier": (
        in_parts("backbone.", "head.fc.weight"), "in the published naming; left out: 1 of head"
    ),
    "segmentation_models": (
        in_parts("encoder.", "decoder.0.weight", "decoder.1.weight"), "in the published naming; left out: 2 of decoder"
    ),
    "a detector": (in_parts("backbone.body.", "backbone.fpn.bias", "rpn.bias"), "left out: 1 of backbone, 1 of rpn"),
    "under another name": (lambda state: {"epoch": 3, "teacher": state}, "in the published naming"),
    "beside averages": (
        lambda state: {"state_dict": state, "state_dict_ema": state, "epoch": 3},
        "in the published naming; left out: state_dict_ema",
    ),
    "OpenMMLab segmentor": (
        in_parts("backbone.", "decode_head.conv_seg.bias", "auxiliary_head.conv_seg.bias"),
        "in the published naming; left out: 1 of decode_head, 1 of auxiliary_head",
    ),
    "all of these": (
        lambda state: {"state_dict": in_parts("module.backbone.", "module.decode_head.conv_seg.bias")(state)},
        "in the published naming; left out: 1 of decode_head",
    ),
    "a teacher": (
        lambda state: {"model": in_parts("backbone.", "head.aspp.red_bn.weight", "classifier.bias")(state)},
        "ResNet-18 v1c of width 0.125, one network of a run; left out: 1 of head, 1 of classifier",
    ),
    "students": (
        lambda state: {"model": in_parts(
            "branch1.backbone.", "branch1.head.reduce.1.bias", "branch1.classifier.bias", "branch2.backbone.bn1.weight"
        )(state)},
        "ResNet-18 v1c of width 0.125, student 1 of a snapshot; left out: 2 of branch1, 1 of branch2",
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", FILES)
@pytest.mark.parametrize("zipped", [True, False])
def test_a_file_fills_the_backbone(tmp_path: Path, name: str, zipped: bool) -> None:
    wrap, words = FILES[name]
    state = {key: value for key, value in small().state_dict().items() if not key.endswith("num_batches_tracked")}
    path = tmp_path / "weights.pth"
    torch.save(wrap(state), path, _use_new_zipfile_serialization=zipped)  # the published file is older than zip
    target = small()
    assert load(target, str(path)).endswith(words)
    assert all(torch.equal(target.state_dict()[key], value) for key, value in state.items())


@pytest.mark.parametrize("part", [small, lambda: nn.Sequential(nn.Conv2d(3, 2, 1), nn.BatchNorm2d(2))])
def test_weights_that_are_no_numbers_are_refused(tmp_path: Path, part: Callable[[], nn.Module]) -> None:
    state = part().state_dict()
    name = next(name for name in state if name.endswith("running_var"))
    state[name][1] = float("nan")
    source = saved(tmp_path / "weights.pth", state)
    with pytest.raises(InputError, match=rf"weights\.pth: expected numbers, found NaN in {re.escape(name)}; name"):
        load(part(), source)


def test_a_file_of_safetensors_fills_the_backbone(tmp_path: Path) -> None:
    source, state = tmp_path / "weights.safetensors", small().state_dict()
    safetensors.torch.save_file(state, source)
    target = small()
    assert load(target, str(source)) == "weights.safetensors: ResNet-18 v1c of width 0.125 in the published naming"
    assert all(torch.equal(value, state[name]) for name, value in target.state_dict().items())
    source.write_bytes(source.read_bytes()[:-100])
    with pytest.raises(InputError, match=f"^damaged file: {source}: .*; replace it"):
        check(str(source), "resnet18_v1c", 0.125)


def test_a_changed_byte_is_found_before_training(tmp_path: Path) -> None:
    source = saved(tmp_path / "weights.pth", small().state_dict())
    check(source, "resnet18_v1c", 0.125)
    content = bytearray(Path(source).read_bytes())
    content[len(content) // 2] ^= 1
    Path(source).write_bytes(content)
    with pytest.raises(InputError, match=f"damaged file: {source}: the checksum of"):
        check(source, "resnet18_v1c", 0.125)


def test_students_give_the_first_ones_backbone(tmp_path: Path) -> None:
    first, second = DeepLabV3Plus("resnet18_v1c", 3, 0.0625), DeepLabV3Plus("resnet18_v1c", 3, 0.0625)
    state = {f"branch{number}.{name}": value for number, student in ((2, second), (1, first))
             for name, value in student.state_dict().items()}  # fmt: skip
    target = ResNet("resnet18_v1c", 0.0625)
    load(target, saved(tmp_path / "model_epoch3.pth", {"model": state}))
    expected = first.backbone.state_dict()
    assert all(torch.equal(value, expected[name]) for name, value in target.state_dict().items())
    assert not torch.equal(target.conv1[0].weight, second.backbone.conv1[0].weight)


def test_none_leaves_the_start_as_it_is() -> None:
    target = small()
    before = {name: value.clone() for name, value in target.state_dict().items()}
    assert load(target, "none") == "none (random start)"
    assert all(torch.equal(value, before[name]) for name, value in target.state_dict().items())


@pytest.mark.parametrize(
    ("source", "backbone"),
    [
        ("DATA/resnet50_v1c.pth", "resnet50_v1c"),
        ("resnet101-deep.pth", "resnet101_v1c"),
        ("resnet18_x/weights.pth", None),
        ("torchvision://resnet34", "resnet34"),
        ("torchvision://resnet50@IMAGENET1K_V2", "resnet50"),
        ("torchvision://wide_resnet50_2", None),
        ("none", None),
        ("resnet1012.pth", None),
    ],
)
def test_without_a_file_the_name_tells_the_backbone(source: str, backbone: str | None) -> None:
    assert network_of(source) == (backbone, 1)


def test_what_is_in_a_file_counts_more_than_its_name(tmp_path: Path) -> None:
    state = ResNet("resnet34", 0.25).state_dict()
    assert network_of(saved(tmp_path / "resnet50_v1c.pth", state)) == ("resnet34", 0.25)
    (tmp_path / "resnet50_v1c.pth").write_text("damaged")
    assert network_of(str(tmp_path / "resnet50_v1c.pth")) == ("resnet50_v1c", 1)


MISFITS = {
    "layer2.0.conv1.weight missing": lambda state: {
        name: value for name, value in state.items() if name != "layer2.0.conv1.weight"
    },
    "conv1.0.weight missing": lambda state: {name: value for name, value in state.items() if name != "conv1.0.weight"},
    "surprise not in the network": lambda state: {**state, "surprise": torch.zeros(1)},
    "decode_head.weight not in the network": in_parts("", "decode_head.weight"),
    r"conv1.0.weight has shape \(32, 3, 3, 3\)": lambda state: {**state, "conv1.0.weight": torch.zeros(32, 3, 3, 3)},
    r"layer1.0.conv1.weight has shape \(9,": lambda state: {**state, "layer1.0.conv1.weight": torch.zeros(9, 16, 3, 3)},
    r"layer4.0.conv1.weight has shape \(\)": lambda state: {**state, "layer4.0.conv1.weight": torch.tensor(1.0)},
    "bn1.bias is no tensor": lambda state: {**state, "bn1.bias": "text"},
    "two entries for bn1.weight": lambda state: {**state, "stem.7.weight": state["bn1.weight"]},
}


@pytest.mark.parametrize("fragment", MISFITS)
def test_a_weight_file_that_does_not_fit_names_the_key(tmp_path: Path, fragment: str) -> None:
    source = saved(tmp_path / "weights.pth", MISFITS[fragment](small().state_dict()))
    target = small()
    before = target.bn1.weight.clone()
    with pytest.raises(InputError, match=f"weights do not fit: {source}: {fragment}"):
        load(target, source)
    assert torch.equal(target.bn1.weight, before)


TWO_NETWORKS = {
    "holds several dictionaries of tensors, student, teacher": lambda state: {"student": state, "teacher": state},
    r"holds several backbones \(encoder_q.layer1, encoder_k.layer1\)": lambda state: (
        in_parts("encoder_q.")(state) | in_parts("encoder_k.")(state)
    ),
}


@pytest.mark.parametrize("words", TWO_NETWORKS)
def test_nothing_is_guessed_where_a_file_holds_several_networks(tmp_path: Path, words: str) -> None:
    source = saved(tmp_path / "weights.pth", TWO_NETWORKS[words](small().state_dict()))
    with pytest.raises(InputError, match=f"^weights not recognised: {source} {words}: expected one.* save"):
        load(small(), source)


def of_torchvision(name: str) -> Callable[[], dict]:
    return lambda: get_model(name).state_dict()


def v1d() -> dict:
    state = ResNet("resnet50_v1c_stem32").state_dict()
    return {
        name.replace("downsample.1", "downsample.2").replace("downsample.0", "downsample.1"): value
        for name, value in state.items()
    }


OTHERS = {
    "a ResNet-152": of_torchvision("resnet152"),
    r"a ResNeXt \(grouped convolutions\)": of_torchvision("resnext50_32x4d"),
    "a wide ResNet": of_torchvision("wide_resnet50_2"),
    r"a ResNet-v1d \(average pooling in its shortcuts\)": v1d,
    "a transformer": of_torchvision("vit_b_32"),
    "no ResNet": of_torchvision("vgg11"),
    "a ResNet of 2, 2, 2, 0 blocks": lambda: {
        name: value for name, value in ResNet("resnet18").state_dict().items() if not name.startswith("layer4.")
    },
    r"this program's resume.pth \(the networks lie beside it in snapshot\)": lambda: {
        "epoch": 1, "digests": {}, "iteration": 9, "optimizers": [], "scaler": {}, "settings": {}
    },
    "an optimizer's state": lambda: torch.optim.SGD(small().parameters()).state_dict(),
}  # fmt: skip


@pytest.mark.parametrize("words", OTHERS)
def test_what_a_file_is_not_is_said(words: str) -> None:
    with torch.device("meta"):
        state = OTHERS[words]()
    keys = ", ".join(list(state)[:3])
    with pytest.raises(
        InputError, match=f"^weights not recognised: a.pth is {words}: expected a ResNet-18.*"
    ) as caught:
        recognize(state, "a.pth")
    assert f"found {keys}; name another file" in str(caught.value)


@pytest.mark.parametrize("value", ["text", torch.tensor(1.0)])
def test_names_without_tensors_are_no_network(value: object) -> None:
    """They would give a network without channels."""
    with pytest.raises(InputError, match="a ResNet's names without its convolutions"):
        recognize(dict.fromkeys(ResNet("resnet18").state_dict(), value), "x.pth")


def test_an_empty_file_has_no_key() -> None:
    with pytest.raises(InputError, match=r"is no ResNet: .* found no key"):
        recognize({}, "a.pth")


def test_another_backbone_or_width_than_was_set_is_one_line(tmp_path: Path) -> None:
    narrow = saved(tmp_path / "a.pth", Reference(18, 64, 64).state_dict())
    snapshot = saved(tmp_path / "b.pth", {"model": DeepLabV3Plus("resnet18_v1c", 2, 0.25).state_dict()})
    check(narrow, "resnet18_v1c_stem32", 1)
    check(snapshot, "resnet18_v1c", 0.25)
    for source, backbone, width, line in (
        (narrow, "resnet18_v1c", 1,
         "ResNet-18 v1c with a stem of 32 channels in OpenMMLab's naming; backbone is resnet18_v1c; "
         "set backbone=resnet18_v1c_stem32 or leave it unset"),
        (snapshot, "resnet18_v1c", 1,
         "ResNet-18 v1c of width 0.25, one network of a run; width is 1; set width=0.25 or leave it unset"),
        (snapshot, "resnet50", 0.5,
         "ResNet-18 v1c of width 0.25, one network of a run; backbone is resnet50 and width is 0.5; "
         "set backbone=resnet18_v1c width=0.25 or leave them unset"),
    ):  # fmt: skip
        with pytest.raises(InputError) as caught:
            check(source, backbone, width)
        assert str(caught.value) == f"pretrained_model: {source} is {line}"


def test_code_in_a_weight_file_does_not_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    torch.save({**small().state_dict(), "x": RunsCode()}, "resnet18_v1c.pth")
    assert network_of("resnet18_v1c.pth") == ("resnet18_v1c", 1)  # by its name
    with pytest.raises(InputError, match=r"not a file of plain tensors \(it holds eval\)"):
        check("resnet18_v1c.pth", "resnet18_v1c", 0.125)
    with pytest.raises(InputError, match="not a file of plain tensors"):
        load(small(), "resnet18_v1c.pth")
    assert not Path("ran").exists()


@pytest.mark.parametrize("zipped", [True, False])
@pytest.mark.parametrize("kept", [0.0, 0.01, 0.5, 0.999])
def test_a_truncated_file_is_one_line(tmp_path: Path, zipped: bool, kept: float) -> None:
    path = tmp_path / "resnet18_v1c.pth"
    torch.save(small().state_dict(), path, _use_new_zipfile_serialization=zipped)
    content = path.read_bytes()
    path.write_bytes(content[: int(kept * len(content))])
    assert network_of(str(path)) == ("resnet18_v1c", 1)
    with pytest.raises(InputError, match=rf"(damaged file|refused): {path}") as caught:
        check(str(path), "resnet18_v1c", 1)
    assert "\n" not in str(caught.value)


def zipped(path: Path, *names: str) -> None:
    with zipfile.ZipFile(path, "w") as file:
        for name in names:
            file.writestr(name, b"x")


OTHER_FORMS = {
    "a pointer of Git LFS": lambda path: path.write_text("version https://git-lfs.github.com/spec/v1\noid sha256:0\n"),
    "a web page": lambda path: path.write_text("\n<!DOCTYPE html>\n<html><body>Sign in</body></html>"),
    "text, which begins with 'Entry not found'": lambda path: path.write_text("Entry not found"),
    "a TorchScript archive": lambda path: torch.jit.script(nn.Linear(2, 2)).save(str(path)),
    "a zip archive, but none of torch.save": lambda path: zipped(path, "resnet18_v1c.pth"),
    "an archive": lambda path: path.write_bytes(gzip.compress(b"weights")),
    "an HDF5 file": lambda path: path.write_bytes(b"\x89HDF\r\n\x1a\n"),
}


@pytest.mark.parametrize("words", OTHER_FORMS)
def test_a_file_of_another_form_is_said_to_be_that(tmp_path: Path, words: str) -> None:
    path = tmp_path / "resnet18_v1c.pth"
    OTHER_FORMS[words](path)
    with pytest.raises(InputError, match=f"^no file of weights: {path} is {words}.*; .*") as caught:
        check(str(path), "resnet18_v1c", 0.125)
    assert "\n" not in str(caught.value)


def test_a_missing_file_offers_the_other_two(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"torchvision://resnet50.*pretrained_model=none"):
        check("/nowhere/resnet50_v1c.pth", "resnet50_v1c", 1)
    (tmp_path / "resnet50_v1c.pth").touch()
    with pytest.raises(InputError, match=r"not found: .*/resnet50v1c.pth \(perhaps resnet50_v1c.pth\): "):
        check(f"{tmp_path}/resnet50v1c.pth", "resnet50_v1c", 1)
    with pytest.raises(InputError, match=f"pretrained_model is a folder: {tmp_path}: expected a file"):
        check(str(tmp_path), "resnet50_v1c", 1)


@pytest.fixture
def hub(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The folder of torchvision's weights, empty, on a machine without network."""

    def no_network(*_, **__):
        raise urllib.error.URLError("no network")

    monkeypatch.setenv("TORCH_HOME", str(tmp_path / "home"))
    monkeypatch.setattr("torch.hub.urlopen", no_network)
    return tmp_path / "home/hub/checkpoints"


TORCHVISION_FILES = {
    "resnet18": "resnet18-f37072fd.pth",
    "resnet34@IMAGENET1K_V1": "resnet34-b627a593.pth",
    "resnet50@IMAGENET1K_V1": "resnet50-0676ba61.pth",
    "resnet50@IMAGENET1K_V2": "resnet50-11ad3fa6.pth",
    "resnet101@IMAGENET1K_V1": "resnet101-63fe2227.pth",
    "resnet101@IMAGENET1K_V2": "resnet101-cd907fc2.pth",
}


@pytest.mark.parametrize("name", TORCHVISION_FILES)
def test_without_network_the_place_of_the_file_is_named(hub: Path, name: str) -> None:
    file = TORCHVISION_FILES[name]
    with pytest.raises(InputError) as caught:
        check(f"torchvision://{name}", name.partition("@")[0], 1)
    assert str(caught.value) == (
        f"cannot download torchvision://{name}: <urlopen error no network>: "
        f"expected https://download.pytorch.org/models/{file}; put {file} into {hub}, "
        "or set pretrained_model to another file or none"
    )
    assert not list(hub.glob("*"))


def test_a_folder_of_downloads_that_cannot_be_written(hub: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (hub.parents[1]).write_text("a file in its place")
    with pytest.raises(InputError, match=r"^cannot download torchvision://resnet18: .*; set TORCH_HOME to a folder"):
        check("torchvision://resnet18", "resnet18", 1)
    monkeypatch.setattr("torch.hub.get_dir", lambda: "~/.cache/torch/hub")  # as where the system knows no home
    with pytest.raises(InputError, match=r"no home folder is known: .*; set TORCH_HOME to a folder"):
        check("torchvision://resnet18", "resnet18", 1)
    assert not Path("~").exists()


def test_a_download_that_stalls_ends(hub: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A server that takes the connection and then says nothing."""
    monkeypatch.undo()
    monkeypatch.setenv("TORCH_HOME", str(hub.parents[1]))
    monkeypatch.setattr(weight_files, "STALLED", 0.2)
    with socket.create_server(("127.0.0.1", 0)) as server:
        address = f"http://127.0.0.1:{server.getsockname()[1]}/x"
        monkeypatch.setattr("torch.hub.urlopen", lambda *_, **__: urllib.request.urlopen(address))
        with pytest.raises(InputError, match=r"cannot download torchvision://resnet18: .*timed out"):
            check("torchvision://resnet18", "resnet18", 1)
    assert socket.getdefaulttimeout() is None


def test_a_file_put_there_needs_no_network(hub: Path) -> None:
    from torchvision.models import resnet18

    state = with_random_norms(resnet18()).state_dict()
    saved(hub / "resnet18-f37072fd.pth", state)
    check("torchvision://resnet18", "resnet18", 1)
    target = ResNet("resnet18")
    assert load(target, "torchvision://resnet18") == (
        "torchvision://resnet18 (resnet18-f37072fd.pth): ResNet-18 with a 7x7 stem in torchvision's naming; "
        "left out: 2 of fc"
    )
    assert all(torch.equal(value, state[name]) for name, value in target.state_dict().items())
    with pytest.raises(InputError, match=r"ResNet-18 with a 7x7 stem.*backbone is resnet18_v1c; set backbone=resnet18"):
        check("torchvision://resnet18", "resnet18_v1c", 1)
    (hub / "resnet18-f37072fd.pth").write_bytes(b"")
    with pytest.raises(InputError, match=f"damaged file: {hub}/resnet18-f37072fd.pth: it is empty"):
        check("torchvision://resnet18", "resnet18", 1)


def test_a_download_is_checked_by_its_digest(hub: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    other = saved(tmp_path / "other.pth", {"x": torch.ones(1)})
    monkeypatch.setattr("torch.hub.urlopen", lambda *_, **__: urllib.request.urlopen(f"file://{other}"))
    with pytest.raises(InputError, match="cannot download torchvision://resnet18: invalid hash value"):
        check("torchvision://resnet18", "resnet18", 1)
    assert not list(hub.glob("*"))


@pytest.mark.parametrize(
    ("source", "expected"),
    [
        ("resnet34@IMAGENET1K_V2", "expected torchvision://resnet34@IMAGENET1K_V1; change"),
        (
            "resnet50@V2",
            "expected torchvision://resnet50@IMAGENET1K_V1 or torchvision://resnet50@IMAGENET1K_V2; change",
        ),
        ("resnet17", "expected one of torchvision://resnet18, torchvision://resnet34, torchvision://resnet50, "),
        ("wide_resnet50_2", "expected one of torchvision://resnet18, "),
        ("resnet152", "expected one of torchvision://resnet18, "),
        ("", "expected one of torchvision://resnet18, "),
    ],
)
def test_weights_that_torchvision_does_not_have(hub: Path, source: str, expected: str) -> None:
    with pytest.raises(InputError, match=f"unknown weights: torchvision://{source}: {expected}"):
        check(f"torchvision://{source}", "resnet34", 1)


@pytest.fixture
def run(demo_data: Path, tmp_path: Path) -> Callable[..., int]:
    """Runs a command on the demo data with neither backbone nor width set; returns its exit status."""

    def call(command: str, *settings: str) -> int:
        few = ["image_size=32", "nepochs=1", "batch_size=4", "NGPUS=0", "eval_epochs=last"]
        where = [f"dataset_path={demo_data}", f"OUTPUT_PATH={tmp_path}/{{backbone}}"]
        return main([command, str(experiment_in(tmp_path)), *few, *where, *settings])

    return call


def experiment_in(folder: Path) -> Path:
    """A copy of exp.voc's experiment, so that its log_df.csv lies here."""
    copy = folder / "experiment"
    copy.mkdir(exist_ok=True)
    for name in ("config.py", "network.py"):
        (copy / name).write_text((EXPERIMENT / name).read_text())
    return copy


@pytest.mark.slow
def test_a_run_starts_from_openmmlabs_file_and_another_from_its_snapshot(
    run: Callable[..., int], tmp_path: Path, capsys: pytest.CaptureFixture
) -> None:
    source = tmp_path / "a.pth"
    saved(source, {"state_dict": in_parts("backbone.")(Reference(18, 4, 4).state_dict())})
    assert run("train", f"pretrained_model={source}") == 0
    words = "ResNet-18 v1c of width 0.0625 with a stem of 2 channels"
    assert (
        f"resnet18_v1c_stem32 width 0.0625\nweights: a.pth: {words} in OpenMMLab's naming; left out: 2 of fc\n"
        in capsys.readouterr().out
    )

    snapshot = tmp_path / "res18_stem32/snapshot/model_epoch1.pth"
    second = f"OUTPUT_PATH={tmp_path}/second"
    assert run("train", f"pretrained_model={snapshot}", "width=1") == 2
    assert "width is 1; set width=0.0625 or leave it unset" in capsys.readouterr().err
    assert run("train", f"pretrained_model={snapshot}", "learning_rate=0", second) == 0
    assert f"weights: model_epoch1.pth: {words}, student 1 of a snapshot; left out: " in capsys.readouterr().out
    before = torch.load(snapshot, weights_only=True)["model"]
    after = torch.load(tmp_path / "second/snapshot/model_epoch1.pth", weights_only=True)["model"]
    for student in ("branch1", "branch2"):  # learning_rate=0: still the weights they started from
        assert torch.equal(after[f"{student}.backbone.conv1.3.weight"], before["branch1.backbone.conv1.3.weight"])

    source.unlink()
    snapshot.rename(tmp_path / "moved.pth")
    assert run("eval", f"pretrained_model={snapshot}", second) == 0  # evaluation does without the file
    snapshot.parent.mkdir(exist_ok=True)
    (tmp_path / "moved.pth").rename(snapshot)
    assert run("eval", "pretrained_model=none", f"OUTPUT_PATH={tmp_path}/res18_stem32") == 0


def test_training_refuses_a_damaged_file_that_evaluation_ignores(demo_data: Path, tmp_path: Path) -> None:
    path = tmp_path / "resnet34_v1c.pth"
    path.write_bytes(b"PK\x03\x04 no more")
    texts = {"dataset_path": str(demo_data), "pretrained_model": str(path), "OUTPUT_PATH": str(tmp_path / "{backbone}")}
    experiment = read_experiment(EXPERIMENT, texts)
    assert experiment.settings.backbone == "resnet34_v1c" and experiment.settings.OUTPUT_PATH == tmp_path / "res34"
    with pytest.raises(InputError, match=f"damaged file: {path}"):
        check_training(experiment)


def test_a_file_is_mapped_where_its_format_allows(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    source = saved(tmp_path / "a.pth", small().state_dict())
    asked = []
    load = torch.load
    monkeypatch.setattr(tensors.torch, "load", lambda *a, **named: asked.append(named["mmap"]) or load(*a, **named))
    network_of(source)
    torch.save(small().state_dict(), source, _use_new_zipfile_serialization=False)
    network_of(source)
    assert asked == [True, False]
