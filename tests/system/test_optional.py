"""What only makes safer, or only tells, costs no work: it is taken away in turn, and every command runs without it."""

import errno
import fcntl
import io
import json
import os
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import NoReturn

import cv2
import numpy as np
import pytest
import torch
from runs import KilledError, make_experiment, tiny_settings

from furnace.__main__ import main
from furnace.engine.checkpoint import Snapshots
from furnace.errors import InputError
from furnace.evaluation.log_table import read_table

Patch = pytest.MonkeyPatch


def refusing(number: int) -> Callable:
    def refuse(*_: object, **__: object) -> NoReturn:
        raise OSError(number, os.strerror(number))

    return refuse


class Broken(ModuleType):
    """A package whose parts fail with an error of their own when they are imported."""

    def __getattr__(self, name: str) -> NoReturn:
        raise TypeError("Descriptors cannot be created directly")


class ClosedPipe(io.TextIOWrapper):
    """What standard output is after `| head -1`."""

    def __init__(self, *_: object) -> None:
        super().__init__(io.BytesIO(), encoding="utf-8")

    def write(self, text: str) -> int:
        raise BrokenPipeError(errno.EPIPE, "Broken pipe")


def no_locks(patch: Patch, _: Path) -> None:
    patch.setattr(fcntl, "lockf", refusing(errno.ENOLCK))


def no_syncing(patch: Patch, _: Path) -> None:
    patch.setattr(os, "fsync", refusing(errno.EINVAL))


def no_links(patch: Patch, _: Path) -> None:
    patch.setattr(os, "symlink", refusing(errno.EPERM))


def no_tensorboard(patch: Patch, _: Path) -> None:
    patch.setitem(sys.modules, "torch.utils.tensorboard", Broken("tensorboard"))


def no_matplotlib(patch: Patch, _: Path) -> None:
    for name in [name for name in sys.modules if name.partition(".")[0] == "matplotlib"]:
        patch.delitem(sys.modules, name)
    patch.setitem(sys.modules, "matplotlib", Broken("matplotlib"))


def nobody_reads(patch: Patch, _: Path) -> None:
    patch.setattr(sys, "stdout", ClosedPipe())


def nobody_reads_errors(patch: Patch, _: Path) -> None:
    patch.setattr(sys, "stderr", ClosedPipe())


def an_ascii_terminal(patch: Patch, _: Path) -> None:
    for name in ("stdout", "stderr"):
        patch.setattr(sys, name, io.TextIOWrapper(io.BytesIO(), encoding="ascii", errors="strict"))


def no_git(patch: Patch, folder: Path) -> None:
    patch.setenv("PATH", str(folder / "nothing"))


def no_home(patch: Patch, folder: Path) -> None:
    patch.delenv("HOME", raising=False)
    for name in ("MPLCONFIGDIR", "XDG_CONFIG_HOME", "XDG_CACHE_HOME", "TORCH_HOME"):
        patch.setenv(name, "/proc/nowhere")


def no_temporary_folder(patch: Patch, _: Path) -> None:
    patch.setenv("TMPDIR", "/proc/nowhere")
    for name in ("gettempdir", "mkdtemp", "mkstemp", "NamedTemporaryFile", "TemporaryDirectory"):
        patch.setattr(tempfile, name, refusing(errno.ENOENT))


CONFIG = """from easydict import EasyDict
config = EasyDict(dataset="own", epochs=((2, 1), (1, 1)), OUTPUT_PATH="../../output")
"""
WITHOUT = (
    no_locks,
    no_syncing,
    no_links,
    no_tensorboard,
    no_matplotlib,
    nobody_reads,
    nobody_reads_errors,
    an_ascii_terminal,
    no_git,
    no_home,
    no_temporary_folder,
)
# What is said of it, and by which command; nothing of the others, because nothing is missing.
NOTES = {
    no_locks: {"sweep": ("run/.training cannot be locked", "log_df.csv.lock cannot be locked")},
    no_links: {"prepare folder": ("no links can be made",)},
    no_tensorboard: {"sweep": ("no more events for TensorBoard",)},
    no_matplotlib: {"report": ("the page has no charts where matplotlib failed",)},
}


@pytest.fixture(scope="module")
def own_data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Images and masks of two classes, one of which no ASCII terminal can name."""
    root = tmp_path_factory.mktemp("own") / "Häuser"
    generator = np.random.default_rng(0)
    for folder in ("images", "masks"):
        (root / folder).mkdir(parents=True)
    for number in range(10):
        mask = np.zeros((40, 48), np.uint8)
        cv2.circle(mask, tuple(generator.integers(10, 30, 2).tolist()), 9, 1, -1)
        pixels = (generator.integers(0, 60, (40, 48, 3)) + mask[..., None] * 120 + 30).astype(np.uint8)
        (root / f"images/p{number}.png").write_bytes(cv2.imencode(".png", pixels)[1].tobytes())
        (root / f"masks/p{number}.png").write_bytes(cv2.imencode(".png", mask)[1].tobytes())
    (root / "classes.txt").write_text("Weg\nStraße\n", encoding="utf-8")
    return root


@pytest.mark.parametrize("without", WITHOUT)
def test_every_command_does_its_work_without(
    without: Callable[[Patch, Path], None],
    tmp_path: Path,
    own_data: Path,
    monkeypatch: Patch,
    capfd: pytest.CaptureFixture,
) -> None:
    """One command after the other, the sweep's train and eval within this process: each result is there and whole."""
    monkeypatch.setattr("furnace.sweep.jobs._status_of", lambda command: main(command[3:]))
    data, run, out = tmp_path / "data", tmp_path / "run", tmp_path / "out"
    experiment = make_experiment(tmp_path)
    (experiment / "config.py").write_text(CONFIG)
    settings = [*tiny_settings(data, run), "nepochs=1", "picture_iter=1", "validate_epochs=1"]
    commands = {
        "prepare folder": ["prepare", "folder", own_data, data, "--classes", own_data / "classes.txt", "--ratios", "2"],
        "prepare check": ["prepare", "check", data, "--workers", "1", "--json", tmp_path / "check.json"],
        "sweep": ["sweep", experiment, "--methods", "ema", "--ratios", "2", "--seeds", "0", *settings],
        "predict": ["predict", experiment, "--weights", run, *settings, own_data / "images", "--out", out],
        "export": ["export", experiment, "--weights", run, *settings, "--out", out, "--format", "state_dict"],
        "report": ["report", run, "--out", tmp_path / "report.html"],
    }
    said = {}
    for name, command in commands.items():
        capfd.readouterr()
        with monkeypatch.context() as patch:
            without(patch, tmp_path)
            status = main([str(part) for part in command])
        said[name] = "".join(capfd.readouterr())
        assert status == 0, f"{name}: {said[name]}"
    for name, text in said.items():
        for expected in NOTES.get(without, {}).get(name, ()):
            assert text.count(expected) == 1, f"{name}: {text}"
        assert "Traceback" not in text, f"{name}: {text}"
    images = list(data.rglob("images/*.png"))
    assert len(images) == 10 and all(path.is_symlink() == (without is not no_links) for path in images)
    assert json.loads((tmp_path / "check.json").read_text(encoding="utf-8"))["classes"]
    assert torch.load(run / "resume.pth", weights_only=True)["epoch"] == 1
    assert len(list((run / "scores").iterdir())) == 7 == len(read_table(experiment / "log_df.csv"))
    assert "Straße" in next(run.glob("val_*.log")).read_text(encoding="utf-8")
    assert len(list((out / "index").rglob("*.png"))) == 10
    assert {path.name for path in out.glob("*.pth")} == {"teacher_1.pth", "teacher_2.pth"}
    page = (tmp_path / "report.html").read_text(encoding="utf-8")
    assert "Straße" in page and ("image/svg+xml" in page) == (without is not no_matplotlib)
    assert "epoch 1/1  loss" in (run / "train.log").read_text(encoding="utf-8")


def test_an_epoch_is_saved_before_it_is_told(run: Callable[..., int], tmp_path: Path, monkeypatch: Patch) -> None:
    def tell(*_: object) -> NoReturn:
        raise KilledError

    monkeypatch.setattr("furnace.training.log.RunLogs.tell", tell)
    with pytest.raises(KilledError):
        run("train")
    assert Snapshots(tmp_path / "run").newest()["epoch"] == 1
    assert (tmp_path / "run/metrics.csv").read_text().count("\n") == 2
    assert "KilledError" in (tmp_path / "run/train.log").read_text()


def test_scores_are_saved_and_shown_whatever_fails_behind_them(
    run: Callable[..., int], experiment: Path, tmp_path: Path, monkeypatch: Patch, capsys: pytest.CaptureFixture
) -> None:
    """A table that somebody damages while images are scored; pictures that cannot be written."""
    assert run("train", "nepochs=1") == 0
    (tmp_path / "run/results_color").write_text("a file in the folder's place")

    def damaged(*_: object) -> NoReturn:
        raise InputError("not a table")

    capsys.readouterr()
    assert run("eval", "nepochs=1") == 2
    said = capsys.readouterr()
    assert "error: the scores are saved, 8 of the pictures are not: cannot write " in said.err
    assert len(read_table(experiment / "log_df.csv")) == 7 and "  v3 " in said.out
    for path in (tmp_path / "run/scores").iterdir():
        path.unlink()
    (tmp_path / "run/snapshot/model_epoch0.pth").write_bytes(b"")  # one damaged snapshot among those to score
    assert run("eval", "nepochs=1", "save_predictions=none", "eval_epochs=all", "ensemble=v0") == 2
    said = capsys.readouterr()
    assert "error: 1 of 2 snapshots could not be scored, the others' scores are saved: damaged file: " in said.err
    assert [path.name for path in (tmp_path / "run/scores").iterdir()] == ["epoch1_v0.json"] and "  v0 " in said.out
    monkeypatch.setattr("furnace.evaluation.scores.append_rows", damaged)
    assert run("eval", "nepochs=1", "save_predictions=none") == 2
    said = capsys.readouterr()
    assert said.err.endswith("error: not a table\n") and "  v3 " in said.out
    assert len(list((tmp_path / "run/scores").iterdir())) == 7


def test_train_log_holds_what_every_start_printed(
    run: Callable[..., int], tmp_path: Path, capsys: pytest.CaptureFixture
) -> None:
    """The lines of the run, of its going on, and of the error that refused another start, but no bar."""
    for epochs in (1, 2):
        assert run("train", f"nepochs={epochs}", "resume=force") == 0
    assert run("train", "nepochs=2", "seed=1") == 2
    said = capsys.readouterr()
    printed = [line for line in (said.out + said.err).splitlines() if line.strip() and "it/s" not in line]
    logged = (tmp_path / "run/train.log").read_text(encoding="utf-8").splitlines()
    assert sorted(printed) == sorted(line for line in logged if not line.startswith("--- "))
    assert any(line.startswith("error: cannot resume with other settings: seed") for line in logged)
    assert sum(line.startswith("--- ") for line in logged) == 3 and not any("it/s" in line for line in logged)
