"""The two streams that worker processes make ahead of time: batches of training samples, and validation images.

B images a process and iteration, S the side of the crop.
"""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import cv2
import numpy as np
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from furnace.data.entries import Split
from furnace.data.samples import Plan, RawBatch, TrainingSamples
from furnace.engine.signals import leave_to_parent
from furnace.errors import InputError


@dataclass(frozen=True)
class Places:
    """The samples that one process asks for: its share of each batch, from iteration `start` on."""

    plan: Plan
    start: int
    rank: int
    processes: int

    def __len__(self) -> int:
        return self.plan.iterations - self.start

    def __iter__(self) -> Iterator[range]:
        share = self.plan.batch_size // self.processes
        for iteration in range(self.start, self.plan.iterations):
            yield self.plan.indices(iteration)[self.rank * share : (self.rank + 1) * share]


class ValidationSamples(Dataset):
    """Whole images with their labels: (number in the list, image, label), or the InputError of a bad file."""

    def __init__(self, split: Split, numbers: Sequence[int]) -> None:
        self.split = split
        self.numbers = numbers

    def __len__(self) -> int:
        return len(self.numbers)

    def __getitem__(self, index: int) -> tuple[int, np.ndarray, np.ndarray] | InputError:
        number = self.numbers[index]
        try:
            return number, *self.split.labeled(number)
        except InputError as error:
            return error


def training_batches(
    samples: TrainingSamples, start: int, rank: int, processes: int, workers: int, pin_memory: bool
) -> Iterator[RawBatch]:
    """Yields every batch of this process from iteration `start` to the end of training.

    One set of workers makes them all: they go on from one epoch to the next without a stop.

    Raises:
        InputError: a file of the next batch is bad.
    """
    return _stream(samples, Places(samples.plan, start, rank, processes), workers, pin_memory)


def validation_images(
    split: Split, numbers: Sequence[int], workers: int, pin_memory: bool = False
) -> Iterator[tuple[int, Tensor, Tensor]]:
    """Yields entries of the list by their numbers: the number, the image (H, W, 3) uint8 RGB, the label (H, W) uint8.

    Raises:
        InputError: the next file is bad.
    """
    return _stream(ValidationSamples(split, numbers), None, workers, pin_memory)


def _stream(samples: Dataset, sampler: Iterable | None, workers: int, pin_memory: bool) -> Iterator[Any]:
    """Yields the items of `samples`, with arrays turned into tensors; raises an item that is an InputError."""
    loader = DataLoader(
        samples,
        batch_size=None,  # an item of `samples` is a whole batch already
        sampler=sampler,
        num_workers=workers,
        pin_memory=pin_memory,
        worker_init_fn=_start_worker,
        multiprocessing_context="fork" if workers else None,
    )
    for item in loader:
        if isinstance(item, InputError):
            raise item
        yield item


def _start_worker(_: int) -> None:
    cv2.setNumThreads(0)
    leave_to_parent()
