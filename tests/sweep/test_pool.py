"""Several runs at a time: order, shares, failures, requests to stop, and what is seen of them. The runs are stubs."""

import io
import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from types import SimpleNamespace

import pytest
from repository import REPOSITORY

from furnace.errors import EXIT_RESUBMIT, InputError
from furnace.sweep import live, pool, sharing
from furnace.sweep.jobs import Job, status_words
from furnace.sweep.pool import run_all

WAIT_FOR = """
import os, signal, sys, time
from pathlib import Path
def wait_for(name):
    end = time.monotonic() + 60
    while not Path(name).exists():
        assert time.monotonic() < end
        time.sleep(0.01)
"""


@dataclass(frozen=True)
class Stub(Job):
    """A run whose parts are scripts."""

    scripts: tuple[str, ...] = ()

    def commands(self, more: Mapping[str, str] | None = None) -> dict[str, list[str]]:
        parts = zip(("training", "evaluation"), self.scripts, strict=False)
        return {doing: [sys.executable, "-c", WAIT_FOR + script, *(more or {})] for doing, script in parts}


def job(folder: Path, title: str, *scripts: str, gpus: int | str = 0, **others: object) -> Stub:
    known = {"OUTPUT_PATH": folder / title, "NGPUS": gpus, "num_workers": "auto", "batch_size": 8}
    settings = SimpleNamespace(**{**known, **others})
    return Stub(title, (), SimpleNamespace(settings=settings), (), scripts)


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch, tmp_path: Path, signals_heard: None) -> None:
    monkeypatch.setattr(pool, "TICK", 0.01)
    monkeypatch.setattr(pool, "AT_ONCE", 60)  # minutes: other programs may use the machine
    monkeypatch.chdir(tmp_path)


def test_each_run_trains_and_evaluates_with_all_it_says_in_a_log_of_its_own(tmp_path: Path) -> None:
    ended = []
    first = job(tmp_path, "a", "print('epoch 1')", "print('mean IoU', file=sys.stderr)")
    second = job(tmp_path, "b", "print('epoch 2')")
    (tmp_path / "a").mkdir()
    first.log.write_text("of an earlier start\n")
    outcome = run_all([first, second], 2, on_end=lambda job, status: ended.append((job.title, status)))
    assert outcome == pool.Outcome() and sorted(ended) == [("a", 0), ("b", 0)]
    lines = first.log.read_text().splitlines()
    assert lines[0] == "of an earlier start" and "epoch 1" in lines and lines[-1] == "mean IoU"
    assert [line.split(", ")[1].split(":")[0] for line in lines if line.startswith("--- ")] == [
        "training",
        "evaluation",
    ]
    assert second.log.read_text().splitlines()[-1] == "epoch 2"


def test_a_run_that_is_done_when_somebody_asks_for_an_end_is_the_last_one(tmp_path: Path) -> None:
    """It heeds no signal any more, and ends with 0."""
    ending = "signal.signal(signal.SIGTERM, signal.SIG_IGN); os.kill(os.getppid(), signal.SIGTERM); time.sleep(0.5)"
    for scripts in ((ending, "Path('evaluated').touch()"), ("", ending)):
        assert job(tmp_path, "a", *scripts).run() == EXIT_RESUBMIT
    assert not (tmp_path / "evaluated").exists() and job(tmp_path, "a", "", "").run() == 0


def test_two_go_on_at_a_time_and_the_next_begins_when_one_has_ended(tmp_path: Path) -> None:
    """The first ends only once the second goes on, the second only once the third does; the fourth is never a third."""
    jobs = [
        job(tmp_path, "a", "wait_for('b_is_on')"),
        job(tmp_path, "b", "Path('b_is_on').touch(); wait_for('c_is_on'); time.sleep(0.2); Path('b_ends').touch()"),
        job(tmp_path, "c", "Path('c_is_on').touch(); wait_for('b_ends')"),
        job(tmp_path, "d", "assert Path('b_ends').exists()"),
    ]
    assert run_all(jobs, 2) == pool.Outcome()


def test_each_run_sees_its_own_gpus(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sharing, "visible_gpus", lambda: ["4", "GPU-b", "6", "7"])
    script = "print(os.environ['CUDA_VISIBLE_DEVICES'], sys.argv[1:]); wait_for('{}')"
    both = [f"Path('{name}').touch(); " + script.format(other) for name, other in (("x", "y"), ("y", "x"))]
    jobs = [job(tmp_path, title, script, gpus="all") for title, script in zip("ab", both, strict=True)]
    assert run_all(jobs, 2, gpus_per_run=2) == pool.Outcome()
    assert [each.log.read_text().splitlines()[-1] for each in jobs] == [
        "4,GPU-b ['NGPUS', 'num_workers']",
        "6,7 ['NGPUS', 'num_workers']",
    ]


def test_after_a_failure_the_others_go_on_and_its_error_is_named(tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    bad = job(
        tmp_path, "bad", "print('error: of an earlier line'); print('error: no images'); print('end'); sys.exit(2)"
    )
    crash = job(tmp_path, "crash", "raise ValueError('a fault')", "Path('evaluated').touch()")
    unwritable = job(tmp_path, "file", "")
    (tmp_path / "file").write_text("a file where the folder should be")
    outcome = run_all([bad, crash, unwritable, job(tmp_path, "good", "")], 2)
    failures = {failure.job.title: failure for failure in outcome.failures}
    assert set(failures) == {"bad", "crash", "file"} and not outcome.stopped and not outcome.waiting
    assert str(failures["bad"]) == f"bad: status 2: error: no images; see {tmp_path}/bad/sweep.log"
    assert failures["crash"].status == 1 and failures["crash"].reason == "ValueError: a fault"
    assert "a file stands where a folder is needed" in failures["file"].reason and failures["file"].status == 2
    assert not (tmp_path / "evaluated").exists()
    said = capsys.readouterr().out
    assert "[4/4] good: done after " in said
    assert re.search(r"\[1/4\] bad: failed after \d\.\d min: status 2: error: no images; ", said)


OBEYS = """
signal.signal(signal.SIGTERM, lambda *_: (print('saved', flush=True), sys.exit(75)))
Path('{0}').touch(); wait_for('{1}'); {2}; time.sleep(60)
"""


def test_a_request_to_stop_reaches_all_and_nothing_more_begins(tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    jobs = [
        job(tmp_path, "a", OBEYS.format("x", "y", "os.kill(os.getppid(), signal.SIGTERM)")),
        job(tmp_path, "b", OBEYS.format("y", "x", "0")),
        job(tmp_path, "c", ""),
    ]
    handler = signal.getsignal(signal.SIGTERM)
    outcome = run_all(jobs, 2)
    assert {each.title for each in outcome.stopped} == {"a", "b"} and outcome.waiting == jobs[2:]
    assert not outcome.failures and not jobs[2].log.exists()
    assert [each.log.read_text().splitlines()[-1] for each in jobs[:2]] == ["saved", "saved"]
    assert "asked to stop (SIGTERM): 2 runs are told" in capsys.readouterr().out
    assert signal.getsignal(signal.SIGTERM) is handler


def test_a_second_ctrl_c_is_passed_on_too(tmp_path: Path) -> None:
    script = """
got = []
signal.signal(signal.SIGINT, lambda *_: got.append(1))
for count in (1, 2):
    os.kill(os.getppid(), signal.SIGINT)
    end = time.monotonic() + 60
    while len(got) < count:
        assert time.monotonic() < end
        time.sleep(0.01)
sys.exit(130)
"""
    outcome = run_all([job(tmp_path, "a", script), job(tmp_path, "b", "wait_for('never')")], 2)
    assert {each.title for each in outcome.stopped} == {"a", "b"}


def test_evaluation_does_not_begin_after_a_request_to_stop(tmp_path: Path) -> None:
    heard = (
        "signal.signal(signal.SIGUSR1, lambda *_: sys.exit(0)); os.kill(os.getppid(), signal.SIGUSR1); time.sleep(60)"
    )
    one = job(tmp_path, "a", heard, "Path('evaluated').touch()")
    assert run_all([one], 2).stopped == [one] and not (tmp_path / "evaluated").exists()


def test_where_somebody_stops_one_run_the_others_go_on_to_their_ends(tmp_path: Path) -> None:
    jobs = [
        job(tmp_path, "a", "wait_for('b_is_on'); os.kill(os.getpid(), signal.SIGTERM)"),
        job(tmp_path, "b", "Path('b_is_on').touch(); wait_for('a/end')", "Path('evaluated').touch()"),
        job(tmp_path, "c", ""),
    ]
    outcome = run_all(jobs, 2, on_end=lambda job, _: (job.log.parent / "end").touch())
    assert outcome == pool.Outcome(stopped=jobs[:1], waiting=jobs[2:]) and (tmp_path / "evaluated").exists()


def test_an_error_of_the_program_leaves_no_run_behind(tmp_path: Path) -> None:
    jobs = [job(tmp_path, "a", "wait_for('y')"), job(tmp_path, "b", OBEYS.format("y", "never", "0"))]

    def fails(job: Job, status: int) -> None:
        raise RuntimeError("of the caller")

    with pytest.raises(RuntimeError, match="of the caller"):
        run_all(jobs, 2, on_end=fails)
    assert jobs[1].log.read_text().splitlines()[-1] == "saved"


def test_another_sweep_keeps_its_run_and_its_log(tmp_path: Path) -> None:
    one = job(tmp_path, "a", "")
    hold = f"from furnace.engine.files import claim; from pathlib import Path; lock = claim(Path({str(one.log)!r})"
    hold += ".with_name('.sweep')); print('held', flush=True); input()"
    with subprocess.Popen(
        [sys.executable, "-c", hold],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        env={**os.environ, "PYTHONPATH": str(REPOSITORY)},
    ) as other:
        assert other.stdout and other.stdout.readline() == b"held\n"
        (failure,) = run_all([one], 2).failures
        other.communicate(b"\n")
    assert failure.reason.startswith(f"another process uses {tmp_path}/a: process {other.pid} on ")
    assert not one.log.exists() and run_all([one], 2) == pool.Outcome()


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


SHOWS = """
sys.stderr.write('\\r 18%|#8   | 178/996 [02:06<09:49, 1.39it/s]'); sys.stderr.flush(); wait_for('{0}/shown')
"""


def test_on_a_terminal_a_line_for_each_run_says_what_it_does(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    terminal = Terminal()
    monkeypatch.setattr(sys, "stderr", terminal)
    jobs = [job(tmp_path, title, SHOWS.format(title)) for title in "ab"]
    lines = [
        f"[{number}/2] training 18% 178/996 [02:06<09:49, 1.39it/s]  {title}" for number, title in ((1, "a"), (2, "b"))
    ]
    show = live.LiveLines.show

    def look(self: live.LiveLines, shown: list) -> None:
        show(self, shown)
        for title, line in zip("ab", lines, strict=True):
            if line in terminal.getvalue():
                (tmp_path / title / "shown").touch()

    monkeypatch.setattr(live.LiveLines, "show", look)
    assert run_all(jobs, 2) == pool.Outcome()
    assert all((tmp_path / title / "shown").exists() for title in "ab")


def test_without_a_terminal_a_line_now_and_then_says_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture
) -> None:
    script = "print('epoch 3', flush=True); wait_for('told')"
    seen = []

    def tell(line: str) -> None:
        seen.append(line)
        if line == "[1/1] training epoch 3  a":
            (tmp_path / "told").touch()

    monkeypatch.setattr(live, "tell", tell)
    monkeypatch.setattr(live, "BETWEEN", 0.05)
    assert run_all([job(tmp_path, "a", script)], 2) == pool.Outcome()
    assert seen[0].startswith("[1/1] a: begins on ") and "[1/1] training epoch 3  a" in seen
    monkeypatch.setattr(live, "BETWEEN", 600)
    seen.clear()
    assert run_all([job(tmp_path, "b", "time.sleep(0.1)")], 2) == pool.Outcome()
    assert len(seen) == 2 and seen[1].startswith("[1/1] b: done after 0.0 min")


def test_a_line_is_cut_to_the_columns_of_a_terminal(monkeypatch: pytest.MonkeyPatch) -> None:
    assert live.cut("[3/12] training 18%  ema 1/8", 19) == "[3/12] training 18%"
    assert live.cut("short", 19) == "short" and live.cut("a\tb", 3) == "a b"
    assert live.cut("道路 a", 5) == "道路 " and live.cut("道路", 3) == "道"  # each takes two columns
    monkeypatch.setattr(sys, "stderr", Terminal())
    monkeypatch.setenv("COLUMNS", "12")
    shown = []
    monkeypatch.setattr(live.Bar, "set_description_str", lambda _, text: shown.append(text))
    with live.LiveLines(1) as lines:
        lines.show([(0, "[3/12] training 18%")])
    assert shown == ["[3/12] trai"]


def test_runs_that_ask_for_other_numbers_of_gpus_are_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="NGPUS: expected the same for all runs, found 0 and all; set one of them"):
        run_all([job(tmp_path, "a", ""), job(tmp_path, "b", "", gpus="all")], 2)
    assert not list(tmp_path.iterdir()) and run_all([], 3) == pool.Outcome()


def test_what_a_program_gives_wrongly_is_refused(tmp_path: Path) -> None:
    one = job(tmp_path, "a", "")
    with pytest.raises(InputError, match=f"OUTPUT_PATH: two runs would write to {tmp_path}/a; "):
        run_all([one, job(tmp_path, "a", "")], 2)
    with pytest.raises(InputError, match="num_workers: expected the same for all runs, found 3 and auto; "):
        run_all([one, job(tmp_path, "b", "", num_workers=3)], 2)
    with pytest.raises(InputError, match="runs at a time: expected at least 1, found 0; "):
        run_all([one], 0)
    assert not list(tmp_path.iterdir())


def on_bad_gpus(bad: str) -> str:
    """A run that fails at once on these GPUs; elsewhere it waits until one of them has got its last run."""
    return f"""
if os.environ["CUDA_VISIBLE_DEVICES"] in {bad!r}: sys.exit(2)
wait_for("given_up")
"""


def test_a_gpu_that_fails_at_once_does_not_eat_the_queue(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sharing, "visible_gpus", lambda: ["0", "1"])
    said = []

    def tell(line: str) -> None:
        said.append(line)
        if "it gets no more" in line:
            (tmp_path / "given_up").touch()

    monkeypatch.setattr(live, "tell", tell)
    jobs = [job(tmp_path, title, on_bad_gpus("1"), gpus="all") for title in "abcdef"]
    outcome = run_all(jobs, 2)
    assert [failure.job.title for failure in outcome.failures] == ["b", "c"]
    assert outcome.waiting == [] and not outcome.no_gpu_left
    assert [line for line in said if "no more" in line] == ["GPU 1: 2 runs failed at once; it gets no more"]


def test_where_every_gpu_fails_at_once_the_sweep_ends(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sharing, "visible_gpus", lambda: ["0", "1"])
    jobs = [job(tmp_path, title, on_bad_gpus("01"), gpus="all") for title in "abcdef"]
    outcome = run_all(jobs, 2)
    assert sorted(failure.job.title for failure in outcome.failures) == list("abcd")
    assert outcome.waiting == jobs[4:] and outcome.no_gpu_left and not outcome.stopped


def test_a_run_that_goes_well_clears_its_gpu(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sharing, "visible_gpus", lambda: ["0"])
    jobs = [job(tmp_path, title, f"sys.exit({title in 'ac'})", gpus="all") for title in "abcd"]
    outcome = run_all(jobs, 1)
    assert [failure.job.title for failure in outcome.failures] == ["a", "c"] and not outcome.waiting


def test_on_a_cpu_runs_that_fail_at_once_say_nothing_of_the_machine(tmp_path: Path) -> None:
    outcome = run_all([job(tmp_path, title, f"sys.exit({title != 'e'})") for title in "abcde"], 1)
    assert len(outcome.failures) == 4 and not outcome.waiting


def test_a_run_that_cannot_be_started_fails_and_the_others_go_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    jobs = [job(tmp_path, title, "", "") for title in "ab"]
    missing = ["/nowhere/python"]
    parts = {"b": {"training": [sys.executable, "-c", ""], "evaluation": missing}, "c": {"training": missing}}
    jobs += [job(tmp_path, title) for title in parts]
    commands = Stub.commands
    monkeypatch.setattr(Stub, "commands", lambda self, more=None: dict(parts.get(self.title) or commands(self, more)))
    outcome = run_all([jobs[0], *jobs[2:]], 2)
    assert {failure.job.title: failure.reason for failure in outcome.failures} == dict.fromkeys(
        parts,
        "cannot start /nowhere/python: No such file or directory; "
        "it is missing, or a folder on the way to it; look at the path",
    )
    assert not outcome.waiting


def test_a_run_that_is_killed_is_said_to_be_so(tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    (failure,) = run_all([job(tmp_path, "a", "os.kill(os.getpid(), signal.SIGKILL)")], 2).failures
    assert str(failure).startswith("a: ended by SIGKILL, perhaps for its memory: ")
    assert " min: ended by SIGKILL, perhaps for its memory: " in capsys.readouterr().out
    assert [status_words(status) for status in (3, -11, -35)] == ["status 3", "ended by SIGSEGV", "ended by signal 35"]


def test_a_run_is_a_process_group_of_its_own_with_notes_of_its_own(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("FURNACE_FIRST_PROCESS", str(os.getpid()))
    one = job(tmp_path, "a", "print(os.getpgrp() == os.getpid(), 'FURNACE_FIRST_PROCESS' in os.environ)")
    assert run_all([one], 2) == pool.Outcome()
    assert one.log.read_text().splitlines()[-1] == "True False"


def test_a_run_ends_soon_after_a_sweep_that_was_killed(tmp_path: Path) -> None:
    """The run says when it hears the request; a process between it and this one stands for the sweep."""
    run = """
import os, signal, sys, time
from pathlib import Path
from furnace.engine.signals import STARTER, end_surely
def work():
    signal.signal(signal.SIGTERM, lambda *_: (Path('heard').touch(), sys.exit(75)))
    assert STARTER not in os.environ
    Path('is_on').touch()
    time.sleep(60)
end_surely(work)
"""
    sweep = f"""
import os, subprocess, sys, time
from furnace.engine.signals import STARTER
subprocess.Popen([sys.executable, "-c", {run!r}], env={{**os.environ, STARTER: str(os.getpid())}}, process_group=0)
time.sleep(60)
"""
    with subprocess.Popen([sys.executable, "-c", sweep], env={**os.environ, "PYTHONPATH": str(REPOSITORY)}) as process:
        _wait_for(tmp_path / "is_on")
        process.kill()
    _wait_for(tmp_path / "heard")


def _wait_for(path: Path) -> None:
    end = time.monotonic() + 60
    while not path.exists():
        assert time.monotonic() < end
        time.sleep(0.02)
