"""Times steps on any device, without making it wait where training would not."""

import time
from collections.abc import Iterator
from contextlib import contextmanager

import torch


class StepClock:
    """Times pieces of work that follow each other on one device.

    A GPU does its work later than it is told to. As in training, it may be told the next step while it does the last
    one. So a GPU itself marks where a step begins and ends, and only the step before the last is waited for. Waiting
    for data lies between two steps and is not counted.
    """

    def __init__(self, device: torch.device) -> None:
        self._on_gpu = device.type == "cuda"
        self._events: list[tuple[torch.cuda.Event, torch.cuda.Event]] = []
        self._seconds: list[float] = []

    @contextmanager
    def step(self) -> Iterator[None]:
        """A context whose work is timed."""
        if not self._on_gpu:
            begun = time.perf_counter()
            yield
            self._seconds.append(time.perf_counter() - begun)
            return
        begin, end = _event(), _event()
        begin.record()
        yield
        end.record()
        self._events.append((begin, end))
        if len(self._events) > 1:
            self._events[-2][1].synchronize()

    def seconds(self) -> list[float]:
        """Waits for the device, and returns the seconds of each step."""
        if not self._on_gpu:
            return self._seconds
        torch.cuda.synchronize()
        return [begin.elapsed_time(end) / 1000 for begin, end in self._events]  # torch counts milliseconds


def _event() -> torch.cuda.Event:
    return torch.cuda.Event(enable_timing=True)  # type: ignore[no-untyped-call]  # torch does not annotate it
