"""What cannot fit into the memory is refused before any of it is taken; what may not fit is noted."""

from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from repository import REPOSITORY
from runs import make_experiment, tiny_settings
from torch import nn

from furnace.__main__ import main
from furnace.config.experiment import read_experiment
from furnace.engine import memory
from furnace.evaluation import validation
from furnace.training.footprint import TIGHT, least_bytes, surely_fits


@pytest.fixture
def free(monkeypatch: pytest.MonkeyPatch) -> Callable[[float], None]:
    return lambda size: monkeypatch.setattr(memory, "free", lambda *_: size)


class Twice(nn.Module):
    """Keeps nothing but what the loss keeps."""

    def __init__(self, classes: int = 5) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(classes, 3, 1, 1))
        self.register_buffer("unused", torch.zeros(7))

    def forward(self, image: torch.Tensor) -> torch.Tensor:
        return nn.functional.conv2d(image, self.weight)


@pytest.mark.parametrize(
    ("labellers", "view", "networks", "views", "optimizer", "remembered"),
    [("teachers", "strong", 4, 6, "sgd", 1), ("none", "weak", 2, 1, "adamw", 2)],
)
def test_the_least_is_what_every_step_holds(
    labellers: str, view: str, networks: int, views: int, optimizer: str, remembered: int
) -> None:
    experiment = SimpleNamespace(
        network=lambda number: Twice(),
        settings=SimpleNamespace(image_size=16, precision="fp32", optimizer=optimizer, students=["alike"]),
        method=SimpleNamespace(labellers=labellers, view=view),
    )
    pixels = 2 * 16 * 16
    weights = 4 * (networks * (15 + 7) + (2 * remembered + 1) * 15)
    images = views * 3 * pixels * 4
    # Logits become their logarithmic softmax, which is kept for its gradient, of which the logits' gradient is made.
    kept = 4 * pixels * (5 + 5 + 5)
    found = least_bytes(experiment, 2, torch.device("cpu")) - weights - images
    assert kept <= found <= kept + 300


def test_two_different_students_hold_what_each_of_them_does() -> None:
    experiment = SimpleNamespace(
        network=lambda number: Twice(classes=5 * number),
        settings=SimpleNamespace(image_size=16, precision="fp32", optimizer="sgd", students=["small", "large"]),
        method=SimpleNamespace(labellers="teachers", view="weak"),
    )
    pixels = 2 * 16 * 16
    weights = 4 * (2 * (15 + 7 + 30 + 7) + (15 + 30) + 30)  # all four, the momentum of both, a gradient of the larger
    kept = 4 * pixels * (10 + 10 + 10)
    found = least_bytes(experiment, 2, torch.device("cpu")) - weights - 4 * 3 * pixels * 4
    assert kept <= found <= kept + 300


@pytest.mark.parametrize(("images", "size"), [(1, 224), (2, 384)])
def test_what_surely_fits_needs_no_more_than_is_said_of_it(images: int, size: int) -> None:
    """Of a transformer, whose weights are the most of it, as of others; a hundredth of the room never is enough."""
    settings = {"decoder": "DPT", "backbone": "tu-vit_small_patch16_224", "image_size": str(size), "optimizer": "adamw"}
    experiment = read_experiment(
        REPOSITORY / "exp.voc/ensemble_teacher+dinov3", {**settings, "pretrained_model": "none"}, with_data=False
    )
    least = least_bytes(experiment, images, torch.device("cpu"))
    assert least > 1e9 and not surely_fits(experiment, images, TIGHT * least) and surely_fits(experiment, images, 1e11)


def test_training_that_cannot_fit_is_refused(run, free, tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    free(1e6)
    assert run("train") == 2
    lines = [line for line in capsys.readouterr().err.splitlines() if line.startswith("error: ")]
    assert len(lines) == 1 and not list((tmp_path / "run").glob("*snapshot*/*.pth"))
    assert lines[0].startswith("error: training with batch_size=4 and image_size=32 needs about ")
    assert "MB of memory on cpu, 1 MB are free; lower batch_size or image_size" in lines[0]


def test_training_that_may_not_fit_is_noted(run, free, monkeypatch, capsys: pytest.CaptureFixture) -> None:
    monkeypatch.setattr("furnace.training.footprint.least_bytes", lambda *_: 4e7)
    monkeypatch.setattr("furnace.training.trainer.Learner", lambda *_: pytest.fail("begun"))
    free(5e7)
    with pytest.raises(pytest.fail.Exception, match="begun"):
        run("train")
    said = capsys.readouterr().err
    assert "note: training with batch_size=4 and image_size=32 needs at least 40 MB of memory on cpu, 50 MB are" in said


@pytest.mark.parametrize("headers", [100, 0])
def test_an_evaluation_says_what_image_is_too_large(
    straight, demo_data: Path, free, headers: int, tmp_path: Path, monkeypatch, capsys: pytest.CaptureFixture
) -> None:
    """Before the first is scored if it is found then, else when it comes."""
    monkeypatch.setattr(validation, "HEADERS", headers)
    output = straight("nepochs=1")
    free(1e6)
    assert main(["eval", str(make_experiment(tmp_path)), *tiny_settings(demo_data, output)]) == 2
    errors = [line for line in capsys.readouterr().err.splitlines() if line.startswith("error: ")]
    assert len(errors) == 1 and "error: image too large: " in errors[0] and "54 x 60 pixels" in errors[0]
    assert "score fewer predictors at once" in errors[0]
