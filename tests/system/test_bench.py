"""What is measured where a GPU is lent, rehearsed: neither a failure nor a time limit costs what is known by then."""

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from repository import REPOSITORY

from tests.bench.kernels import Kernel, busy_and_span
from tests.bench.measure import FEWEST_TURNS, in_turn
from tests.bench.peaks import Memory, built
from tests.bench.place import Place

SCRIPT = REPOSITORY / "tests/bench/gpu.sh"
PARTS = ("prove", "step", "recipes", "evaluation", "kernels", "graphs", "searched")

REPORT = """
import ctypes, os, signal, sys, time
from tests.bench.report import Report

with Report("what", "found") as report:
    report.row("first", 1)
    report.figure("first", 1.0)
    with report.attempt("second"):
        raise ValueError("no | such thing")
    {then}
sys.exit(report.status)
"""
# A loading worker is a fork that SIGTERM ends; its parent goes on.
FORK = """
    reader, writer = os.pipe()
    if not (child := os.fork()):
        os.write(writer, b"!")
        time.sleep(20)
        os._exit(1)
    os.read(reader, 1)
    os.kill(child, signal.SIGTERM)
    report.row("ended by", os.WTERMSIG(os.waitpid(child, 0)[1]))
"""
# A lock that is taken twice waits for ever and lets no handler of Python's run, as cuDNN does for a minute.
IN_C = "lock = ctypes.create_string_buffer(64); [ctypes.CDLL(None).pthread_mutex_lock(lock) for _ in range(2)]"


def started(*command: object, **environment: str) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [str(word) for word in command],
        cwd=REPOSITORY,
        env={**os.environ, "PYTHONPATH": str(REPOSITORY), **environment},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def wait_for(there: Callable[[], bool]) -> None:
    end = time.monotonic() + 60
    while not there():
        assert time.monotonic() < end
        time.sleep(0.05)


def test_a_failure_is_a_row_and_figures_come_last() -> None:
    process = started(sys.executable, "-c", REPORT.format(then=FORK))
    said, faults = process.communicate(timeout=60)
    *rows, figures = said.splitlines()
    assert rows == [
        "| what | found |",
        "| --- | --- |",
        "| first | 1 |",
        "| second | failed: ValueError: no / such thing |",
        "| ended by | 15 |",
    ]
    assert json.loads(figures) == {"first": 1.0, "failed": ["second"]}
    assert "ValueError: no | such thing" in faults and process.returncode == 1


def test_sigterm_prints_what_is_known_also_within_a_library() -> None:
    process = started(sys.executable, "-c", REPORT.format(then=IN_C))
    assert process.stdout
    while "second" not in process.stdout.readline():
        pass
    process.terminate()
    said, _ = process.communicate(timeout=60)
    assert json.loads(said) == {"first": 1.0, "failed": ["second"], "stopped": True}
    assert process.returncode == 128 + signal.SIGTERM


@pytest.fixture
def stand_in(tmp_path: Path) -> Path:
    """A program in place of Python: `prove` fails, `recipes` never ends, everything else is done at once."""
    path = tmp_path / "python"
    path.write_text(
        '#!/usr/bin/env bash\necho "begun: $*"\ncase "$*" in\n*prove*) exit 3 ;;\n*recipes*) exec sleep 60 ;;\nesac\n'
    )
    path.chmod(0o755)
    return path


def ends(summary: Path) -> dict[str, str]:
    """How each part ended."""
    rows = [line.strip("| ").split(" | ") for line in summary.read_text().splitlines() if line.startswith("| ")]
    return {row[0]: row[3] for row in rows[2:]}


def test_a_part_that_fails_does_not_end_the_others(stand_in: Path, tmp_path: Path) -> None:
    script = started("bash", SCRIPT, "step", "searched", "prove", PYTHON=str(stand_in), OUT=str(tmp_path / "out"))
    said, _ = script.communicate(timeout=60)
    assert ends(tmp_path / "out/summary.md") == {"prove": "failed, status 3", "step": "done", "searched": "done"}
    assert (tmp_path / "out/step.log").read_text() == "begun: -m tests.bench.step --device cuda --turns 20\n"
    assert said.index("begun: -m furnace prove") < said.index("begun: -m tests.bench.step")
    assert script.returncode == 1


def test_a_part_ends_with_its_time(stand_in: Path, tmp_path: Path) -> None:
    words = ("2", "recipes", "kernels")
    script = started("bash", SCRIPT, *words, PYTHON=str(stand_in), OUT=str(tmp_path / "out"))
    script.communicate(timeout=60)
    found = ends(tmp_path / "out/summary.md")
    assert found == {"recipes": "time was up", "kernels": "not begun: no time left"}


def test_a_signal_ends_the_script_and_leaves_a_summary(stand_in: Path, tmp_path: Path) -> None:
    log = tmp_path / "out/recipes.log"
    script = started("bash", SCRIPT, PYTHON=str(stand_in), OUT=str(tmp_path / "out"))
    wait_for(lambda: log.exists() and "begun" in log.read_text())
    script.terminate()
    script.communicate(timeout=60)
    found = ends(tmp_path / "out/summary.md")
    assert tuple(found) == PARTS
    assert found["recipes"] == "stopped" and found["searched"] == "not begun: stopped"
    assert script.returncode == 143


def test_an_unknown_part_is_refused(tmp_path: Path) -> None:
    script = started("bash", SCRIPT, "steps", OUT=str(tmp_path / "out"))
    _, said = script.communicate(timeout=60)
    assert "found 'steps'" in said and script.returncode == 2


def test_a_step_is_rehearsed(tmp_path: Path) -> None:
    rows = ("longhand", "memory", "precision=fp16", "ema")
    bench = started(sys.executable, "-m", "tests.bench.step", "--tiny", "--turns", 1, "--rows", *rows)
    said, faults = bench.communicate(timeout=300)
    *table, figures = said.splitlines()
    found = json.loads(figures)
    assert found["step_time"] > 0 and found["ema_over_copy"] > 0, faults
    assert found["failed"] == ["precision=fp16"] and bench.returncode == 1  # which a CPU does not have
    assert [line for line in table if "failed: InputError: precision: fp16 needs a GPU" in line]


def test_turns_end_with_their_time() -> None:
    counts = {name: 0 for name in "ab"}

    def work(name: str) -> None:
        counts[name] += 1

    in_turn({name: lambda name=name: work(name) for name in counts}, turns=9, at_most=0.0)
    assert counts == {"a": 1 + FEWEST_TURNS, "b": 1 + FEWEST_TURNS}
    in_turn({"a": lambda: work("a")}, turns=9, warm_up=False)
    assert counts["a"] == 1 + FEWEST_TURNS + 9


def test_idle_time_is_that_in_which_no_kernel_runs() -> None:
    kernels = [Kernel("a", 0, 4), Kernel("b", 1, 2), Kernel("c", 3, 3), Kernel("d", 8, 2)]
    assert busy_and_span(kernels) == (8, 10)


class CountedGpu(Place):
    """A stand-in for a GPU whose allocator holds 1,000 bytes of something else."""

    def __init__(self) -> None:
        super().__init__("cpu")
        self.in_use = self.worst = 1000

    def take(self, size: int) -> None:
        self.in_use += size
        self.worst = max(self.worst, self.in_use)

    def held(self) -> int:
        return self.in_use

    held_by_others = reserved = held

    def forget_peak(self) -> None:
        self.worst = self.in_use

    def peak(self) -> int:
        return self.worst

    most_reserved = peak


class CountedStep:
    """It holds 100 bytes; a step needs 70 more for a moment, the first one 500, and 40 of them are gradients'."""

    def __init__(self, gpu: CountedGpu) -> None:
        self.gpu, self.needed = gpu, 500
        self.students = [torch.nn.Linear(5, 1), torch.nn.Linear(3, 1, bias=False), torch.nn.Linear(1, 1, bias=False)]
        gpu.take(100)

    def __call__(self) -> None:
        self.gpu.take(self.needed)
        self.gpu.take(-self.needed)
        self.needed = 70


def test_memory_is_counted_without_what_others_hold() -> None:
    gpu = CountedGpu()
    assert built(gpu, lambda: CountedStep(gpu)).memory == Memory(above=70 - 40, in_all=170, reserved=600)
