"""A run that ends anywhere goes on from there, and ends with the bits of one that never stopped."""

import contextlib
import multiprocessing
import os
import re
import signal
import sys
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from repository import REPOSITORY, copy_experiment
from running import IN_TWO_PROCESSES, children_of, start, wait_for
from runs import KilledError, assert_same_run, before_step

from furnace.data.samples import TrainingSamples
from furnace.engine.signals import StopRequest
from furnace.errors import InputError
from furnace.evaluation import validation
from furnace.network.tensors import read_tensors

STOPPED = 75
ITERATIONS = 21  # three epochs of seven
# The first two stops are within the warm-up.
ALIGNED = ["label_temperature=0.5", "distribution_alignment=1"]
ADAMW = ["optimizer=adamw", "learning_rate=0.01", "clip_gradients=1", "backbone_rate_factor=0.1", "warmup_iterations=9"]


@pytest.mark.parametrize(
    ("name", "settings"),
    [
        ("SIGTERM", ["method=ema"]),
        ("SIGINT", ["method=ema"]),
        ("SIGUSR1", ["method=org", "snapshot_iter=2", "num_workers=1"]),
        ("SIGTERM", ADAMW),
        ("SIGTERM", ALIGNED),
    ],
)
def test_a_signal_ends_it_after_the_iteration_and_it_goes_on(
    run: Callable,
    straight: Callable,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture,
    name: str,
    settings: list[str],
) -> None:
    output = tmp_path / "run"
    number = getattr(signal, name)
    handler = signal.getsignal(number)
    before_step(monkeypatch, dict.fromkeys((3, 6, 13), lambda: os.kill(os.getpid(), number)))
    for iteration in (4, 7, 14):  # in the middle of an epoch, and at the ends of two
        assert run("train", *settings) == STOPPED
        assert f"asked to stop ({name}): iteration {iteration} of {ITERATIONS} is saved" in capsys.readouterr().out
        assert signal.getsignal(number) is handler
        assert torch.load(output / "resume.pth", weights_only=True)["iteration"] == iteration
    assert run("train", *settings) == 0
    assert_same_run(output, straight(*settings))
    capsys.readouterr()
    assert run("train", *settings) == 0
    assert "nothing to do" in capsys.readouterr().out


def test_a_signal_in_the_last_iteration_changes_nothing(
    run: Callable, straight: Callable, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    before_step(monkeypatch, {ITERATIONS - 1: lambda: os.kill(os.getpid(), signal.SIGTERM)})
    assert run("train") == 0
    assert_same_run(tmp_path / "run", straight())


def test_a_signal_in_the_last_iteration_keeps_the_evaluation_from_beginning(
    run: Callable, straight: Callable, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture
) -> None:
    begun = []
    monkeypatch.setattr("furnace.engine.launch.go_on_with", begun.append)
    before_step(monkeypatch, {ITERATIONS - 1: lambda: os.kill(os.getpid(), signal.SIGUSR1)})
    assert run("train", "--then-eval") == STOPPED and not begun
    assert f"asked to stop (SIGUSR1): iteration {ITERATIONS} of {ITERATIONS} is saved" in capsys.readouterr().out
    assert_same_run(tmp_path / "run", straight())
    assert run("train", "--then-eval") == 0 and [command for command, *_ in begun] == ["eval"]


def stand_still(asked: int) -> None:
    """Waits as for a disk that does not answer, and lets somebody ask the run to stop meanwhile."""
    time.sleep(1)  # so that the main process has used what it had, and waits too
    os.kill(asked, signal.SIGTERM)
    time.sleep(3600)


@pytest.mark.parametrize(("workers", "iteration"), [(0, 5), (2, 0), (2, 5)])
def test_a_signal_ends_the_wait_for_a_batch(
    run: Callable, straight: Callable, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, workers: int, iteration: int
) -> None:
    """What was done is saved at once, and nobody is left waiting."""
    this, make = os.getpid(), TrainingSamples.__getitem__

    def make_or_wait(self: TrainingSamples, indices: range) -> object:
        if indices[0] == iteration * self.plan.batch_size:
            stand_still(this)
        return make(self, indices)

    with monkeypatch.context() as still:
        still.setattr(TrainingSamples, "__getitem__", make_or_wait)
        assert run("train", f"num_workers={workers}") == STOPPED
    assert not multiprocessing.active_children()
    if iteration:
        done = torch.load(tmp_path / "run/resume.pth", weights_only=True)["iteration"]
        assert done == iteration if workers == 0 else 1 <= done <= iteration  # workers are ahead
    assert run("train") == 0
    assert_same_run(tmp_path / "run", straight())


def test_a_signal_ends_a_validation_which_a_later_start_does_again(
    run: Callable, straight: Callable, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings = ["validate_epochs=3", "validate_images=2"]  # after the last epoch
    with monkeypatch.context() as still:
        still.setattr(validation, "predicted_labels", lambda *_: stand_still(os.getpid()))
        for _ in range(2):  # the second start begins with it
            assert run("train", *settings, "num_workers=1") == STOPPED
    assert not multiprocessing.active_children()
    assert torch.load(tmp_path / "run/resume.pth", weights_only=True)["iteration"] == ITERATIONS
    assert run("train", *settings) == 0
    assert_same_run(tmp_path / "run", straight(*settings))


def test_who_presses_ctrl_c_twice_need_not_wait() -> None:
    handler = signal.getsignal(signal.SIGINT)
    with pytest.raises(KeyboardInterrupt), StopRequest() as stop:
        os.kill(os.getpid(), signal.SIGINT)
        assert stop and stop.signal == signal.SIGINT
        os.kill(os.getpid(), signal.SIGINT)
        time.sleep(5)
    assert signal.getsignal(signal.SIGINT) is handler


def test_saves_within_an_epoch_are_enough_to_go_on_from(
    run: Callable, straight: Callable, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Killed again and again without a warning; every iteration was saved before."""

    def die() -> None:
        raise KilledError

    before_step(monkeypatch, dict.fromkeys((1, 2, 8, 15, 20), die))
    for _ in range(5):
        with pytest.raises(KilledError):
            run("train", "snapshot_minutes=1e-9", "cps_ramp=0.2,0.5")
    assert run("train", "cps_ramp=0.2,0.5") == 0  # how often is saved may change
    assert_same_run(tmp_path / "run", straight("cps_ramp=0.2,0.5"))


def test_a_run_of_before_there_were_other_optimizers_goes_on(
    run: Callable, straight: Callable, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    before_step(monkeypatch, {3: lambda: os.kill(os.getpid(), signal.SIGTERM)})
    assert run("train") == STOPPED
    file = tmp_path / "run/resume.pth"
    saved = read_tensors(file)
    for name in ("optimizer", "warmup_iterations", "backbone_rate_factor", "clip_gradients"):
        del saved["settings"][name]
    for optimizer in saved["optimizers"]:
        assert len(optimizer["param_groups"]) == 6
        for group in optimizer["param_groups"]:
            del group["rate_factor"]
    torch.save(saved, file)
    assert run("train", "optimizer=adamw") == 2
    assert run("train") == 0
    assert_same_run(tmp_path / "run", straight())


def test_a_run_without_alignment_goes_on_with_one_by_force(
    run: Callable, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture
) -> None:
    before_step(monkeypatch, {3: lambda: os.kill(os.getpid(), signal.SIGTERM)})
    assert run("train") == STOPPED
    saved = read_tensors(tmp_path / "run/resume.pth")
    assert saved.pop("alignment") is None
    torch.save(saved, tmp_path / "run/resume.pth")  # as it was before there were alignments
    assert run("train", *ALIGNED) == 2
    assert "distribution_alignment was 0.0, is 1.0" in capsys.readouterr().err
    assert run("train", *ALIGNED, "resume=force") == 0
    assert "distribution_alignment begins anew" in capsys.readouterr().err
    shares = read_tensors(tmp_path / "run/resume.pth")["alignment"]["shares"]  # (3, N)
    assert shares.sum(dim=1).tolist() == pytest.approx([1, 1, 1]) and shares.std(dim=1).min() > 0.001


def test_a_damaged_save_within_an_epoch_leads_back_to_the_one_before(
    run: Callable, straight: Callable, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    output = tmp_path / "run"
    before_step(monkeypatch, {11: lambda: os.kill(os.getpid(), signal.SIGTERM)})
    assert run("train") == STOPPED
    content = bytearray((output / "resume.pth").read_bytes())
    content[len(content) // 2] ^= 1
    (output / "resume.pth").write_bytes(content)
    assert run("train") == 0
    assert_same_run(output, straight())


def test_no_changed_byte_goes_unnoticed(tmp_path: Path) -> None:
    """Wherever a file is changed or cut, it is refused, or holds what was written."""
    path, random = tmp_path / "state.pth", np.random.default_rng(0)
    state = {"model": {f"layer{number}.weight": torch.randn(50, 3) for number in range(6)}}
    torch.save(state, path)
    whole = path.read_bytes()
    refused = 0
    for place in [*random.integers(len(whole), size=300).tolist(), *range(0, len(whole), len(whole) // 20)]:
        cut = place % 2 == 0 and place > 0
        path.write_bytes(whole[:place] if cut else whole[:place] + bytes([whole[place] ^ 0x10]) + whole[place + 1 :])
        try:
            found = read_tensors(path)
        except InputError as error:
            assert str(path) in str(error)
            refused += 1
        else:
            assert not cut
            assert all(torch.equal(found["model"][name], value) for name, value in state["model"].items())
    assert refused > 200


def test_a_scheduler_signals_the_whole_group(
    experiment: Path, tiny: list[str], straight: Callable, tmp_path: Path
) -> None:
    """Workers, too, get the signal; the run saves and says that it is to be started again."""
    command = [
        sys.executable,
        "-m",
        "furnace",
        "train",
        str(experiment),
        *tiny,
        "num_workers=2",
        "snapshot_minutes=1e-9",
    ]
    process = start(*command)
    wait_for(tmp_path / "run/resume.pth", process)
    os.killpg(process.pid, signal.SIGTERM)
    output, _ = process.communicate(timeout=120)
    assert process.returncode == STOPPED, output
    assert "asked to stop (SIGTERM)" in output and "Traceback" not in output
    done = torch.load(tmp_path / "run/resume.pth", weights_only=True)["iteration"]
    assert 0 < done < ITERATIONS
    process = start(*command)
    output, _ = process.communicate(timeout=120)
    assert process.returncode == 0, output
    assert_same_run(tmp_path / "run", straight())


@pytest.mark.parametrize("send", [os.kill, os.killpg])
def test_the_script_does_what_the_signal_asked_for(
    tiny: list[str], tmp_path: Path, send: Callable[[int, int], None]
) -> None:
    """`train_ema.sh` gets it alone, or with all that it started; it ends with 75 and evaluates nothing."""
    folder = tmp_path / "exp/ensemble_teacher+cutmix"
    copy_experiment("exp.voc", folder)
    settings = dict(pair.split("=") for pair in [*tiny, "snapshot_minutes=1e-9"])
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    process = start("bash", str(folder / "train_ema.sh"), **settings, volna=str(REPOSITORY), PATH=path)
    wait_for(tmp_path / "run/resume.pth", process)
    send(process.pid, signal.SIGUSR1)
    output, _ = process.communicate(timeout=120)
    assert process.returncode == STOPPED, output
    assert "asked to stop (SIGUSR1)" in output and "Traceback" not in output
    assert not (folder / "log_df.csv").exists()


@pytest.mark.xdist_group("several processes")
def test_two_processes_stop_together_and_go_on_as_if_nothing_had_been(
    two_at_once: list[Path], tiny: list[str], tmp_path: Path
) -> None:
    """The signal reaches torchrun's process alone, which passes it on, as SIGTERM; a closed terminal stops nobody.

    They are started as by nohup.
    """
    output = tmp_path / "run"
    settings = [*tiny, "learning_rate=0.00001", "snapshot_minutes=1e-9"]
    command = [*IN_TWO_PROCESSES, "train", str(REPOSITORY / "exp.voc/ensemble_teacher+cutmix"), *settings]
    process = start("bash", "-c", 'trap "" HUP; exec "$@"', "bash", *command)
    wait_for(output / "resume.pth", process)
    for number in (process.pid, *children_of(process.pid)):
        os.kill(number, signal.SIGHUP)
    os.kill(process.pid, signal.SIGUSR1)
    text, _ = process.communicate(timeout=120)
    assert process.returncode == STOPPED, text
    assert "asked to stop (SIGTERM)" in text and "Traceback" not in text  # and not SIGHUP
    done = torch.load(output / "resume.pth", weights_only=True)["iteration"]
    assert f"iteration {done} of {ITERATIONS} is saved" in text
    process = start(*command)
    text, _ = process.communicate(timeout=120)
    assert process.returncode == 0 and "Traceback" not in text, text
    assert torch.load(output / "resume.pth", weights_only=True)["iteration"] == ITERATIONS
    assert_same_run(output, two_at_once[0])


def test_a_bug_in_the_middle_ends_the_run_although_workers_ignore_signals(experiment: Path, tiny: list[str]) -> None:
    """At its exit Python sends SIGTERM to the workers and waits for them."""
    code = (
        "import sys; from furnace.__main__ import main; from furnace.training.learner import Learner\n"
        "def step(self, batch, iteration): raise ZeroDivisionError\n"
        "Learner.step = step; sys.exit(main(sys.argv[1:]))"
    )
    process = start(sys.executable, "-c", code, "train", str(experiment), *tiny, "num_workers=2")
    try:
        output, _ = process.communicate(timeout=60)
    finally:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
    assert process.returncode == 1 and "ZeroDivisionError" in output, output


def test_a_second_run_in_one_of_the_same_folders_is_refused(
    experiment: Path, tiny: list[str], run: Callable, tmp_path: Path, capsys: pytest.CaptureFixture
) -> None:
    command = [sys.executable, "-m", "furnace", "train", str(experiment), *tiny, "nepochs=1000", "num_workers=1"]
    process = start(*command, f"snapshot_dir={tmp_path / 'one'}")
    try:
        wait_for(tmp_path / "one/resume.pth", process)
        for snapshots in ("one", "other"):  # both folders are shared, then OUTPUT_PATH alone
            assert run("train", "nepochs=1000", f"snapshot_dir={tmp_path / snapshots}") == 2
            said = capsys.readouterr().err
            assert re.search(rf"error: another process uses {tmp_path}/\w+: process {process.pid} on ", said)
    finally:
        process.send_signal(signal.SIGTERM)
        output, _ = process.communicate(timeout=60)
    assert process.returncode == STOPPED and "Traceback" not in output, output


@pytest.mark.xdist_group("several processes")
def test_when_torchrun_is_killed_its_processes_stop_and_save(tiny: list[str], tmp_path: Path) -> None:
    """They would go on without anybody who could end them, and into the folder of the run that is started again."""
    settings = [*tiny[:-1], f"OUTPUT_PATH={tmp_path / 'run'}", "nepochs=1000", "snapshot_minutes=0.01"]
    process = start(*IN_TWO_PROCESSES, "train", str(REPOSITORY / "exp.voc/ensemble_teacher+cutmix"), *settings)
    wait_for(tmp_path / "run/resume.pth", process)
    process.kill()
    output, _ = process.communicate(timeout=60)  # at the end of all that write to its output
    assert "asked to stop (SIGTERM)" in output and "Traceback" not in output


@pytest.mark.parametrize(
    ("command", "begins"),
    [
        ("train", "furnace.config.experiment.read_experiment"),
        ("eval", "furnace.config.experiment.read_experiment"),
        ("sweep", "furnace.sweep.planned.planned_jobs"),
    ],
)
def test_a_signal_before_the_work_begins_asks_to_start_again(
    run: Callable, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture, command: str, begins: str
) -> None:
    before = signal.getsignal(signal.SIGTERM)
    monkeypatch.setattr(begins, lambda *_: os.kill(os.getpid(), signal.SIGTERM))
    with pytest.raises(SystemExit) as left:
        run(command)
    assert left.value.code == STOPPED and signal.getsignal(signal.SIGTERM) is before
    assert capsys.readouterr().out == "stopped (SIGTERM); start again to go on\n"


@pytest.mark.parametrize("name", ["SIGTERM", "SIGUSR1", "SIGHUP"])
@pytest.mark.usefixtures("signals_heard")
def test_a_signal_during_an_evaluation_asks_to_start_again(
    run: Callable, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture, name: str
) -> None:
    assert run("train", "nepochs=1") == 0
    number = getattr(signal, name)
    before = signal.getsignal(number)
    monkeypatch.setattr(validation, "predicted_labels", lambda *_: os.kill(os.getpid(), number))
    with pytest.raises(SystemExit) as left:
        run("eval")
    assert left.value.code == STOPPED and signal.getsignal(number) is before
    assert f"stopped ({name}); start again to go on" in capsys.readouterr().out
