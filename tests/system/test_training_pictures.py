"""What is seen of a run while it trains: pictures, scalars and scores, none of which changes it."""

import csv
import os
import signal
from collections.abc import Callable
from pathlib import Path

import cv2
import numpy as np
import pandas as pd
import pytest
import torch
from runs import KilledError, assert_same_run, before_step
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
from torch import nn

from furnace.data.datasets import VOC
from furnace.network.deeplabv3plus import DeepLabV3Plus
from furnace.pictures import colourize, shrink
from furnace.semi.ensemble import PREDICTORS
from furnace.training import trainer
from furnace.training.events import Events
from furnace.training.pictures import LONGEST_SIDE, TrainingPictures

ALL = [f"mIoU_{code}" for code in PREDICTORS]


def rows(output: Path) -> list[dict[str, str]]:
    with open(output / "metrics.csv", newline="") as file:
        return list(csv.DictReader(file))


def events(output: Path) -> EventAccumulator:
    found = EventAccumulator(str(output / "tb"), size_guidance={"images": 0, "scalars": 0})
    return found.Reload()


def test_looking_changes_nothing_and_scores_are_those_of_eval(run: Callable, experiment: Path, tmp_path: Path) -> None:
    seen, unseen = tmp_path / "run", tmp_path / "unseen"
    assert run("train", "picture_iter=4", "validate_epochs=1", "cps_ramp=0.2,0.5") == 0
    assert run("train", "picture_iter=0", "cps_ramp=0.2,0.5", f"OUTPUT_PATH={unseen}") == 0
    without_scores = [{name: cell for name, cell in row.items() if name not in ALL} for row in rows(seen)]
    scores = [[float(row[name]) for name in ALL] for row in rows(seen)]
    table = "\n".join([",".join(without_scores[0]), *(",".join(row.values()) for row in without_scores), ""])
    (seen / "metrics.csv").write_text(table)
    assert_same_run(seen, unseen)
    assert run("eval") == 0
    expected = pd.read_csv(experiment / "log_df.csv").set_index("Ensemble")["mean_IU"]
    assert scores[-1] == pytest.approx([expected[code] for code in PREDICTORS], abs=1e-3)
    found = events(seen)
    assert [event.step for event in found.Images("step/labelled")] == [4, 8, 12, 16, 20]
    assert [event.step for event in found.Images("step/unlabelled")] == [8, 12, 16, 20]  # pairs are used from 5 on
    assert [event.step for event in found.Scalars("mIoU/v3")] == [7, 14, 21]
    assert all(0 <= event.value <= 1 for event in found.Scalars("agreement"))
    shares = [name for name in found.Tags()["scalars"] if name.startswith("pseudo_label_share/")]
    assert len(shares) == 21
    assert sum(found.Scalars(name)[0].value for name in shares) == pytest.approx(1, abs=1e-5)
    distances = [event.value for event in found.Scalars("distance/teacher_1")]
    assert len(distances) == 5 and all(0 < value < 1 for value in distances)
    picture = found.Images("step/unlabelled")[0].encoded_image_string
    assert cv2.imdecode(np.frombuffer(picture, np.uint8), cv2.IMREAD_COLOR).shape[1] == 8 * (32 + 4)


@pytest.mark.parametrize(("method", "pictures"), [("org", ["labelled", "unlabelled"]), ("supervised", ["labelled"])])
def test_methods_without_teachers_have_less_to_show(
    run: Callable, tmp_path: Path, method: str, pictures: list[str]
) -> None:
    assert run("train", "nepochs=2", f"method={method}", "picture_iter=5", "validate_epochs=2") == 0
    found = events(tmp_path / "run")
    assert sorted(found.Tags()["images"]) == [f"step/{name}" for name in pictures]
    assert not [name for name in found.Tags()["scalars"] if name.startswith("distance")]
    first, second = rows(tmp_path / "run")
    assert [name for name in first if name.startswith("mIoU")] == ["mIoU_v0", "mIoU_v0_2", "mIoU_v2"]
    assert first["mIoU_v2"] == "" and float(second["mIoU_v2"]) > 0


def test_some_images_of_the_list_are_enough(run: Callable, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from furnace.evaluation import validation

    asked = []
    images = validation.validation_images

    def watched(split, numbers, *rest, **options):
        asked.append(list(numbers))
        return images(split, numbers, *rest, **options)

    monkeypatch.setattr(validation, "validation_images", watched)
    assert run("train", "nepochs=2", "validate_epochs=1", "validate_images=3") == 0
    assert asked == [[0, 3, 7]] * 2
    assert run("train", "validate_epochs=1", "validate_images=1000", f"OUTPUT_PATH={tmp_path / 'more'}") == 0
    assert asked[2:] == [list(range(8))] * 3


def test_scores_that_a_kill_prevented_are_made_up_for(
    run: Callable, straight: Callable, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings = ["validate_epochs=1", "picture_iter=0"]
    validate = trainer.validate

    def dies_in_the_second(experiment, world, ensemble, title: str) -> dict[str, float]:
        if title == "epoch 2":
            raise KilledError
        return validate(experiment, world, ensemble, title)

    monkeypatch.setattr(trainer, "validate", dies_in_the_second)
    with pytest.raises(KilledError):
        run("train", *settings)
    assert [row["mIoU_v3"] == "" for row in rows(tmp_path / "run")] == [False, True]
    monkeypatch.setattr(trainer, "validate", validate)
    assert run("train", *settings) == 0
    assert_same_run(tmp_path / "run", straight(*settings))


def test_scores_of_the_last_epoch_are_made_up_for_and_stay_when_no_more_are_asked_for(
    run: Callable, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture
) -> None:
    validate = trainer.validate

    def dies(*_: object) -> dict[str, float]:
        raise KilledError

    monkeypatch.setattr(trainer, "validate", dies)
    with pytest.raises(KilledError):
        run("train", "nepochs=1", "validate_epochs=1")
    monkeypatch.setattr(trainer, "validate", validate)
    assert run("train", "nepochs=1", "validate_epochs=1") == 0
    assert "nothing to do" in capsys.readouterr().out
    (only,) = rows(tmp_path / "run")
    assert float(only["mIoU_v4"]) > 0
    assert run("train", "nepochs=2", "resume=force", "validate_epochs=0") == 0
    assert [row["mIoU_v4"] for row in rows(tmp_path / "run")] == [only["mIoU_v4"], ""]


def test_what_was_trained_is_saved_before_it_is_scored(
    run: Callable, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def dies(*_: object) -> dict[str, float]:
        raise KilledError

    monkeypatch.setattr(trainer, "validate", dies)
    with pytest.raises(KilledError):
        run("train", "validate_epochs=1", "snapshot_iter=3")
    assert torch.load(tmp_path / "run/resume.pth", weights_only=True)["iteration"] == 7


def test_a_signal_comes_before_a_validation(
    run: Callable, straight: Callable, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Which may take longer than a scheduler waits; the next start makes up for it."""
    before_step(monkeypatch, {6: lambda: os.kill(os.getpid(), signal.SIGTERM)})
    settings = ["validate_epochs=1", "snapshot_iter=3", "picture_iter=0"]
    assert run("train", *settings) == 75
    assert rows(tmp_path / "run")[0]["mIoU_v3"] == ""
    assert torch.load(tmp_path / "run/resume.pth", weights_only=True)["iteration"] == 7
    assert run("train", *settings) == 0
    assert_same_run(tmp_path / "run", straight(*settings))


def test_a_panel_shows_what_the_step_was_made_of(
    run: Callable, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each cell against the batch, pixel by pixel."""
    shown, steps = {}, []
    look = TrainingPictures.look

    def watched(self: TrainingPictures, raw, batch, step, iterations_done: int) -> None:
        steps.append((raw, step))
        look(self, raw, batch, step, iterations_done)

    monkeypatch.setattr(TrainingPictures, "look", watched)
    monkeypatch.setattr(Events, "picture", lambda self, name, pixels, step: shown.update({name: pixels}))
    assert run("train", "nepochs=1", "picture_iter=7") == 0
    (raw, step), = steps  # fmt: skip
    cells = [shown["step/unlabelled"][18:50, 36 * column : 36 * column + 32] for column in range(8)]
    mask = raw.mask[0][0, 0].numpy()
    first, second = (label[0].numpy() for label in step.pseudo_labels)
    mixed = raw.pair_strong[0][0].numpy().copy()
    mixed[mask == 1] = raw.pair_strong[1][0].numpy()[mask == 1]
    expected = [raw.pair_weak[0][0].numpy(), raw.pair_weak[1][0].numpy(), np.stack([255 * mask] * 3, axis=2), mixed]
    expected += [colourize(label, VOC.palette) for label in (first, second)]
    expected.append(np.stack([np.where(first == second, 255, 0)] * 3, axis=2))
    for found, right in zip(cells, expected, strict=False):
        assert np.array_equal(found, right)
    colours = {tuple(pixel) for pixel in cells[7].reshape(-1, 3).tolist()}
    assert colours <= set(VOC.palette)
    labelled = shown["step/labelled"][18:50]
    assert np.array_equal(labelled[:, :32], raw.image[0].numpy())
    assert np.array_equal(labelled[:, 36:68], colourize(raw.label[0].numpy(), VOC.palette))


def test_large_pictures_are_made_smaller() -> None:
    assert shrink(np.zeros((512, 512, 3), np.uint8), LONGEST_SIDE).shape == (256, 256, 3)
    assert shrink(np.zeros((100, 256, 3), np.uint8), LONGEST_SIDE).shape == (100, 256, 3)


@pytest.mark.parametrize("backbone_norm", ["batch", "frozen"])
@pytest.mark.parametrize("teacher_norm", ["batch", "running"])
def test_validation_and_pictures_leave_modes_as_they_are(
    run: Callable, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, teacher_norm: str, backbone_norm: str
) -> None:
    """Each module's own: of a teacher, batch norms may be in training mode, and nothing else is."""
    weights = tmp_path / "resnet18_v1c.pth"
    torch.save(DeepLabV3Plus("resnet18_v1c", 21, width=0.0625).backbone.state_dict(), weights)
    modes = set()
    step = trainer.Learner.step

    def watched(self, *arguments):
        for role, network in self.ensemble.networks().items():
            for name, module in network.named_modules():
                kind = type(module).__name__ if isinstance(module, nn.BatchNorm2d) else "other"
                modes.add((role.rpartition("_")[0], kind, name.startswith("backbone"), module.training))
        return step(self, *arguments)

    monkeypatch.setattr(trainer.Learner, "step", watched)
    settings = f"teacher_norm={teacher_norm}", f"backbone_norm={backbone_norm}", f"pretrained_model={weights}"
    assert run("train", "nepochs=2", "validate_epochs=1", "picture_iter=1", *settings) == 0
    expected = {
        (role, kind, in_backbone, on)
        for role, drops, takes_statistics in (("student", True, True), ("teacher", False, teacher_norm == "batch"))
        for in_backbone in (False, True)
        for kind, on in (
            ("other", drops),
            ("BatchNorm2d", takes_statistics and not (in_backbone and backbone_norm == "frozen")),
        )
    }
    assert modes == expected
