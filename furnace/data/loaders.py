"""The two streams that worker processes make ahead of time: batches of training samples, and validation images.

B images a process and iteration, S the side of the crop.
"""

import os
import sys
from collections.abc import Iterable, Iterator, Sequence
from contextlib import ExitStack, nullcontext
from dataclasses import dataclass
from multiprocessing.queues import Queue
from types import TracebackType
from typing import Any

import cv2
import numpy as np
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from furnace.data.entries import Split
from furnace.data.file_list import spread
from furnace.data.header import image_size
from furnace.data.reading import crashes_named, handed_over, note_failure
from furnace.data.samples import Plan, RawBatch, TrainingSamples
from furnace.engine.signals import leave_to_parent
from furnace.errors import InputError

HEADERS = 16  # images whose headers tell how large those of a list are
FILES_OF_WORKER = 24  # open files of a process for each of its workers: pipes, and ten tensors of two batches


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


def batch_bytes(plan: Plan, processes: int) -> int:
    """Returns the bytes of one process's batch, as workers make it when unlabelled images are used."""
    images = 1 + 2 * (1 + plan.with_strong)
    planes = 3 * images + 2  # and the label and the mask
    return plan.batch_size // processes * planes * plan.crop**2


def image_bytes(split: Split, numbers: Sequence[int]) -> int:
    """Returns the bytes of an image with its label, as the headers of some files tell them on an average."""
    paths = (split.image_path(numbers[place]) for place in spread(len(numbers), HEADERS))
    pixels = [size[0] * size[1] for path in paths if (size := image_size(path))]
    return 4 * sum(pixels) // max(1, len(pixels))


def _stream(samples: Dataset, sampler: Iterable | None, workers: int, pin_memory: bool) -> Iterator[Any]:
    """Yields the items of `samples`, with arrays turned into tensors; raises an item that is an InputError.

    A wait for a worker ends when the worker fails, or when a signal's handler raises an exception.
    """
    loader = DataLoader(
        samples,
        batch_size=None,  # an item of `samples` is a whole batch already
        sampler=sampler,
        num_workers=workers,
        pin_memory=pin_memory,
        worker_init_fn=_start_worker,
        multiprocessing_context="fork" if workers else None,
    )
    failures_named = handed_over if workers else nullcontext
    with crashes_named(), failures_named():
        _try_open_files(FILES_OF_WORKER * workers)
        items = iter(loader)
    try:
        while True:
            with crashes_named(), failures_named():
                item = next(items, None)
            if item is None:
                return
            if isinstance(item, InputError):
                raise item
            yield item
    finally:
        del items  # it ends its workers, which an error's traceback must not keep alive


def _try_open_files(count: int) -> None:
    """Raises OSError if this process may not open so many files more; later, a library would say it less clearly."""
    with ExitStack() as opened:
        for _ in range(count):
            opened.callback(os.close, os.open(os.devnull, os.O_RDONLY))


def _start_worker(_: int) -> None:
    cv2.setNumThreads(0)
    leave_to_parent()
    Queue._on_queue_feeder_error = staticmethod(_end_for)  # type: ignore[attr-defined]  # made to be replaced
    sys.excepthook = _say_unless_parent_left  # PyTorch hands errors over items to the main process without it


def _say_unless_parent_left(kind: type[BaseException], error: BaseException, trace: TracebackType | None) -> None:
    """Prints a traceback, but for a lost connection.

    A thread of each worker hands memory over to the main process, and meets that where this one has given up.
    """
    if not issubclass(kind, EOFError | ConnectionError):
        sys.__excepthook__(kind, error, trace)


def _end_for(error: BaseException, _: object) -> None:
    """Ends this worker because an item cannot be sent: Python would drop it, and the main process wait for ever."""
    note_failure(error)
    os._exit(1)
