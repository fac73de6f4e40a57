"""What is exported computes what the networks do, at any size, and loads without this program."""

import json
import re
import subprocess
import sys
from pathlib import Path

import cv2
import numpy as np
import onnx
import onnxruntime
import pytest
import torch
from PIL import Image
from repository import REPOSITORY
from runs import TrainedRun, train
from safetensors import safe_open
from safetensors.torch import load_file
from torch import Tensor, nn

from furnace.__main__ import main
from furnace.data.datasets import VOC
from furnace.data.normalization import IMAGENET_MEAN, IMAGENET_STD
from furnace.network.deeplabv3plus import DeepLabV3Plus
from furnace.prediction import onnx_graph

GAP = 1e-4
SMALL = [(1, 1, 1), (2, 3, 40), (1, 16, 16), (3, 33, 65)]  # batch, height, width
LARGE = [(1, 320, 305), (2, 289, 96)]  # no tap of a dilated kernel is out of the map


@pytest.fixture(scope="module")
def trained(demo_data: Path, tmp_path_factory: pytest.TempPathFactory) -> TrainedRun:
    """Its logits are made as small as those of a network that was trained for long: rounding grows with them."""
    run = train(tmp_path_factory.mktemp("export"), demo_data)
    for path in run.run.rglob("*epoch*.pth"):
        content = torch.load(path, weights_only=True)
        for name, value in content["model"].items():
            if ".classifier." in f".{name}":
                value /= 200
        torch.save(content, path)
    return run


@pytest.fixture(scope="module")
def exported(trained: TrainedRun, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("exported")
    assert export(trained, "--out", folder) == 0
    return folder


@pytest.fixture(scope="module")
def teachers(trained: TrainedRun) -> list[nn.Module]:
    """Both, filled from the snapshot without the code under test."""
    networks = [DeepLabV3Plus("resnet18_v1c", 21, 0.0625).eval() for _ in range(2)]
    for number, network in enumerate(networks, start=1):
        network.load_state_dict(snapshot(trained, f"ema_snapshot/ema_branch{number}_epoch3.pth"))
    return networks


def snapshot(trained: TrainedRun, name: str) -> dict[str, Tensor]:
    return torch.load(trained.run / name, weights_only=True)["model"]


def export(trained: TrainedRun, *arguments: object) -> int:
    return main(["export", str(trained.experiment), "--weights", str(trained.run), *map(str, arguments)])


def random_sizes(count: int) -> list[tuple[int, int, int]]:
    generator = np.random.default_rng(5)
    return [(int(generator.integers(1, 4)), *map(int, generator.integers(8, 200, size=2))) for _ in range(count)]


@torch.no_grad()
def test_onnx_runtime_gives_the_ensembles_logits_at_any_size(exported: Path, teachers: list[nn.Module]) -> None:
    session = onnxruntime.InferenceSession(exported / "v3.onnx")
    generator = np.random.default_rng(6)
    mean, std = (torch.tensor(values)[:, None, None] for values in (IMAGENET_MEAN, IMAGENET_STD))
    labels_seen = set()
    for batch, height, width in SMALL + LARGE + random_sizes(20):
        image = generator.integers(0, 256, (batch, 3, height // 4 + 1, width // 4 + 1)).astype(np.float32)
        image = image.repeat(4, axis=2).repeat(4, axis=3)[:, :, :height, :width]
        pixels = (torch.from_numpy(image) / 255 - mean) / std
        expected = torch.stack([teacher(pixels) for teacher in teachers]).mean(dim=0)
        found = torch.from_numpy(session.run(["logits"], {"image": image})[0])
        assert found.shape == expected.shape == (batch, 21, height, width)
        torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-4)
        first, second = expected.topk(2, dim=1).values.unbind(dim=1)
        clear = first - second > GAP
        assert expected.abs().max() < 50
        assert clear.float().mean() > 0.9
        assert torch.equal(found.argmax(dim=1)[clear], expected.argmax(dim=1)[clear])
        labels_seen |= set(found.argmax(dim=1).unique().tolist())
    assert len(labels_seen) > 1


def test_the_onnx_file_is_whole_and_says_what_it_is(exported: Path, trained: TrainedRun) -> None:
    assert sorted(path.name for path in exported.glob("*.onnx*")) == ["v3.onnx"]  # weights inside
    model = onnx.load(exported / "v3.onnx")
    onnx.checker.check_model(model, full_check=True)
    assert [(entry.domain, entry.version) for entry in model.opset_import] == [("", 18)]
    assert model.ir_version == 8  # onnxruntime 1.14 reads up to this
    shapes = [
        [size.dim_param or size.dim_value for size in value.type.tensor_type.shape.dim]
        for value in (*model.graph.input, *model.graph.output)
    ]
    assert shapes == [["batch", 3, "height", "width"], ["batch", 21, "height", "width"]]
    about = {entry.key: entry.value for entry in model.metadata_props}
    assert json.loads(about["classes"]) == list(VOC.classes)
    assert json.loads(about["palette"]) == [list(colour) for colour in VOC.palette]
    assert json.loads(about["mean"]) == list(IMAGENET_MEAN) and json.loads(about["std"]) == list(IMAGENET_STD)
    assert about["run"] == trained.run.name and about["epoch"] == "3" and about["ensemble"] == "v3"
    assert about["backbone"] == "resnet18_v1c" and about["width"] == "0.0625" and about["image_size"] == "32"


@pytest.mark.parametrize("number", [1, 2])
def test_state_dicts_are_the_networks_own(exported: Path, trained: TrainedRun, number: int) -> None:
    expected = snapshot(trained, f"ema_snapshot/ema_branch{number}_epoch3.pth")
    plain = torch.load(exported / f"teacher_{number}.pth", weights_only=True)
    safe = load_file(exported / f"teacher_{number}.safetensors")
    network = DeepLabV3Plus("resnet18_v1c", 21, 0.0625)
    for state in (plain, safe):
        assert state.keys() == expected.keys() == network.state_dict().keys()
        assert all(torch.equal(state[name], value) for name, value in expected.items())
        network.load_state_dict(state)
    with safe_open(exported / f"teacher_{number}.safetensors", framework="numpy") as file:
        about = file.metadata()
    assert about["network"] == f"teacher_{number}" and json.loads(about["classes"]) == list(VOC.classes)


def test_students_lose_their_prefix(trained: TrainedRun, tmp_path: Path) -> None:
    file = tmp_path / "mine.pth"
    assert export(trained, "--ensemble", "v0_2", "--epoch", 2, "--out", file) == 0
    expected = {
        name.removeprefix("branch2."): value
        for name, value in snapshot(trained, "snapshot/model_epoch2.pth").items()
        if name.startswith("branch2.")
    }
    found = torch.load(file, weights_only=True)
    assert found.keys() == expected.keys() and all(torch.equal(found[name], expected[name]) for name in found)
    assert list(tmp_path.iterdir()) == [file]


def test_formats_of_a_folder_are_chosen(trained: TrainedRun, tmp_path: Path) -> None:
    assert export(trained, "--out", tmp_path / "new/er", "NGPUS=0", "--format", "safetensors") == 0
    assert sorted(path.name for path in (tmp_path / "new/er").iterdir()) == [
        "teacher_1.safetensors",
        "teacher_2.safetensors",
    ]


@pytest.mark.parametrize(
    ("arguments", "fragment"),
    [
        (["--out", "a.pth"], "a.pth would hold one network, v3 has 2"),
        (["--out", "a.onnx", "--format", "state_dict"], "a.onnx is onnx, found state_dict"),
        (["--out", "out", "--ensemble", "v2,v3"], "ensemble: expected one predictor, found v2, v3"),
        (["--out", "out", "width=0.125"], "weights do not fit"),
        (["--out", "file/out", "--format", "state_dict"], "cannot write "),
    ],
)
def test_bad_requests_are_one_line(
    trained: TrainedRun, tmp_path: Path, monkeypatch, capsys: pytest.CaptureFixture, arguments: list, fragment: str
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("file").write_text("")
    assert export(trained, *arguments) == 2
    lines = capsys.readouterr().err.splitlines()
    assert len(lines) == 1 and lines[0].startswith("error: ") and fragment in lines[0]
    assert [path.name for path in tmp_path.iterdir()] == ["file"]


def test_a_graph_that_differs_is_not_written(
    trained: TrainedRun, exported: Path, tmp_path: Path, monkeypatch, capsys: pytest.CaptureFixture
) -> None:
    monkeypatch.setattr(onnx_graph, "onnx_bytes", lambda *_: (exported / "v3.onnx").read_bytes())
    assert export(trained, "--ensemble", "v1", "--out", tmp_path / "v1.onnx") == 2
    assert "ONNX Runtime differs from PyTorch" in capsys.readouterr().err
    assert not list(tmp_path.iterdir())


def test_the_documents_example_runs_without_torch(
    exported: Path, demo_data: Path, teachers: list[nn.Module], tmp_path: Path
) -> None:
    text = (REPOSITORY / "docs/deploy.md").read_text()
    example = re.findall(r"^```python\n(.*?)^```", text, re.MULTILINE | re.DOTALL)[0]
    assert sum(bool(line) for line in example.splitlines()) == 15
    (tmp_path / "exported").symlink_to(exported)
    image = cv2.imread(str(next((demo_data / "val/image").iterdir())))
    Image.fromarray(image[..., ::-1]).save(tmp_path / "photo.jpg", quality=100)
    blocked = "import sys\nsys.modules['torch'] = sys.modules['furnace'] = None\n"
    (tmp_path / "example.py").write_text(blocked + example)
    result = subprocess.run([sys.executable, "example.py"], cwd=tmp_path, capture_output=True, text=True, check=False)
    assert result.returncode == 0, result.stderr
    label = np.array(Image.open(tmp_path / "label.png"))
    shares = dict(re.findall(r"^(.*): ([\d.]+)%$", result.stdout, re.MULTILINE))
    assert shares == {VOC.classes[index]: f"{100 * (label == index).mean():.1f}" for index in np.unique(label)}
    pixels = torch.from_numpy(np.array(Image.open(tmp_path / "photo.jpg"))).permute(2, 0, 1)[None] / 255
    mean, std = (torch.tensor(values)[:, None, None] for values in (IMAGENET_MEAN, IMAGENET_STD))
    with torch.no_grad():
        logits = sum(teacher((pixels - mean) / std) for teacher in teachers)
    assert (logits.argmax(dim=1)[0].numpy() == label).mean() > 0.999
