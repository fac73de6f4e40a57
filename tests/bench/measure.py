"""What the benchmarks share: works timed in turn, and tables."""

import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from statistics import median
from typing import NamedTuple

REPOSITORY = Path(__file__).resolve().parents[2]
MEGABYTE = 1e6


class Times(NamedTuple):
    """Seconds of one work over its turns."""

    median: float
    least: float
    most: float

    def __str__(self) -> str:
        unit, factor = ("s", 1) if self.median >= 1 else ("ms", 1e3)
        return f"{factor * self.median:.3g} {unit} ({factor * self.least:.3g} to {factor * self.most:.3g})"


def seconds(work: Callable[[], object], finish: Callable[[], object] = lambda: None) -> float:
    """How long `work` takes; `finish` waits for a device."""
    finish()
    begin = time.perf_counter()
    work()
    finish()
    return time.perf_counter() - begin


def in_turn(
    works: Mapping[str, Callable[[], object]], turns: int, finish: Callable[[], object] = lambda: None
) -> dict[str, Times]:
    """Runs all works once to warm up, then one after the other `turns` times: a disturbance hits neighbours alike."""
    for work in works.values():
        seconds(work, finish)
    measured: dict[str, list[float]] = {name: [] for name in works}
    for _ in range(turns):
        for name, work in works.items():
            measured[name].append(seconds(work, finish))
    return {name: Times(median(times), min(times), max(times)) for name, times in measured.items()}


def markdown(header: Sequence[str], rows: Sequence[Sequence[object]]) -> str:
    """A table as docs/benchmarks.md holds it."""
    lines = [header, ["---"] * len(header), *rows]
    return "\n".join(f"| {' | '.join(map(str, line))} |" for line in lines)


def process_bytes(name: str, table: str = "status") -> int:
    """One line, in bytes, of this process's table under /proc: `VmRSS`, `VmHWM` (its peak)."""
    lines = Path("/proc/self", table).read_text().splitlines()
    return next(int(line.split()[1]) * 1024 for line in lines if line.startswith(f"{name}:"))
