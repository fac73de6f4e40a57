"""The program proves itself on a CPU, and a program that breaks a promise is found out."""

import math
import re
import tempfile
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from repository import REPOSITORY

from furnace.__main__ import main
from furnace.engine import sync_batch_norm
from furnace.evaluation import sliding_window
from furnace.proof import many_processes, one_step, predictors, whole_runs
from furnace.proof.ground import Ground
from furnace.proof.outcome import BrokenPromiseError, within
from furnace.proof.prove import PROMISES
from furnace.proof.trial import difference
from furnace.training.learner import Learner

pytestmark = pytest.mark.xdist_group("several processes")
TINY = ("NGPUS=0", "width=0.0625", "image_size=32")
ORIGINAL = REPOSITORY / "exp.voc/ensemble_teacher+cutmix"
NOT_HERE = {"fp16 losses are near fp32's, and fall", "a step reads nothing back", "compile=1 changes no loss"}


@pytest.mark.slow
def test_every_promise_holds_here(
    capsys: pytest.CaptureFixture, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    before = {path.name for path in ORIGINAL.iterdir()}
    status = main(["prove", *TINY])
    output = capsys.readouterr().out
    rows = {words.strip(): end for end, words in re.findall(r"^(\w+) +[\d.]+ s  (.*?)  ", output, re.MULTILINE)}
    assert status == 0, output
    assert rows.keys() == {promise.words for promise in PROMISES}
    assert {words for words, end in rows.items() if end != "passed"} == NOT_HERE, output
    assert output.startswith("a CPU, ") and f"{len(PROMISES) - 3} passed, 0 failed, 3 skipped in " in output
    left = [path.name for path in tmp_path.iterdir() if not path.name.startswith("torchinductor_")]  # torch's own cache
    assert not left and {path.name for path in ORIGINAL.iterdir()} == before
    assert not torch.are_deterministic_algorithms_enabled()


@pytest.fixture(scope="module")
def ground(tmp_path_factory: pytest.TempPathFactory) -> Ground:
    texts = dict(pair.split("=") for pair in TINY)
    return Ground(tmp_path_factory.mktemp("ground"), ORIGINAL, {**texts, "nepochs": "2"})


def sloppy(self: Learner, *_: object) -> None:
    """Trains on, whatever the gradients are."""


def forgetful(self: Learner, state: dict) -> None:
    """Goes on without the momentum that was saved."""


def hoard(step: Callable) -> Callable:
    kept: list = []

    def keep_and_step(self: Learner, batch, iteration: int):
        kept.append(torch.ones(2**22))  # 16 MB
        return step(self, batch, iteration)

    return keep_and_step


def blunt(move: Callable) -> Callable:
    def move_and_round(self: Learner, rate: float) -> None:
        """Rounds the fp32 weights, as arithmetic of too few bits would."""
        move(self, rate)
        for weight in self.ensemble.students[0].parameters():
            weight.data = weight.data.half().float() if weight.dtype == torch.float32 else weight.data

    return move_and_round


def test_a_step_of_too_few_bits_is_found_out(ground: Ground, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Learner, "_move_students", blunt(Learner._move_students))
    with pytest.raises(BrokenPromiseError, match=r"found .* off by .*, expected at most"):
        one_step.equal_to_float64(ground, {"method": "ema"})


def test_a_bad_step_that_is_taken_is_found_out(ground: Ground, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Learner, "_skip_if_not_finite", sloppy)
    with pytest.raises(BrokenPromiseError, match=r"found \d+ of \d+ tensors changed, expected none"):
        one_step.poisoned_batch_left_out(ground)


def test_memory_that_grows_is_found_out(ground: Ground, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Learner, "step", hoard(Learner.step))
    monkeypatch.setattr(one_step, "STEPS", 60)
    with pytest.raises(BrokenPromiseError, match=r"MB after 50 steps, .* MB after 60, expected no more"):
        one_step.no_more_memory(ground)


@pytest.mark.slow
def test_a_run_that_goes_on_otherwise_is_found_out(ground: Ground, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Learner, "restore", forgetful)
    with pytest.raises(BrokenPromiseError, match="tensors differ"):
        whole_runs.goes_on(ground)


def test_other_scores_than_those_of_training_are_found_out(ground: Ground, monkeypatch: pytest.MonkeyPatch) -> None:
    assert ground.undisturbed_run.is_dir()  # the run is trained, and scored, before anything is broken
    stride = sliding_window.SlidingWindow._starts
    monkeypatch.setattr(sliding_window.SlidingWindow, "_starts", lambda self, length: [*stride(self, length), 0])
    with pytest.raises(BrokenPromiseError, match=r"found v0 .*, expected "):
        whole_runs.scores_of_validation(ground)


def test_labels_of_other_networks_are_found_out(ground: Ground, monkeypatch: pytest.MonkeyPatch) -> None:
    ready = predictors.ready_networks

    def mixed_up(*arguments) -> dict[str, Callable]:
        networks = ready(*arguments)
        return {**networks, "teacher_1": networks["student_2"]}

    monkeypatch.setattr(predictors, "ready_networks", mixed_up)
    with pytest.raises(BrokenPromiseError, match=r"pixels with another label: v1 .*, v3 .*, v4 "):
        predictors.label_as_on_a_cpu(ground)


def test_a_group_with_other_statistics_is_found_out(ground: Ground, monkeypatch: pytest.MonkeyPatch) -> None:
    joined = sync_batch_norm._joined
    monkeypatch.setattr(sync_batch_norm, "_joined", lambda every: (joined(every)[0], 1.1 * joined(every)[1]))
    with pytest.raises(BrokenPromiseError, match="losses off by"):
        many_processes.group_takes_the_step_of_one(ground)


def test_a_loss_that_is_no_number_is_a_difference_wherever_it_stands() -> None:
    steps = [{"loss": 1.0, "gradient_norm_1": 5.0}, {"loss": 2.0, "gradient_norm_1": 5.0}]
    assert difference([{"loss": 1.0}, {"loss": 2.5}], steps) == 0.25
    for broken in range(2):
        found = [{"loss": float("nan") if number == broken else step["loss"]} for number, step in enumerate(steps)]
        assert math.isnan(difference(found, steps))


def test_what_is_no_number_is_not_within_any_limit() -> None:
    assert within({"losses": (1e-6, 1e-4)}) == "losses off by 1e-06 (at most 0.0001)"
    with pytest.raises(BrokenPromiseError, match="losses off by nan"):
        within({"losses": (float("nan"), 1e-4)})


def test_a_failure_is_a_row_with_its_reason_and_the_status_is_1(
    capsys: pytest.CaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: object) -> None:
        print("what the step said")
        raise RuntimeError("no kernel image is available for execution on the device")

    monkeypatch.setattr(Learner, "step", fail)
    assert main(["prove", *TINY, "--only", "channels_last"]) == 1
    output = capsys.readouterr().out
    assert re.search(r"^failed .*channels_last=0 changes no loss +RuntimeError: no kernel image", output, re.MULTILINE)
    assert "        what the step said\n" in output and "        RuntimeError: no kernel image" in output
    assert "0 passed, 1 failed, 0 skipped" in output


@pytest.mark.parametrize(
    ("words", "error"),
    [
        (["--only", "nothing like it"], "--only: no promise contains 'nothing like it'; expected words of one of: "),
        (["exp.camvid/ensemble_teacher+cutmix"], "trains on "),
        (["exp.voc/ensemble_teacher+cutmix", "exp.city/ensemble_teacher+cutmix"], "expected one experiment at most"),
        (["no/such/folder"], "no experiment: "),
        (["batch_size=many"], "batch_size: expected "),
        (["NGPUS=64"], "NGPUS: 64 asked for"),
    ],
)
def test_bad_input_is_one_line(
    words: list[str], error: str, capsys: pytest.CaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(REPOSITORY)
    assert main(["prove", *TINY[1:], "NGPUS=0" if "NGPUS" not in words[0] else "seed=0", *words]) == 2
    said = capsys.readouterr()
    assert said.err.startswith("error: ") and error in said.err and said.err.count("\n") == 1


def test_one_of_several_processes_is_refused(capsys: pytest.CaptureFixture, monkeypatch: pytest.MonkeyPatch) -> None:
    place = {"RANK": "0", "WORLD_SIZE": "1", "LOCAL_RANK": "0", "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": "29500"}
    for name, value in place.items():
        monkeypatch.setenv(name, value)
    assert main(["prove", *TINY]) == 2
    assert "error: prove: torchrun has started this process; expected one process" in capsys.readouterr().err
