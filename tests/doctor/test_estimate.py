"""What the doctor says of a run: by the run's own steps, whatever is missing, and nothing stays."""

import shutil
from collections.abc import Callable
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest
import torch
import torch._dynamo.exc
from runs import make_experiment, tiny_settings

from furnace.config.experiment import read_experiment
from furnace.doctor import estimate, made
from furnace.doctor.finding import NOTE, OK, PROBLEM, Finding
from furnace.doctor.one_process import OneProcess
from furnace.engine.distributed import World
from furnace.training.learner import Learner

Examine = Callable[..., list[Finding]]


@pytest.fixture(autouse=True)
def hasty(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Takes as few steps as there may be, and lets made images be seen, which are few and small."""
    monkeypatch.setitem(made.KNOWN, "voc", made.KNOWN["voc"]._replace(height=40, width=60, files=2))
    monkeypatch.setattr(estimate, "BUDGETS", {"cpu": (0.0, 0.0, 0.0)})
    (tmp_path / "temporary").mkdir()
    monkeypatch.setattr(estimate, "TemporaryDirectory", partial(TemporaryDirectory, dir=tmp_path / "temporary"))


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return make_experiment(tmp_path)


@pytest.fixture
def examine(folder: Path, demo_data: Path, tmp_path: Path) -> Examine:
    def examined(*settings: str) -> list[Finding]:
        texts = dict(pair.split("=", 1) for pair in [*tiny_settings(demo_data, tmp_path / "run"), *settings])
        return list(estimate.examine(read_experiment(folder, texts, with_data=False)))

    return examined


def of(findings: list[Finding], subject: str) -> list[Finding]:
    return [finding for finding in findings if finding.subject == subject]


def problems(findings: list[Finding]) -> list[str]:
    return [f"{finding.subject}: {finding.found}; {finding.remedy}" for finding in findings if finding.state == PROBLEM]


def test_a_run_is_told_by_its_own_steps(
    examine: Examine, folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    taken: list[tuple[int, int, bool]] = []
    step = Learner.step

    def noted(self, batch, iteration):
        taken.append((iteration, len(batch.image), batch.weak is not None))
        return step(self, batch, iteration)

    monkeypatch.setattr(Learner, "step", noted)
    files = sorted(tmp_path.rglob("*"))
    findings = examine("cps_ramp=0.5,0.8", "validate_epochs=2")
    assert sorted(path for path in tmp_path.rglob("*") if "__pycache__" not in path.parts) == files

    assert not problems(findings)
    before, pairs = of(findings, "step")
    # 4 labelled and 28 unlabelled images, batches of 4: 7 iterations, 3 epochs. The weight is above 0 from the 12th on.
    assert [before.figures["iterations"], pairs.figures["iterations"]] == [11, 10]
    assert taken[0] == (11, 2, True)  # half a batch shows what each image takes
    assert {step[:2] for step in taken[1:]} == {(0, 4), (11, 4)}
    assert {step for step in taken if step[2]} == {(11, 2, True), (11, 4, True)}
    assert before.figures["steps"] + pairs.figures["steps"] >= 2

    (time,), (loading,) = of(findings, "time"), of(findings, "loading")
    assert (time.figures["iterations"], time.figures["validations"], time.figures["snapshots"]) == (21, 1, 3)
    assert loading.figures["images_a_step"] == 12
    waiting = loading.figures["images_a_step"] / loading.figures["images_per_second_by_one_worker"]
    assert time.figures["training_seconds"] > 10 * (pairs.figures["seconds"] + waiting)
    assert time.figures["validation_seconds"] == pytest.approx(8 * time.figures["seconds_a_validation_image"])
    assert time.figures["evaluation_seconds"] == pytest.approx(8 * time.figures["seconds_a_validation_image"])
    assert of(findings, "device memory")[0].figures["peak_bytes"] > 1e7
    assert of(findings, "files")[0].figures["snapshots"] > of(findings, "files")[0].figures["predictions"] > 0


@pytest.mark.parametrize(
    "settings",
    [
        ("method=supervised", "labeled_ratio=2"),
        ("method=org", "deterministic=1", "num_workers=1", "eval_epochs=none"),
        ("method=ema", "optimizer=adamw", "confidence=0.5", "batch_size=2", "channels_last=0", "save_predictions=none"),
    ],
)
def test_every_method_is_examined(examine: Examine, settings: tuple[str, ...]) -> None:
    findings = examine(*settings)
    assert not problems(findings)
    assert [len(of(findings, subject)) for subject in ("step", "device memory", "loading", "time", "files")] == [1] * 5
    assert bool(of(findings, "time")[0].figures["evaluation_seconds"]) == ("eval_epochs=none" not in settings)
    assert ("predictions" in of(findings, "files")[0].figures) == ("method=supervised" in settings)
    assert bool(of(findings, "host memory")) == ("num_workers=1" in settings)
    torch.use_deterministic_algorithms(False)


def test_without_its_data_a_run_is_told_by_made_images(examine: Examine, tmp_path: Path) -> None:
    findings = examine("dataset_path=nowhere", "pretrained_model=resnet18_v1c.pth", "backbone=")
    assert [problem.partition(": ")[0] for problem in problems(findings)] == ["data", "weights"]
    assert "dataset_path not found" in problems(findings)[0] and "pretrained_model not found" in problems(findings)[1]
    (note,) = [finding for finding in of(findings, "data") if finding.state == NOTE]
    assert note.figures == {"labeled": 1322, "unlabeled": 9260, "val": 1449}
    (time,) = of(findings, "time")
    assert time.figures["iterations"] == 3 * (9260 // 4)
    assert not list((tmp_path / "temporary").iterdir())


def test_an_examination_that_is_given_up_leaves_nothing(folder: Path, tmp_path: Path) -> None:
    texts = {"dataset_path": "nowhere", "pretrained_model": "none", "NGPUS": "0"}
    examined = estimate.examine(read_experiment(folder, texts, with_data=False))
    while next(examined).state != NOTE:
        pass
    assert list((tmp_path / "temporary").iterdir())
    examined.close()
    assert not list((tmp_path / "temporary").iterdir())


def test_lists_that_are_there_keep_their_lengths(examine: Examine, demo_data: Path, tmp_path: Path) -> None:
    lists = tmp_path / "lists"
    lists.mkdir()
    for path in demo_data.rglob("*.txt"):
        target = lists / path.relative_to(demo_data)
        target.parent.mkdir(exist_ok=True)
        target.write_text(path.read_text())
    findings = examine(f"dataset_path={tmp_path / 'temporary'}", f"lists_path={lists}")
    assert len(problems(findings)) == 1 and "file not found" in problems(findings)[0]
    assert of(findings, "data")[1].figures == {"labeled": 4, "unlabeled": 28, "val": 8}


def test_too_large_a_batch_is_a_problem_with_the_largest_that_fits(
    examine: Examine, monkeypatch: pytest.MonkeyPatch
) -> None:
    step = OneProcess.step

    def no_room(self, raw, work):
        if len(raw.image) > 5:
            raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2 GiB")
        step(self, raw, work)

    monkeypatch.setattr(OneProcess, "step", no_room)
    findings = examine("batch_size=16")
    (found,) = problems(findings)
    assert "CUDA out of memory" in found and "batch_size=16 and image_size=32" in found and "set batch_size=5," in found
    assert findings[-1].figures == {"largest_batch_size": 5} and not of(findings, "time")


def test_where_not_even_two_images_fit_the_network_is_too_large(
    examine: Examine, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(OneProcess, "why_no_room", lambda self, images: f"training with {images} needs 9 GB")
    (found,) = problems(examine())
    assert found.startswith(
        "device memory: training with 4 needs 9 GB; not even 2 images fit; lower image_size (it is 32)"
    )


def test_one_of_several_processes_is_tried_alone(examine: Examine, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(estimate, "gpus_for_batch", lambda wanted, batch_size: 4)
    monkeypatch.setattr(estimate, "join_world", lambda gpus, minutes: World())
    findings = examine("batch_size=4", "validate_epochs=3")
    assert not problems(findings)
    (processes,), (step, single), (time,) = of(findings, "processes"), of(findings, "step"), of(findings, "time")
    assert processes.state == single.state == NOTE and processes.figures["processes"] == 4
    assert (step.figures["images_a_process"], step.figures["processes"]) == (2, 4) and "has one image" in single.found
    assert time.figures["iterations"] == 3 * 7  # of the whole batch
    assert time.figures["validation_seconds"] == pytest.approx(2 * time.figures["seconds_a_validation_image"])


def test_a_compiler_that_is_missing_and_a_file_that_is_damaged_are_problems(
    examine: Examine, demo_data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    damaged = tmp_path / "damaged"
    shutil.copytree(demo_data, damaged)
    for path in (damaged / "train_aug/image").iterdir():
        path.write_bytes(path.read_bytes()[:100])
    (found,) = problems(examine(f"dataset_path={damaged}", "num_workers=1"))
    assert found.startswith("run: ") and str(damaged) in found

    def refuse(self, dynamic):
        raise torch._dynamo.exc.BackendCompilerFailed(print, FileNotFoundError("g++"), None)

    monkeypatch.setattr(torch.nn.Module, "compile", refuse)
    (found,) = problems(examine("compile=1"))
    assert found.startswith("run: compile: torch could not compile the networks") and "set compile=0" in found


@pytest.mark.parametrize(
    ("settings", "expected"),
    [
        (("labeled_ratio=4", "nepochs="), "epochs: labeled_ratio: 4 has no number of epochs"),
        (("eval_epochs=9",), "evaluation: eval_epochs: epoch 9 will have no snapshot"),
        (("OUTPUT_PATH=/proc/nothing",), "output: cannot write /proc/nothing"),
        (("batch_size=64",), "data: batch_size 64 is larger than both lists"),
        (("NGPUS=3",), "run: NGPUS: 3 asked for, 0 visible"),
        (("decoder=Unknown", "backbone=resnet18"), "network: "),
        (("labeled_ratio=1", "nepochs=2", "dataset_path=nowhere"), "data: method ema: expected unlabelled images"),
    ],
)
def test_what_training_would_refuse_is_a_problem(
    examine: Examine, folder: Path, settings: tuple[str, ...], expected: str
) -> None:
    if "nepochs=" in settings:
        text = (folder / "config.py").read_text()
        (folder / "config.py").write_text(text.replace("(4, 40), ", ""))
    findings = examine(*settings)
    assert any(problem.startswith(expected) for problem in problems(findings))
    refused_before_steps = expected.startswith(("run", "network", "data: method"))
    assert bool(of(findings, "time")) != refused_before_steps


def test_a_graph_is_made_for_the_size_of_the_run_alone(examine: Examine, monkeypatch: pytest.MonkeyPatch) -> None:
    taken: list[int] = []
    step = OneProcess.step

    def noted(self, raw, work):
        taken.append(len(raw.image))
        step(self, raw, work)

    monkeypatch.setattr(OneProcess, "step", noted)
    monkeypatch.setattr(torch.nn.Module, "compile", lambda self, dynamic: None)  # a real compiler takes minutes
    findings = examine("compile=1")
    assert not problems(findings) and set(taken) == {4}
    assert of(findings, "device memory")[0].figures["largest_batch_size"] is None


def test_settings_without_effect_are_notes(examine: Examine) -> None:
    (note,) = of(examine("method=supervised", "view=weak", "eval_epochs=none"), "settings")
    assert note.state == NOTE and note.found == "view has no effect without a cross term"


def test_the_finding_of_a_run_that_fits_names_a_larger_batch(examine: Examine) -> None:
    (memory,) = of(examine("batch_size=8", "image_size=64"), "device memory")
    assert memory.state == OK
    largest = memory.figures["largest_batch_size"]
    assert largest is None or f"about {largest} would fit" in memory.found or largest <= 8
