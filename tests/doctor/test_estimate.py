"""What the doctor says of a run: by the run's own steps, whatever is missing, and nothing stays."""

import errno
import shutil
from collections.abc import Callable
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory

import cv2
import pytest
import torch
from runs import make_experiment, tiny_settings
from torch._dynamo.exc import BackendCompilerFailed

from furnace.config.experiment import read_experiment
from furnace.doctor import estimate, loading, made_data, one_process, peaks, scoring
from furnace.doctor.finding import NOTE, OK, PROBLEM, Finding
from furnace.doctor.fitting import MARGIN
from furnace.doctor.one_process import OneProcess
from furnace.doctor.peaks import Memory, Peaks
from furnace.engine.distributed import World
from furnace.training.footprint import least_bytes
from furnace.training.learner import Learner

Examine = Callable[..., list[Finding]]


@pytest.fixture(autouse=True)
def hasty(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Takes as few steps as there may be, and lets made images be seen, which are few and small."""
    monkeypatch.setitem(made_data.KNOWN, "voc", made_data.KNOWN["voc"]._replace(height=40, width=60, files=2))
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
    monkeypatch.setattr(estimate, "TemporaryDirectory", None)  # where data is there, nobody asks for one
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


def test_where_no_image_can_be_made_a_note_says_so(
    examine: Examine, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(self, data):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(Path, "write_bytes", full)
    findings = examine("dataset_path=nowhere")
    assert len(problems(findings)) == 1 and not of(findings, "step")
    assert findings[-1].state == NOTE and "none can be made for steps: No space left" in findings[-1].found
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


def test_one_of_several_processes_is_tried_alone(
    examine: Examine, demo_data: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(estimate, "gpus_for_batch", lambda wanted, batch_size: 4)
    monkeypatch.setattr(estimate, "join_world", lambda gpus, minutes: World())
    loaded: set[int] = set()

    def noted(samples, iteration):
        batch = one_process.made(samples, iteration)
        loaded.add(len(batch.image))
        return batch

    monkeypatch.setattr(loading, "made", noted)
    findings = examine("batch_size=4", "validate_epochs=3", "num_workers=1")
    assert not problems(findings) and loaded == {1}
    (processes,), (step, single), (time,) = of(findings, "processes"), of(findings, "step"), of(findings, "time")
    assert processes.state == single.state == NOTE and processes.figures["processes"] == 4
    assert "neither in its time nor in its memory" in processes.found
    assert (step.figures["images_a_process"], step.figures["processes"]) == (2, 4) and "has one image" in single.found
    assert time.figures["iterations"] == 3 * 7  # of the whole batch
    assert time.figures["validation_seconds"] == pytest.approx(2 * time.figures["seconds_a_validation_image"])
    # Steps are those of two images, which is the most that they may take; loading and what it hands over is of one.
    (limit,), (shared,) = of(findings, "loading"), of(findings, "shared memory")
    assert "at most about" in time.found and "1 validation " in time.found and "wants at least" in limit.found
    assert limit.figures["images_a_step"] == 3
    load = 3 / limit.figures["images_per_second_by_one_worker"]
    assert time.figures["training_seconds"] == pytest.approx(21 * max(step.figures["seconds"], load))
    views, validation = 32 * 32 * (3 * 5 + 2), 0
    for path in sorted(demo_data.glob("val/image/*")):
        height, width = cv2.imread(str(path)).shape[:2]
        validation += height * width * 4
    assert shared.figures["needed_bytes"] == 2 * 4 * (views + validation // 8)  # two ahead, in each of four processes


def test_where_a_single_image_cannot_be_tried_no_room_for_two_is_a_note(
    examine: Examine, monkeypatch: pytest.MonkeyPatch
) -> None:
    def no_room(self, raw, work):
        raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2 GiB")

    monkeypatch.setattr(estimate, "gpus_for_batch", lambda wanted, batch_size: 4)
    monkeypatch.setattr(estimate, "join_world", lambda gpus, minutes: World())
    monkeypatch.setattr(OneProcess, "step", no_room)
    findings = examine("batch_size=4")
    assert not problems(findings) and (findings[-1].state, findings[-1].subject) == (NOTE, "device memory")
    assert "training with 2 images a process" in findings[-1].found and "may fit" in findings[-1].found

    monkeypatch.setattr(OneProcess, "why_no_room", lambda self, images: f"{self.described(images)} needs 9 GB")
    (found,) = problems(examine("batch_size=4"))
    assert "not even 2 images fit" in found  # even one is known not to


def test_what_networks_hold_already_is_room_for_a_step(
    folder: Path, demo_data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings = dict(pair.split("=", 1) for pair in tiny_settings(demo_data, tmp_path / "run"))
    experiment = read_experiment(folder, settings)
    process, least = OneProcess(experiment, World(), 2, 2), least_bytes(experiment, 2, torch.device("cpu"))
    for held, is_enough in ((0.6, True), (0.5, True), (0.4, False)):
        free = 0.5
        monkeypatch.setattr(peaks.memory, "free", lambda device, share=free: share * least)
        monkeypatch.setattr(peaks.memory, "resident", lambda share=held: share * least)
        assert (process.why_no_room(2) == "") == is_enough
    assert process.why_no_room(2).startswith("training with batch_size=4 and image_size=32 needs about ")


@pytest.mark.parametrize(("setting", "state"), [("validate_epochs=3", PROBLEM), ("validate_epochs=0", NOTE)])
def test_where_an_image_finds_no_room_the_rest_is_told(
    examine: Examine, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, setting: str, state: str
) -> None:
    def no_room(*_):
        raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2 GiB")

    monkeypatch.setattr(scoring, "count_in_training", no_room)
    students = tmp_path / "run" / "snapshot" / "model_epoch1.pth"
    students.parent.mkdir(parents=True)
    with students.open("wb") as file:
        file.truncate(10**9)
    findings = examine(setting, "method=supervised")
    (fault,), (time,), (files,) = of(findings, "scoring"), of(findings, "time"), of(findings, "files")
    assert fault.state == state and "no room for an image: CUDA out of memory" in fault.found
    assert ("1 validation of unknown length" in time.found) == (state == PROBLEM) and time.figures["seconds"] > 0
    assert files.figures["snapshots"] == 0 < files.figures["predictions"]  # it has more than it will ever need


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
        failure = BackendCompilerFailed.__new__(BackendCompilerFailed)  # what it takes is another in each torch
        failure.inner_exception = FileNotFoundError("g++")
        raise failure

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


@pytest.mark.parametrize(("room", "largest"), [(20.5, 20), (8.1, 8), (1000.0, 28)])
def test_the_finding_of_a_run_that_fits_names_a_larger_batch(
    examine: Examine, monkeypatch: pytest.MonkeyPatch, room: float, largest: int
) -> None:
    base, each, step, images = 1e12, 1e10, OneProcess.step, [0]  # bytes, beside which true ones are nothing

    def noted(self, raw, work):
        images[0] = len(raw.image)
        step(self, raw, work)

    def seen(self):
        peak = int(base + images[0] * each)
        return Memory(peak, peak, peak)

    monkeypatch.setattr(OneProcess, "step", noted)
    monkeypatch.setattr(Peaks, "seen", seen)
    monkeypatch.setattr(Peaks, "room", lambda self: (base + room * each) / MARGIN)
    (memory,) = of(examine("batch_size=8", "eval_epochs=none"), "device memory")
    assert memory.figures["largest_batch_size"] == largest  # no more than the 28 images of the longer list
    assert (f"; a batch_size of about {largest} would fit" in memory.found) == (largest > 8)
    assert memory.state == (OK if room > 20 else NOTE)
