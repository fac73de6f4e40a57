"""The whole program on the demo data: files, methods, scores, and a resume that changes nothing."""

import csv
import json
import os
import re
import signal
from collections.abc import Callable
from pathlib import Path

import cv2
import pandas as pd
import pytest
import torch

from furnace.data import images
from furnace.engine.checkpoint import Snapshots
from furnace.evaluation import evaluate
from furnace.semi.batch import Batch
from furnace.semi.ensemble import PREDICTORS
from furnace.training.learner import Learner, Step
from furnace.training.log import RunLogs
from furnace.training.meters import LossMeter


def test_ensemble_teacher_from_training_to_table(run, experiment: Path, tmp_path: Path) -> None:
    assert run("train", "keep_snapshots=2") == 0
    output = tmp_path / "run"
    assert sorted(path.name for path in (output / "snapshot").iterdir()) == ["model_epoch2.pth", "model_epoch3.pth"]
    assert sorted(path.name for path in (output / "ema_snapshot").iterdir()) == [
        f"ema_branch{number}_epoch{epoch}.pth" for number in (1, 2) for epoch in (2, 3)
    ]
    state = torch.load(output / "snapshot/model_epoch3.pth", weights_only=True)
    assert {name.split(".")[0] for name in state["model"]} == {"branch1", "branch2"}
    with open(output / "metrics.csv") as file:
        assert [row["epoch"] for row in csv.DictReader(file)] == ["1", "2", "3"]
    description = json.loads((output / "config.json").read_text())
    assert description["settings"]["batch_size"] == 4 and description["effective"]["learning_rate"] == 0.02
    assert all(len(entry["sha256"]) == 64 for entry in description["lists"].values())
    assert list((output / "tb").iterdir())

    assert run("eval") == 0
    assert run("eval") == 0  # the same evaluation again replaces its rows
    table = pd.read_csv(experiment / "log_df.csv")
    assert table["Ensemble"].tolist() == list(PREDICTORS)
    assert table["mean_IU"].between(0, 100).all() and table["IoU_background"].between(0, 100).all()
    assert table["method"].eq("ema").all() and table["epoch"].eq(3).all()
    assert run("eval", "ensemble=v3", "eval_epochs=2-3", "eval_flip=1", "eval_scales=0.75,1") == 0
    assert len(pd.read_csv(experiment / "log_df.csv")) == len(PREDICTORS) + 2
    assert len(list((output / "results").iterdir())) == len(list((output / "results_color").iterdir())) == 8
    panel = cv2.imread(str(output / "panel.png"))
    assert panel.shape[1] == 3 * (60 + 4)  # image, truth, v3


def test_single_options_equal_the_one_pass(run, experiment: Path) -> None:
    assert run("train", "nepochs=1") == 0
    assert run("eval", "ensemble=all") == 0
    together = pd.read_csv(experiment / "log_df.csv").set_index("Ensemble")["mean_IU"]
    (experiment / "log_df.csv").unlink()
    for code in PREDICTORS:
        assert run("eval", f"ensemble={code}") == 0
    alone = pd.read_csv(experiment / "log_df.csv").set_index("Ensemble")["mean_IU"]
    assert alone.to_dict() == together.to_dict()


def test_a_snapshot_that_training_has_removed_meanwhile_costs_no_other(
    run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture
) -> None:
    settings = ["nepochs=2", "method=org", "eval_epochs=1,2"]
    assert run("train", *settings) == 0
    removed = Snapshots(tmp_path / "run").students_file(1)
    monkeypatch.setattr(evaluate, "look_at_masks", lambda *_: removed.unlink() or [])  # it was found there before
    assert run("eval", *settings) == 2
    said = capsys.readouterr()
    assert "epoch 2 of run: mean IoU" in said.out
    line = f"1 of 2 snapshots could not be scored, the others' scores are saved: snapshot removed: {tmp_path}/run: "
    assert line in said.err and "that of epoch 1" in said.err and "keep_snapshots" in said.err


def test_cps_leaves_teachers_out(run, experiment: Path, capsys: pytest.CaptureFixture) -> None:
    assert run("train", "method=org", "nepochs=1") == 0
    assert run("eval") == 0
    assert "v1, v1_2, v3, v4 left out" in capsys.readouterr().out
    assert pd.read_csv(experiment / "log_df.csv")["Ensemble"].tolist() == ["v0", "v0_2", "v2"]
    assert run("eval", "ensemble=v3") == 2
    assert "needs teachers" in capsys.readouterr().err


class KilledError(Exception):
    pass


@pytest.mark.parametrize("method", ["ema", "org", "supervised"])
def test_a_resumed_run_ends_with_the_same_bits(
    run, straight: Callable, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, method: str
) -> None:
    settings = [f"method={method}", "cps_ramp=0.2,0.5"]
    undisturbed, broken = straight(*settings), tmp_path / "broken"

    save = Snapshots.save

    def save_then_die(self: Snapshots, epoch: int, *arguments) -> None:
        save(self, epoch, *arguments)
        if epoch == 2:
            raise KilledError

    monkeypatch.setattr(Snapshots, "save", save_then_die)
    with pytest.raises(KilledError):
        run("train", *settings, f"OUTPUT_PATH={broken}")
    monkeypatch.setattr(Snapshots, "save", save)
    assert run("train", *settings, f"OUTPUT_PATH={broken}") == 0

    files = [path.relative_to(undisturbed) for path in undisturbed.rglob("*epoch3.pth")]
    assert len(files) == (3 if method == "ema" else 1)
    for file in files:
        expected = torch.load(undisturbed / file, weights_only=True)["model"]
        found = torch.load(broken / file, weights_only=True)["model"]
        assert all(torch.equal(found[name], value) for name, value in expected.items())
    rows = [
        [(row["epoch"], row["loss"]) for row in csv.DictReader((folder / "metrics.csv").open())]
        for folder in (undisturbed, broken)
    ]
    assert rows[0] == rows[1]


def test_a_finished_run_does_nothing(run, tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    assert run("train", "nepochs=1") == 0
    before = (tmp_path / "run/metrics.csv").read_bytes()
    capsys.readouterr()
    assert run("train", "nepochs=1") == 0
    assert "nothing to do" in capsys.readouterr().out
    assert (tmp_path / "run/metrics.csv").read_bytes() == before


def test_a_damaged_snapshot_falls_back_to_the_one_before(run, tmp_path: Path) -> None:
    assert run("train", "nepochs=3") == 0
    output = tmp_path / "run"
    expected = torch.load(output / "snapshot/model_epoch3.pth", weights_only=True)["model"]
    path = output / "ema_snapshot/ema_branch1_epoch3.pth"
    path.write_bytes(path.read_bytes()[:-100])
    assert run("train", "nepochs=3") == 0
    found = torch.load(output / "snapshot/model_epoch3.pth", weights_only=True)["model"]
    assert all(torch.equal(found[name], value) for name, value in expected.items())


@pytest.mark.parametrize("setting", ["precision=bf16", "num_workers=2", "channels_last=0", "deterministic=1"])
def test_ways_to_run_end_well(run, tmp_path: Path, setting: str) -> None:
    assert run("train", "nepochs=1", setting) == 0
    torch.use_deterministic_algorithms(False)
    state = torch.load(tmp_path / "run/snapshot/model_epoch1.pth", weights_only=True)["model"]
    assert all(value.dtype in (torch.float32, torch.int64) and value.isfinite().all() for value in state.values())


def test_weights_that_are_not_finite_are_not_saved(run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The losses of an epoch are taken before its last step; what that step breaks must not become a snapshot."""
    step = Learner.step

    def breaking_step(self: Learner, *arguments) -> Step:
        taken = step(self, *arguments)
        self.ensemble.students[0].classifier.bias.data[0] = float("nan")
        return taken

    monkeypatch.setattr(Learner, "step", breaking_step)
    monkeypatch.setattr(LossMeter, "read_back", lambda self: [])
    output = tmp_path / "broken"
    monkeypatch.setattr(RunLogs, "record", lambda self, *row: None)
    assert run("train", "nepochs=1", f"OUTPUT_PATH={output}") == 2
    assert not (output / "snapshot").exists()


@pytest.fixture
def breaking(monkeypatch: pytest.MonkeyPatch) -> Callable[[set[int]], None]:
    """Gives the gradient of the second student an infinite value in some iterations."""

    def begin(iterations: set[int]) -> None:
        step = Learner.step

        def breaking_step(self: Learner, batch: Batch, iteration: int) -> Step:
            weight = self.ensemble.students[1].classifier.weight
            hooks = [weight.register_hook(lambda gradient: gradient / 0)] if iteration in iterations else []
            taken = step(self, batch, iteration)
            for hook in hooks:
                hook.remove()
            return taken

        monkeypatch.setattr(Learner, "step", breaking_step)

    return begin


def test_a_gradient_that_is_not_finite_ends_the_run_with_all_there_is_to_know(
    run, breaking, tmp_path: Path, capsys: pytest.CaptureFixture
) -> None:
    breaking({9})  # the second epoch's third
    assert run("train") == 2
    error = capsys.readouterr().err.splitlines()[-1]
    assert re.match(r"error: gradient_norm_2 is (nan|inf) at iteration 9, epoch 2; the last snapshot is kept; ", error)
    assert "set skip_nonfinite=1 or more" in error
    files = error.rpartition(": ")[2].split(", ")
    assert len(files) == 3 * 4 and all(Path(file).is_file() for file in files)
    assert torch.load(tmp_path / "run/resume.pth", weights_only=True)["iteration"] == 7
    assert len(pd.read_csv(tmp_path / "run/metrics.csv")) == 1


def test_nothing_is_said_to_be_kept_where_nothing_was_saved(run, breaking, capsys: pytest.CaptureFixture) -> None:
    breaking({1})
    assert run("train") == 2
    assert re.search(r" at iteration 1, epoch 1; lower learning_rate, ", capsys.readouterr().err.splitlines()[-1])


def test_as_many_bad_steps_as_allowed_are_left_out_and_counted(
    run, breaking, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture
) -> None:
    breaking({2, 9, 10})
    assert run("train", "skip_nonfinite=2") == 2  # the first is still counted in the second epoch
    captured = capsys.readouterr()
    assert "note: gradient_norm_2 is" in captured.out and "step left out, 1 of 2 allowed; files: " in captured.out
    assert "at iteration 10, epoch 2" in captured.err
    assert run("train", "skip_nonfinite=2") == 2  # and in a run that goes on
    assert "at iteration 10, epoch 2" in capsys.readouterr().err
    assert run("train", "skip_nonfinite=3") == 0
    assert pd.read_csv(tmp_path / "run/metrics.csv")["skipped_steps"].tolist() == [1, 2, 0]
    state = torch.load(tmp_path / "run/snapshot/model_epoch3.pth", weights_only=True)["model"]
    assert all(value.isfinite().all() for value in state.values())


@pytest.mark.parametrize("command", ["train", "eval"])
def test_a_worker_that_is_killed_names_its_file(
    run, command: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture
) -> None:
    if command == "eval":
        assert run("train", "nepochs=1") == 0
    main_process, decode = os.getpid(), images.decode_mask

    def decode_or_die(*arguments: object, **options: object) -> object:
        if os.getpid() != main_process:
            os.kill(os.getpid(), signal.SIGKILL)
        return decode(*arguments, **options)

    monkeypatch.setattr(images, "decode_mask", decode_or_die)
    assert run(command, "nepochs=1", "num_workers=1") == 2
    assert re.search(r"error: a worker that loads data .*, while at .*/label/\S*\.png; ", capsys.readouterr().err)


def test_running_teachers_follow_the_students_statistics(run, tmp_path: Path) -> None:
    assert run("train", "nepochs=1", "teacher_norm=running") == 0
    student = torch.load(tmp_path / "run/snapshot/model_epoch1.pth", weights_only=True)["model"]
    teacher = torch.load(tmp_path / "run/ema_snapshot/ema_branch1_epoch1.pth", weights_only=True)["model"]
    assert teacher["backbone.bn1.num_batches_tracked"] == student["branch1.backbone.bn1.num_batches_tracked"] > 0
