"""What the benchmarks share: works timed in turn, and tables."""

import math
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from statistics import median
from typing import NamedTuple

REPOSITORY = Path(__file__).resolve().parents[2]
MEGABYTE = 1e6
FEWEST_TURNS = 3


class Times(NamedTuple):
    """Seconds of one work over its turns."""

    median: float
    least: float
    most: float

    @classmethod
    def over(cls, turns: Sequence[float]) -> "Times":
        return cls(median(turns), min(turns), max(turns))

    def __str__(self) -> str:
        unit, factor = ("s", 1) if self.median >= 1 else ("ms", 1e3)
        median, least, most = (three_digits(factor * each) for each in self)
        return f"{median} {unit} ({least} to {most})"


def three_digits(value: float) -> str:
    """A number without an exponent."""
    return f"{value:.3g}" if value < 1000 else f"{value:.0f}"


def seconds(work: Callable[[], object], finish: Callable[[], object] = lambda: None) -> float:
    """How long `work` takes; `finish` waits for a device."""
    finish()
    begin = time.perf_counter()
    work()
    finish()
    return time.perf_counter() - begin


def launch_seconds(work: Callable[[], object], finish: Callable[[], object]) -> float:
    """How long `work` takes to tell a device all that it shall do; the device may not have done it by then."""
    finish()
    begin = time.perf_counter()
    work()
    took = time.perf_counter() - begin
    finish()
    return took


def in_turn(
    works: Mapping[str, Callable[[], object]],
    turns: int,
    finish: Callable[[], object] = lambda: None,
    at_most: float = math.inf,
    warm_up: bool = True,
) -> dict[str, Times]:
    """Runs all works once to warm up, then one after the other `turns` times: a disturbance hits neighbours alike.

    Works that are warm need no `warm_up`. After `at_most` seconds no further turn begins, unless there were fewer than
    FEWEST_TURNS.
    """
    for work in works.values() if warm_up else ():
        seconds(work, finish)
    measured: dict[str, list[float]] = {name: [] for name in works}
    begin = time.perf_counter()
    for turn in range(turns):
        if turn >= FEWEST_TURNS and time.perf_counter() - begin > at_most:
            break
        for name, work in works.items():
            measured[name].append(seconds(work, finish))
    return {name: Times.over(times) for name, times in measured.items()}


def markdown(header: Sequence[str], rows: Sequence[Sequence[object]]) -> str:
    """A table as docs/benchmarks.md holds it."""
    lines = [header, ["---"] * len(header), *rows]
    return "\n".join(f"| {' | '.join(map(str, line))} |" for line in lines)


def process_bytes(name: str, table: str = "status") -> int:
    """One line, in bytes, of this process's table under /proc: `VmRSS`, `VmHWM` (its peak)."""
    lines = Path("/proc/self", table).read_text().splitlines()
    return next(int(line.split()[1]) * 1024 for line in lines if line.startswith(f"{name}:"))
