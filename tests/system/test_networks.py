"""Decoders and encoders of every kind: each pair trains, goes on with equal bits, is evaluated and exported."""

import csv
import shutil
from collections.abc import Callable
from pathlib import Path

import cv2
import pytest
import timm
import torch
from runs import before_step, make_experiment
from torch import Tensor

from furnace.__main__ import main
from furnace.network.choice import build_network
from furnace.synthetic.layout import write_voc_layout
from furnace.training.progress import Progress

SIZE = 32
CLASSES = 21
ITERATIONS = 3  # of the only epoch

# The smallest DINOv3 of timm's; older versions have none so small.
DINOV3 = (
    f"tu-vit_{'tiny_patch16_dinov3_qkvb' if timm.is_model('vit_tiny_patch16_dinov3_qkvb') else 'small_patch16_dinov3'}"
)
# Encoders whose names begin with `tu-test_` are tiny ones that timm has for tests.
PAIRS = {
    "inverted residuals with BatchNormAct2d": "decoder=DeepLabV3Plus backbone=tu-tf_efficientnet_lite0",
    "inverted residuals with BatchNorm2d": "decoder=Unet backbone=mobilenet_v2 method=org",
    "residuals of which the last are not used": "decoder=PSPNet backbone=resnet18 optimizer=sgd",
    "convolutions with layer norm": "decoder=UPerNet backbone=tu-test_convnext",
    "convolutions with group norm": "decoder=DeepLabV3 backbone=tu-test_efficientnet_gn method=supervised",
    "hierarchical transformer": "decoder=Segformer backbone=mit_b0 method=org",
    "another hierarchical transformer": "decoder=FPN backbone=tu-pvt_v2_b0 width=0.5 teacher_norm=running",
    "plain transformer": "decoder=DPT backbone=tu-test_vit",
    "plain transformer with register tokens": f"decoder=DPT backbone={DINOV3}",
    "two different students": "decoder=Linknet backbone=tu-test_byobnet decoder_2=UPerNet backbone_2=tu-test_convnext",
    "the published network beside another": "backbone=resnet18_v1c decoder_2=Segformer backbone_2=mit_b0",
}


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Eight small images to train on, two of them labelled, and two to validate, which four windows cover each."""
    folder = tmp_path_factory.mktemp("networks") / "data"
    write_voc_layout(folder, images=10, seed=0)
    for path in folder.rglob("*.*g"):
        cv2.imwrite(str(path), cv2.imread(str(path), cv2.IMREAD_UNCHANGED)[:40, :44])
    return folder


@pytest.fixture
def copied(monkeypatch: pytest.MonkeyPatch) -> Callable[[Path, Path], None]:
    """Lets a run save itself before its last iteration, and copies what a run that is killed then would leave."""

    def arrange(run: Path, copy: Path) -> None:
        due: list[bool] = []
        monkeypatch.setattr(Progress, "save_is_due", lambda _: bool(due))
        last_but_one, last = ITERATIONS - 2, ITERATIONS - 1
        before_step(
            monkeypatch,
            {last_but_one: lambda: due.append(True), last: lambda: (due.clear(), shutil.copytree(run, copy))},
        )

    return arrange


def tensors_of(run: Path) -> dict[str, dict[str, Tensor]]:
    """The networks in a run's last snapshot, by the names of their files."""
    return {path.name: torch.load(path, weights_only=True)["model"] for path in run.glob("*snapshot/*_epoch1.pth")}


def table_of(run: Path) -> list[dict[str, str]]:
    with open(run / "metrics.csv", newline="") as file:
        return [{name: cell for name, cell in row.items() if "seconds" not in name} for row in csv.DictReader(file)]


def assert_same_run(one: Path, other: Path) -> None:
    """The same weights, and the same table but for times."""
    found, expected = tensors_of(one), tensors_of(other)
    assert found.keys() == expected.keys() and "model_epoch1.pth" in found
    for file, state in expected.items():
        assert found[file].keys() == state.keys()
        assert all(torch.equal(found[file][name], value) for name, value in state.items()), file
    assert table_of(one) == table_of(other) and len(table_of(one)) == 1


@pytest.mark.parametrize("kind", PAIRS)
def test_a_pair_trains_goes_on_is_evaluated_and_exported(
    tmp_path: Path, data: Path, copied: Callable, kind: str, capsys: pytest.CaptureFixture
) -> None:
    chosen = {"decoder": "published", "width": "0.0625", "method": "ema", "optimizer": "adamw"}
    chosen |= dict(text.split("=") for text in PAIRS[kind].split())
    experiment, straight, resumed = make_experiment(tmp_path), tmp_path / "straight", tmp_path / "resumed"
    settings = [
        f"dataset_path={data}", "labeled_ratio=4", "pretrained_model=none", f"image_size={SIZE}", "batch_size=2",
        "nepochs=1", "learning_rate=0.001", "NGPUS=0", "num_workers=0", "validate_epochs=0",
        *(f"{name}={value}" for name, value in chosen.items()),
    ]  # fmt: skip

    copied(straight, resumed)
    assert main(["train", str(experiment), *settings, f"OUTPUT_PATH={straight}"]) == 0
    assert torch.load(resumed / "resume.pth", weights_only=True)["iteration"] == ITERATIONS - 1
    torch.manual_seed(1)  # another process does not have this one's random numbers
    assert main(["train", str(experiment), *settings, f"OUTPUT_PATH={resumed}"]) == 0
    assert_same_run(resumed, straight)

    assert main(["eval", str(experiment), f"dataset_path={data}", f"OUTPUT_PATH={straight}"]) == 0
    if kind == "plain transformer":
        assert main(["eval", str(experiment), f"dataset_path={data}", f"OUTPUT_PATH={straight}", "image_size=40"]) == 2
        assert "image_size: expected 32 or 64" in capsys.readouterr().err
    scores = (experiment / "log_df.csv").read_text().splitlines()[1:]
    assert len(scores) == (7 if chosen["method"] == "ema" else 3)

    out = tmp_path / "exported"
    asked = ["--weights", str(straight), "--out", str(out), "--format", "state_dict", "--ensemble", "v2"]
    assert main(["export", str(experiment), *asked]) == 0
    students = tensors_of(straight)["model_epoch1.pth"]
    for number, ending in ((1, ""), (2, "_2")):
        names = (chosen.get(f"{name}{ending}", chosen[name]) for name in ("decoder", "backbone"))
        network = build_network(*names, CLASSES, float(chosen["width"])).eval()
        network.load_state_dict(torch.load(out / f"student_{number}.pth", weights_only=True))
        assert all(torch.equal(students[f"branch{number}.{name}"], it) for name, it in network.state_dict().items())
        with torch.no_grad():
            logits = network(torch.rand(1, 3, SIZE, 2 * SIZE))
        assert logits.shape == (1, CLASSES, SIZE, 2 * SIZE) and logits.isfinite().all()
