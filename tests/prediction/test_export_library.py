"""Graphs of networks that do not take every size, or whose sizes torch cannot keep free."""

import json
import time
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import pytest
import torch
import torch.nn.functional as F
from runs import make_experiment
from timm.layers import Conv2dSame, padding
from torch import Tensor, nn

from furnace.config.experiment import read_experiment
from furnace.errors import InputError
from furnace.network.choice import build_network
from furnace.prediction import export, onnx_graph
from furnace.prediction.export import metadata_of, write_onnx
from furnace.prediction.image_sizes import ImageSizes, attempts, random_images
from furnace.prediction.onnx_graph import Comparison, Difference, PredictorGraph
from furnace.prediction.recordable import pooled, recordable
from furnace.prediction.time_limit import OutOfTime, computing_limit
from furnace.prediction.trained import Trained

SIZE = 96  # the images that the networks below were trained on


class Blocks(nn.Module):
    """It sees images in blocks of 8 x 8, and says nothing of that."""

    def __init__(self) -> None:
        super().__init__()
        self.project = nn.Conv2d(3 * 8 * 8, 2, 1)

    def forward(self, image: Tensor) -> Tensor:
        blocks = self.project(F.pixel_unshuffle(image, 8))  # (B, 2, H/8, W/8)
        return F.interpolate(blocks, scale_factor=8.0, mode="bilinear")


class SamePadded(nn.Module):
    """Its padding depends on the size, as that of EfficientNet-Lite does."""

    multiple = 4

    def __init__(self) -> None:
        super().__init__()
        self.layers = nn.Sequential(Conv2dSame(3, 4, 3, stride=2), nn.ReLU(), Conv2dSame(4, 2, 5, stride=2))

    def forward(self, image: Tensor) -> Tensor:
        return F.interpolate(self.layers(image), size=image.shape[2:], mode="bilinear")


class Pooled(nn.Module):
    """It pools features to 3 x 2, as the pyramids of PSPNet and UPerNet do."""

    multiple = 2

    def __init__(self) -> None:
        super().__init__()
        self.layers = nn.Sequential(nn.Conv2d(3, 2, 2, stride=2), nn.AdaptiveAvgPool2d((3, 2)))

    def forward(self, image: Tensor) -> Tensor:
        return F.interpolate(self.layers(image), size=image.shape[2:], mode="bilinear")


class OfOneSize(Blocks):
    """Nothing but the number of images can be free: the code goes through bands of rows."""

    def forward(self, image: Tensor) -> Tensor:
        logits = super().forward(image)
        return torch.cat([logits[:, :, top : top + 48] for top in range(0, image.shape[2], 48)], dim=2)


class OfOneImage(OfOneSize):
    """Nothing can be free: the code goes through the images, too."""

    def forward(self, image: Tensor) -> Tensor:
        return torch.cat([super(OfOneImage, self).forward(image[index : index + 1]) for index in range(len(image))])


class Declaring(nn.Module):
    """It takes all sizes, but asks for multiples."""

    def __init__(self, multiple: int) -> None:
        super().__init__()
        self.multiple = multiple

    def forward(self, image: Tensor) -> Tensor:
        return image[:, :2]


def tiny_transformer() -> nn.Module:
    """It asks for multiples of 16 and takes those of 32; its attribute is that of the library."""
    network = build_network("DPT", "tu-test_vit", num_classes=2, width=0.0625)
    assert network.multiple == 16
    return network


def free(step: int) -> list[object]:
    return ["batch", 3, f"{step}*rows", f"{step}*columns"]


@torch.no_grad()
@pytest.mark.parametrize(
    ("build", "said", "shape", "images"),
    [
        (Blocks, "multiples of 8", free(8), [(1, 40, 72), (3, 8, 16)]),
        (SamePadded, "multiples of 4", free(4), [(2, 36, 100)]),
        (Pooled, "multiples of 2", free(2), [(1, 6, 62), (2, 50, 34)]),
        (tiny_transformer, "multiples of 32", free(32), [(2, 32, 96), (1, 160, 160)]),
        (OfOneSize, "96 x 96", ["batch", 3, SIZE, SIZE], [(1, SIZE, SIZE), (4, SIZE, SIZE)]),
        (OfOneImage, "96 x 96, one image at a time", [1, 3, SIZE, SIZE], [(1, SIZE, SIZE)]),
    ],
)
def test_a_graph_takes_the_sizes_that_it_names(
    tmp_path: Path, capsys: pytest.CaptureFixture, build, said: str, shape: list, images: list
) -> None:
    torch.manual_seed(0)
    path, network = tmp_path / "v0.onnx", build().eval()
    write_onnx(path, [network], {}, SIZE)
    lines = capsys.readouterr().out.splitlines()
    assert len(lines) == 3 and lines[1].startswith(f"{path}: for images of certain sizes: {said}")
    assert ("other sizes" in lines[1]) == (SIZE in shape)  # torch's reason, where it had one
    assert "largest difference" in lines[2]
    model = onnx.load(path)
    found = [size.dim_param or size.dim_value for size in model.graph.input[0].type.tensor_type.shape.dim]
    about = {entry.key: entry.value for entry in model.metadata_props}
    assert found == shape and about["sizes"] == said
    if said.startswith("multiples"):
        assert said == f"multiples of {about['multiple']}"

    session, generator = onnxruntime.InferenceSession(path), np.random.default_rng(1)
    predictor = PredictorGraph([network])
    for size in images:
        image = torch.from_numpy(generator.integers(0, 256, (size[0], 3, *size[1:])).astype(np.float32))
        logits = torch.from_numpy(session.run(["logits"], {"image": image.numpy()})[0])
        torch.testing.assert_close(logits, predictor(image), rtol=1e-4, atol=1e-4)


def test_sizes_at_which_the_graph_differs_are_not_written(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture
) -> None:
    """A graph of free sizes that is wrong falls to one of a fixed size, and a wrong one of that to an error."""
    bad = ["any", "multiples of 32"]

    def compared(graph: bytes, predictor: PredictorGraph, sizes: ImageSizes, image_size: int) -> Comparison:
        assert graph.decode() == str(sizes) and image_size == 32
        return Comparison([Difference(1e-6, 1e-6, 0), Difference(0.5, 0.5, 3) if str(sizes) in bad else equal])

    equal = Difference(0.0, 0.0, 0)
    monkeypatch.setattr(onnx_graph, "onnx_bytes", lambda predictor, metadata, sizes: str(sizes).encode())
    monkeypatch.setattr(onnx_graph, "compared", compared)
    path, networks = tmp_path / "v0.onnx", [nn.Conv2d(3, 2, 1)]
    write_onnx(path, networks, {}, 32)
    assert path.read_text() == "32 x 32"
    said = "32 x 32; other sizes: ONNX Runtime differs from PyTorch by up to 0.5 (0.5 of the largest logit)\n"
    assert said in capsys.readouterr().out
    path.unlink()
    bad += ["32 x 32", "32 x 32, one image at a time"]
    with pytest.raises(InputError, match=r"ONNX Runtime differs from PyTorch by up to 0.5 .* expected rounding alone"):
        write_onnx(path, networks, {}, 32)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("found", [Difference(0.1, 2e-4, 0), Difference(1e-6, 1e-6, 1)])
def test_one_difference_decides(found: Difference) -> None:
    equal = Difference(1e-5, 1e-5, 0)
    assert not Comparison([equal, equal]).differs and Comparison([equal, found, equal]).differs


def test_what_takes_too_long_is_left_and_what_cannot_be_recorded_is_told(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture
) -> None:
    tried = []

    def endless(predictor: PredictorGraph, metadata: dict, sizes: ImageSizes) -> bytes:
        tried.append(str(sizes))
        while sizes.step:
            pass
        return b"graph"

    def failing(*_: object) -> bytes:
        raise RuntimeError("torch says nothing") from ValueError("no such operator\nmore of it")

    monkeypatch.setattr(export, "RECORDING_SECONDS", 0.05)
    monkeypatch.setattr(onnx_graph, "compared", lambda *_: Comparison([Difference(0.0, 0.0, 0)]))
    monkeypatch.setattr(onnx_graph, "onnx_bytes", endless)
    write_onnx(tmp_path / "v0.onnx", [nn.Conv2d(3, 2, 1)], {}, 32)
    assert tried == ["any", "32 x 32"]  # where one of free sizes takes too long, no other one is tried
    assert "32 x 32; other sizes: torch was not done after 0.05 s" in capsys.readouterr().out

    monkeypatch.setattr(onnx_graph, "onnx_bytes", failing)
    with pytest.raises(InputError) as caught:
        write_onnx(tmp_path / "v1.onnx", [nn.Conv2d(3, 2, 1)], {}, 32)
    assert "(ValueError: no such operator); " in str(caught.value) and "\n" not in str(caught.value)
    assert [path.name for path in tmp_path.iterdir()] == ["v0.onnx"]


def test_computing_is_limited_and_waiting_is_not() -> None:
    with computing_limit(0.05):
        time.sleep(0.2)
    with pytest.raises(OutOfTime), computing_limit(0.05):
        while True:
            try:
                sum(range(1000))
            except Exception:  # such code does not keep it from ending
                continue
    with computing_limit(0.05):
        pass
    start = time.process_time()
    while time.process_time() < start + 0.1:  # nothing is interrupted when the context has ended
        pass


@pytest.mark.parametrize(
    ("multiples", "image_size", "expected"),
    [
        ([1], 96, ["any", "multiples of 32", "96 x 96", "96 x 96, one image at a time"]),
        ([1], 100, ["any", "100 x 100", "100 x 100, one image at a time"]),  # what is trained on must be taken
        ([16], 96, ["multiples of 16", "multiples of 32", "96 x 96", "96 x 96, one image at a time"]),
        ([32, 1], 96, ["multiples of 32", "96 x 96", "96 x 96, one image at a time"]),
        ([14, 16], 224, ["multiples of 112", "multiples of 224", "224 x 224", "224 x 224, one image at a time"]),
    ],
)
def test_sizes_suit_all_networks_of_a_predictor(multiples: list[int], image_size: int, expected: list[str]) -> None:
    networks: list[nn.Module] = [Declaring(multiple) for multiple in multiples]
    assert [str(sizes) for sizes in attempts(PredictorGraph(networks), networks, image_size)] == expected


def test_padding_by_size_is_never_recorded_for_any_size() -> None:
    network = SamePadded()
    network.multiple = 1
    first = next(attempts(PredictorGraph([network]), [network], SIZE))
    assert str(first) == "multiples of 2"


def test_windows_are_recorded_at_one_size_from_the_start() -> None:
    """Otherwise an export of a Swin Transformer would take a minute longer, until it is given up."""

    class WindowAttention(nn.Identity):
        pass

    network = nn.Sequential(Declaring(32), WindowAttention())
    assert [sizes.step for sizes in attempts(PredictorGraph([network]), [network], SIZE)] == [None, None]


def test_images_of_any_size_are_drawn_as_ever() -> None:
    """The longhand version is the first one of this program."""
    found, generator = list(ImageSizes(step=1).compared_images(np.random.default_rng(0), 512)), np.random.default_rng(0)
    for image, (low, high) in zip(found, [(16, 160), (16, 160), (16, 160), (304, 352)], strict=True):
        batch = int(generator.integers(1, 3))
        height, width = generator.integers(low, high, size=2)
        assert np.array_equal(image.numpy(), generator.integers(0, 256, (batch, 3, height, width)))
    sides = [random_images(np.random.default_rng(seed), 16, 160, step=32).shape[2:] for seed in range(30)]
    assert {side for shape in sides for side in shape} == {32, 64, 96, 128}
    wide = random_images(np.random.default_rng(0), 304, 352, step=224).shape
    assert tuple(wide[2:]) == (448, 448)


def test_recordable_padding_is_timms_own() -> None:
    original = padding.get_same_padding
    with recordable():
        assert padding.get_same_padding is not original
        for size in range(1, 40):
            for kernel, stride, dilation in [(3, 2, 1), (5, 2, 1), (1, 2, 1), (3, 1, 2), (2, 4, 1), (7, 3, 3)]:
                expected = original(size, kernel, stride, dilation)
                assert padding.get_same_padding(size, kernel, stride, dilation) == expected
    assert padding.get_same_padding is original


@pytest.mark.parametrize(
    ("second", "expected"),
    [
        ({}, {}),
        ({"backbone_2": "tu-test_vit"}, {"backbone_2": "tu-test_vit"}),
        (
            {"decoder_2": "published", "backbone_2": "resnet18_v1c"},
            {"decoder_2": "published", "backbone_2": "resnet18_v1c"},
        ),
    ],
)
def test_metadata_name_decoders_and_backbones(tmp_path: Path, second: dict, expected: dict) -> None:
    texts = {
        "dataset_path": str(tmp_path), "OUTPUT_PATH": str(tmp_path / "run"), "pretrained_model": "none",
        "decoder": "DPT", "backbone": "tu-vit_tiny_patch16_224", **second,
    }  # fmt: skip
    experiment = read_experiment(make_experiment(tmp_path), texts)
    about = metadata_of(Trained(experiment, None, 3, "v2"), [Declaring(16), Declaring(32)])  # type: ignore[arg-type]
    assert about["decoder"] == "DPT" and about["backbone"] == "tu-vit_tiny_patch16_224" and about["multiple"] == 32
    assert {name: value for name, value in about.items() if name.endswith("_2")} == expected
    assert about["mean"] == [0.485, 0.456, 0.406] and json.dumps(about)


def test_metadata_name_what_a_network_of_ones_own_is_given_alone(tmp_path: Path) -> None:
    folder = make_experiment(tmp_path)
    (folder / "network.py").write_text("def build_network(num_classes, width): pass\n")
    experiment = read_experiment(folder, {"dataset_path": str(tmp_path), "pretrained_model": "none", "width": "0.5"})
    about = metadata_of(Trained(experiment, None, 3, "v2"), [Declaring(1)])  # type: ignore[arg-type]
    assert about["width"] == 0.5 and not about.keys() & {"decoder", "backbone", "atrous_rates"}


def test_recordable_pooling_is_torchs_own() -> None:
    generator = torch.Generator().manual_seed(0)
    for height, width in [(1, 1), (2, 7), (5, 6), (12, 13), (31, 4)]:
        feature = torch.randn(2, 3, height, width, generator=generator, dtype=torch.float64)
        for rows, columns in [(1, 2), (2, 2), (3, 3), (6, 5)]:
            expected = F.adaptive_avg_pool2d(feature, (rows, columns))
            torch.testing.assert_close(pooled(feature, rows, columns), expected, rtol=1e-12, atol=1e-12)
    original = F.adaptive_avg_pool2d
    with recordable():
        assert F.adaptive_avg_pool2d is not original
        assert torch.equal(F.adaptive_avg_pool2d(feature, 3), original(feature, 3))
    assert F.adaptive_avg_pool2d is original
