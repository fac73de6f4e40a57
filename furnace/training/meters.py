"""What is measured while a run trains: time, and losses, which stay on the device until they are read together."""

import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from math import isfinite, nan
from typing import Any, TypeVar

import torch
from torch import Tensor

T = TypeVar("T")

READ_BACK_EVERY = 20  # iterations between two readings of the losses from the device


@dataclass(frozen=True)
class NotFinite:
    """A step with a term that is not finite; `term` is the first such term and `value` its value."""

    iteration: int
    term: str
    value: float


class LossMeter:
    """Means of the losses, read from the device for many steps at once, so that the loop never waits for one number.

    Steps with a term that is not finite are counted and left out of the means. Beside the losses it can sum up what
    steps count, such as pixels.

    Args:
        average: takes the mean of a tensor over all processes. So a term that is not finite in one process is not
            finite in any, and all find the same steps.

    Attributes:
        counts: the sums of what steps counted since the last `reset`, each a mean over all processes. They are empty
            where nothing was counted.
    """

    def __init__(self, average: Callable[[Tensor], Tensor] = lambda values: values) -> None:
        self._average = average
        self.counts: list[float]
        self._pending: list[tuple[int, dict[str, Tensor], Tensor | None]] = []
        self.reset()

    def add(self, iteration: int, terms: dict[str, Tensor], counts: Tensor | None = None) -> None:
        """Takes what one iteration tells.

        Args:
            terms: scalars on the device, by name; `loss` is what is learned from, made of others.
            counts: whole numbers on the device. Either all steps have as many of them, or none has any.
        """
        self._pending.append((iteration, terms, counts))

    def due(self) -> bool:
        """Whether so many steps are waiting that it is time to `read_back`."""
        return len(self._pending) >= READ_BACK_EVERY

    def read_back(self) -> list[NotFinite]:
        """Waits for the device and takes in what was added since the last call. All processes call it together.

        Returns:
            The steps that are not finite.
        """
        if not self._pending:
            return []
        names = list(self._pending[0][1])
        values = torch.stack([torch.stack([terms[name] for name in names]) for _, terms, _ in self._pending]).double()
        counts = [counted.flatten() for _, _, counted in self._pending if counted is not None]
        if counts:
            values = torch.cat([values, torch.stack(counts).double()], dim=1)  # one exchange, one wait for both
        bad = []
        # In fp64 a mean of finite terms is finite.
        for (iteration, *_), row in zip(self._pending, self._average(values).tolist(), strict=True):
            step, counted = dict(zip(names, row, strict=False)), row[len(names) :]
            broken = [name for name, value in step.items() if name != "loss" and not isfinite(value)]
            if broken:
                bad.append(NotFinite(iteration, broken[0], step[broken[0]]))
            for name, value in step.items():
                self._sums[name] = self._sums.get(name, 0.0) + (0.0 if broken else value)
            if counted:
                before = self.counts or [0.0] * len(counted)
                self.counts = [old + (0.0 if broken else new) for old, new in zip(before, counted, strict=True)]
        self._steps += len(self._pending) - len(bad)
        self._skipped += len(bad)
        self._pending.clear()
        return bad

    def means(self) -> dict[str, float]:
        """Returns the means since the last `reset`, and how many steps were left out of them as `skipped_steps`.

        Steps count once they are read back; without a finite one the means are nan.
        """
        means = {name: total / self._steps if self._steps else nan for name, total in self._sums.items()}
        return {**means, "skipped_steps": float(self._skipped)}

    def reset(self) -> None:
        """Begins new means and counts; steps that are not read back yet will belong to them."""
        self._sums: dict[str, float] = {}
        self.counts = []
        self._steps = self._skipped = 0

    def state(self) -> dict[str, Any]:
        """Returns what `restore` needs to go on with the means begun at the last `reset`."""
        counts = {"counts": self.counts} if self.counts else {}
        return {**self._sums, "steps": float(self._steps), "skipped_steps": float(self._skipped), **counts}

    def restore(self, state: dict[str, Any]) -> None:
        """Goes on from the `state()` of an earlier process."""
        sums = dict(state)
        self.counts = sums.pop("counts", [])
        self._steps, self._skipped = int(sums.pop("steps")), int(sums.pop("skipped_steps"))
        self._sums = sums


class Stopwatch:
    """Measures the time of steps, and how much of it was spent waiting for data.

    It runs from the first wait for a batch on, but not while it is `stopped`.
    """

    def __init__(self) -> None:
        self._running_since: float | None = None
        self.reset()

    def reset(self, seconds: float = 0.0, data_seconds: float = 0.0, batches: int = 0) -> None:
        """Begins at zero, or goes on from what an earlier process had measured."""
        self._seconds, self.data_seconds, self.batches = seconds, data_seconds, batches
        if self._running_since is not None:
            self._running_since = time.perf_counter()

    @contextmanager
    def stopped(self) -> Iterator[None]:
        """A context whose duration is not counted."""
        was_running, self._seconds, self._running_since = self._running_since is not None, self.seconds, None
        try:
            yield
        finally:
            self._running_since = time.perf_counter() if was_running else None

    def state(self) -> dict[str, float]:
        """Returns what `reset` needs to go on from here."""
        return {"seconds": self.seconds, "data_seconds": self.data_seconds, "batches": self.batches}

    def waiting(self, batches: Iterable[T]) -> Iterator[T]:
        """Yields the same batches, and counts the time until each is there as spent waiting for data."""
        iterator = iter(batches)
        self._running_since = time.perf_counter()
        while True:
            asked = time.perf_counter()
            batch = next(iterator, None)
            self.data_seconds += time.perf_counter() - asked
            if batch is None:
                return
            self.batches += 1
            yield batch

    @property
    def seconds(self) -> float:
        """The time since the reset, waiting for data included."""
        running = 0.0 if self._running_since is None else time.perf_counter() - self._running_since
        return self._seconds + running

    @property
    def step_seconds(self) -> float:
        """The mean time of a step, without the waiting for data."""
        return (self.seconds - self.data_seconds) / max(1, self.batches)
