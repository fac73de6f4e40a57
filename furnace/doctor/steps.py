"""Takes steps of a run with its own loader, and tells how long one takes and how much memory."""

import time
from statistics import median
from typing import NamedTuple

from furnace.doctor.clock import StepClock
from furnace.doctor.one_process import OneProcess, Work
from furnace.doctor.peaks import Memory, Peaks, workers_bytes
from furnace.engine.bars import bar

FEWEST, MOST = 3, 300  # steps that are timed, unless they are slow


class Taken(NamedTuple):
    """What was seen of steps.

    Attributes:
        seconds: of each timed step, without the wait for its batch.
        first: seconds of the very first step, in which libraries search for kernels and compile.
        memory: at the worst moment.
        workers: bytes that all loading workers of the process hold beside it.
    """

    seconds: list[float]
    first: float
    memory: Memory
    workers: int

    @property
    def median(self) -> float:
        """Seconds of a step."""
        return median(self.seconds)


def take_steps(process: OneProcess, work: Work, budget: float) -> Taken:
    """Takes steps to warm up, and then as many as fit into `budget` seconds, but FEWEST at least.

    Where a step of a warm device is as long as a third of the budget or longer, it counts itself, and there may be no
    other one.

    Raises:
        InputError: a file of a batch is bad.
        RuntimeError: there is no memory for a step, see `memory_failure`.
    """
    device, settings = process.world.device, process.experiment.settings
    warm_ups = 2 if device.type == "cuda" or settings.compile else 1
    clock, peaks = StepClock(device), Peaks(device)
    first, warm, slow = 0.0, Memory(0, 0, 0), []
    peaks.forget()
    begun = time.perf_counter()
    with process.batches(work) as batches, bar(desc="taking steps", unit="step", leave=False, disable=None) as progress:
        for number, raw in enumerate(batches):
            if number < warm_ups:
                begun = time.perf_counter()
                process.step(raw, work)
                process.finish()
                took = time.perf_counter() - begun
                first = first or took
                if number == warm_ups - 1:
                    warm, slow = peaks.seen(), [took] if FEWEST * took >= budget else []
                    peaks.forget()
                    begun = time.perf_counter() - sum(slow)
            else:
                with clock.step():
                    process.step(raw, work)
            progress.update()
            done, passed = max(0, number + 1 - warm_ups), time.perf_counter() - begun
            if number + 1 >= warm_ups and _enough(done, passed, budget, slow):
                break
        seconds, workers = slow + clock.seconds(), workers_bytes()
    steady = peaks.seen()
    memory = Memory(
        max(warm.host, steady.host),
        # In its first steps a GPU tries kernels that take more memory than they are worth.
        steady.device if len(seconds) > len(slow) else warm.device,
        max(warm.reserved, steady.reserved),
    )
    return Taken(seconds, first, memory, workers)


def _enough(done: int, passed: float, budget: float, slow: list[float]) -> bool:
    """Whether no other step is to be taken after `done` timed ones, `passed` seconds after the first began."""
    if slow:
        return passed + slow[0] > budget
    return done >= MOST or (done >= FEWEST and passed > budget)
