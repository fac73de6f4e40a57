"""The streams: batches of training samples, and validation images, made ahead by worker processes.

B images a process and iteration, S the side of the crop.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import cv2
import numpy as np
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from furnace.data.datasets import Split
from furnace.data.samples import Plan, RawBatch, TrainingSamples
from furnace.engine.signals import leave_to_parent
from furnace.errors import InputError


@dataclass(frozen=True)
class Places:
    """What one process asks for: from iteration `start` on, this rank's share of each batch."""

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


def _start_worker(_: int) -> None:
    cv2.setNumThreads(0)
    leave_to_parent()


def training_batches(
    samples: TrainingSamples, start: int, rank: int, processes: int, workers: int, pin_memory: bool
) -> Iterator[RawBatch]:
    """Every batch of this process from iteration `start` to the end, by one set of workers: epochs do not stop them.

    Raises:
        InputError: a file of the next batch is bad.
    """
    loader = DataLoader(
        samples,
        batch_size=None,  # each item is a batch
        sampler=Places(samples.plan, start, rank, processes),
        num_workers=workers,
        collate_fn=_unchanged,
        pin_memory=pin_memory,
        worker_init_fn=_start_worker,
        multiprocessing_context="fork" if workers else None,
    )
    for batch in loader:
        if isinstance(batch, InputError):
            raise batch
        yield batch


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


def validation_images(
    split: Split, numbers: Sequence[int], workers: int, pin_memory: bool = False
) -> Iterator[tuple[int, Tensor, Tensor]]:
    """These entries of the list: number, image (H, W, 3) uint8 RGB, label (H, W) uint8.

    Raises:
        InputError: the next file is bad.
    """
    samples = ValidationSamples(split, numbers)
    loader = DataLoader(
        samples,
        batch_size=None,
        num_workers=workers,
        pin_memory=pin_memory,
        worker_init_fn=_start_worker,
        multiprocessing_context="fork" if workers else None,
    )
    for sample in loader:
        if isinstance(sample, InputError):
            raise sample
        yield sample


def _unchanged(sample: object) -> object:
    return sample
