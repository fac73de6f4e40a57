"""What is measured while a run trains: losses, kept on the device until they are read together, and time."""

import time
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from math import isfinite, nan
from typing import TypeVar

import torch
from torch import Tensor

T = TypeVar("T")

READ_BACK_EVERY = 20  # iterations between two readings of the losses from the device


@dataclass(frozen=True)
class NotFinite:
    """A step with a term that is not finite: the first of them, and its value."""

    iteration: int
    term: str
    value: float


class LossMeter:
    """Collects what steps tell on the device and reads it back together, so that the loop never waits for one number.

    Steps with a term that is not finite are counted, and left out of the means.
    """

    def __init__(self) -> None:
        self._pending: list[tuple[int, dict[str, Tensor]]] = []
        self.reset()

    def add(self, iteration: int, terms: dict[str, Tensor]) -> None:
        """Takes one iteration's terms, scalars by name; `loss` is the sum of others."""
        self._pending.append((iteration, terms))

    def due(self) -> bool:
        return len(self._pending) >= READ_BACK_EVERY

    def read_back(self) -> list[NotFinite]:
        """Waits for what was added; returns the steps that are not finite."""
        if not self._pending:
            return []
        names = list(self._pending[0][1])
        values = torch.stack([torch.stack([terms[name] for name in names]) for _, terms in self._pending])
        bad = []
        for (iteration, _), row in zip(self._pending, values.tolist(), strict=True):
            step = dict(zip(names, row, strict=True))
            broken = [name for name, value in step.items() if name != "loss" and not isfinite(value)]
            if broken:
                bad.append(NotFinite(iteration, broken[0], step[broken[0]]))
            for name, value in step.items():
                self._sums[name] = self._sums.get(name, 0.0) + (0.0 if broken else value)
        self._steps += len(self._pending) - len(bad)
        self._skipped += len(bad)
        self._pending.clear()
        return bad

    def means(self) -> dict[str, float]:
        """Of the steps read back since the last `reset` that are finite, nan without any; and how many are not."""
        means = {name: total / self._steps if self._steps else nan for name, total in self._sums.items()}
        return {**means, "skipped_steps": float(self._skipped)}

    def reset(self) -> None:
        self._sums: dict[str, float] = {}
        self._steps = self._skipped = 0

    def state(self) -> dict[str, float]:
        """What `restore` takes to go on from what was read back since the last `reset`."""
        return {**self._sums, "steps": float(self._steps), "skipped_steps": float(self._skipped)}

    def restore(self, state: dict[str, float]) -> None:
        self._sums = dict(state)
        self._steps, self._skipped = int(self._sums.pop("steps")), int(self._sums.pop("skipped_steps"))


class Stopwatch:
    """Tells apart the time spent waiting for data and the rest."""

    def __init__(self) -> None:
        self.reset()

    def reset(self, seconds: float = 0.0, data_seconds: float = 0.0, batches: int = 0) -> None:
        """Begins anew, or goes on from what an earlier process had measured."""
        self.data_seconds = data_seconds
        self.batches = batches
        self._start = time.perf_counter() - seconds

    @contextmanager
    def stopped(self) -> Iterator[None]:
        """What is done inside takes none of the time."""
        begun = time.perf_counter()
        yield
        self._start += time.perf_counter() - begun

    def state(self) -> dict[str, float]:
        """What `reset` takes to go on from here."""
        return {"seconds": self.seconds, "data_seconds": self.data_seconds, "batches": self.batches}

    def waiting(self, batches: Iterable[T]) -> Iterator[T]:
        """The same batches; the time until each is there counts as data time."""
        iterator = iter(batches)
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
        return time.perf_counter() - self._start

    @property
    def step_seconds(self) -> float:
        """The mean of a step, waiting for data left out."""
        return (self.seconds - self.data_seconds) / max(1, self.batches)
