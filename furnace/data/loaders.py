"""The three streams: labelled images and two streams of unlabelled ones, as batches on a device.

B images a process and iteration, S the side of the crop. **Randomness is a function of place**: what a sample is
depends on the seed, the stream, the epoch and the position in it, never on workers, processes or what came before.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import cv2
import numpy as np
import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from furnace.batch import Batch
from furnace.data.datasets import Split
from furnace.data.file_list import Shuffled
from furnace.data.strong_augment import strong_view
from furnace.data.transforms import draw_weak_view, pad_image, pad_label
from furnace.errors import InputError

LABELED, UNLABELED_0, UNLABELED_1, CUTMIX, ORDER = range(5)  # places in the seed: what a generator is for
Box = tuple[int, int, int, int]
DrawMask = Callable[[tuple[int, int], np.random.Generator], np.ndarray]


class View(NamedTuple):
    """One image's views, uint8 RGB; `box` is the part of the crop that the image fills."""

    weak: np.ndarray  # (S, S, 3)
    strong: np.ndarray | None  # (S, S, 3)
    box: Box


class Sample(NamedTuple):
    """One labelled image, and one unlabelled pair where this iteration uses pairs."""

    labeled: View
    label: np.ndarray  # (S, S) uint8
    pair: tuple[View, View] | None
    mask: np.ndarray | None  # (1, S, S) uint8
    files: tuple[str, ...]


class RawBatch(NamedTuple):
    """Samples stacked, on the CPU, uint8: a quarter of the bytes to send to a device."""

    image: Tensor  # (B, S, S, 3)
    box: Tensor  # (B, 4)
    label: Tensor  # (B, S, S)
    pair_weak: list[Tensor]  # two or none of (B, S, S, 3)
    pair_strong: list[Tensor]
    pair_box: list[Tensor]
    mask: list[Tensor]  # one or none of (B, 1, S, S)
    files: tuple[str, ...]


@dataclass(frozen=True)
class Plan:
    """Where each sample stands: sample i of iteration t has the index t * batch_size + i."""

    batch_size: int  # over all processes
    iterations_per_epoch: int
    iterations: int  # in all
    pairs_from: int  # the first iteration that looks at unlabelled pairs
    crop: int
    scales: tuple[float, ...]
    with_strong: bool
    seed: int

    def place(self, index: int) -> tuple[int, int]:
        """Epoch and position in it."""
        return divmod(index, self.iterations_per_epoch * self.batch_size)


class TrainingSamples(Dataset):
    """Samples by index. Bad input comes back as a value, so that it crosses process borders as one line.

    Args:
        draw_mask: makes one CutMix mask (1, S, S) of uint8 from its size and a generator.
    """

    def __init__(self, labeled: Split, unlabeled: Split, plan: Plan, draw_mask: DrawMask) -> None:
        self.plan = plan
        self.draw_mask = draw_mask
        self.streams = {LABELED: labeled, UNLABELED_0: unlabeled, UNLABELED_1: unlabeled}
        self.orders = {
            stream: Shuffled(len(split.files), plan.seed, ORDER, stream) for stream, split in self.streams.items()
        }

    def __getitem__(self, index: int) -> Sample | InputError:
        try:
            return self._sample(index)
        except InputError as error:
            return error

    def _sample(self, index: int) -> Sample:
        plan, (epoch, position) = self.plan, self.plan.place(index)
        split = self.streams[LABELED]
        entry = self.orders[LABELED](epoch, position)
        image, label = split.labeled(entry)
        view = draw_weak_view(self._random(LABELED, epoch, position), label.shape, plan.crop, plan.scales)
        weak, box = pad_image(view.image(image), plan.crop)
        labeled = View(weak, None, box)
        label = pad_label(view.label(label), plan.crop)
        files = (str(split.image_path(entry)),)
        if index // plan.batch_size < plan.pairs_from:
            return Sample(labeled, label, None, None, files)
        first, first_file = self._unlabeled(UNLABELED_0, epoch, position)
        second, second_file = self._unlabeled(UNLABELED_1, epoch, position)
        mask = self.draw_mask((plan.crop, plan.crop), self._random(CUTMIX, epoch, position))
        return Sample(labeled, label, (first, second), mask, (*files, first_file, second_file))

    def _unlabeled(self, stream: int, epoch: int, position: int) -> tuple[View, str]:
        plan, split = self.plan, self.streams[stream]
        entry = self.orders[stream](epoch, position)
        image = split.image(entry)
        random = self._random(stream, epoch, position)
        part = draw_weak_view(random, image.shape[:2], plan.crop, plan.scales).image(image)
        weak, box = pad_image(part, plan.crop)
        # Changed before it is padded: noise or brightness must not reach the border.
        strong = pad_image(strong_view(part, random), plan.crop)[0] if plan.with_strong else None
        return View(weak, strong, box), str(split.image_path(entry))

    def _random(self, stream: int, epoch: int, position: int) -> np.random.Generator:
        return np.random.default_rng([self.plan.seed, stream, epoch, position])


def collate(samples: Sequence[Sample | InputError]) -> RawBatch | InputError:
    """Stacks samples; the first error among them instead, if there is one."""
    for sample in samples:
        if isinstance(sample, InputError):
            return sample
    pairs = list(zip(*(sample.pair for sample in samples), strict=True)) if samples[0].pair else []
    with_strong = bool(pairs) and pairs[0][0].strong is not None
    return RawBatch(
        image=_stack([sample.labeled.weak for sample in samples]),
        box=torch.tensor([sample.labeled.box for sample in samples]),
        label=_stack([sample.label for sample in samples]),
        pair_weak=[_stack([view.weak for view in views]) for views in pairs],
        pair_strong=[_stack([view.strong for view in views]) for views in pairs] if with_strong else [],
        pair_box=[torch.tensor([view.box for view in views]) for views in pairs],
        mask=[_stack([sample.mask for sample in samples])] if pairs else [],
        files=tuple(file for sample in samples for file in sample.files),
    )


def _stack(arrays: Sequence[np.ndarray]) -> Tensor:
    return torch.from_numpy(np.stack(arrays))


@dataclass(frozen=True)
class Places:
    """The batch sampler of one process: from iteration `start` on, this rank's share of each batch."""

    plan: Plan
    start: int
    rank: int
    processes: int

    def __len__(self) -> int:
        return self.plan.iterations - self.start

    def __iter__(self) -> Iterator[range]:
        share = self.plan.batch_size // self.processes
        for iteration in range(self.start, self.plan.iterations):
            first = iteration * self.plan.batch_size + self.rank * share
            yield range(first, first + share)


def _start_worker(_: int) -> None:
    cv2.setNumThreads(0)


def training_batches(
    samples: TrainingSamples, start: int, rank: int, processes: int, workers: int, pin_memory: bool
) -> Iterator[RawBatch]:
    """Every batch of this process from iteration `start` to the end, by one set of workers.

    Raises:
        InputError: a file of the next batch is bad.
    """
    loader = DataLoader(
        samples,
        batch_sampler=Places(samples.plan, start, rank, processes),
        num_workers=workers,
        collate_fn=collate,
        pin_memory=pin_memory,
        worker_init_fn=_start_worker,
        multiprocessing_context="fork" if workers else None,
    )
    for batch in loader:
        if isinstance(batch, InputError):
            raise batch
        yield batch


def normalize(image: Tensor, mean: Tensor, std: Tensor, box: Tensor | None = None) -> Tensor:
    """uint8 (B, H, W, 3) to float (B, 3, H, W): (image / 255 - mean) / std, and 0 outside `box` (B, 4)."""
    pixels = image.permute(0, 3, 1, 2).to(mean.dtype).div_(255)  # (B, 3, H, W), channels last in memory
    pixels = pixels.sub_(mean[:, None, None]).div_(std[:, None, None])
    if box is None:
        return pixels
    top, bottom, left, right = box.unbind(dim=1)  # each (B,)
    row, column = (torch.arange(length, device=image.device) for length in pixels.shape[2:])
    inside_rows = (row >= top[:, None]) & (row < bottom[:, None])  # (B, H)
    inside_columns = (column >= left[:, None]) & (column < right[:, None])  # (B, W)
    return pixels.mul_(inside_rows[:, None, :, None]).mul_(inside_columns[:, None, None, :])


def to_device(raw: RawBatch, device: torch.device, mean: Tensor, std: Tensor, channels_last: bool) -> Batch:
    """Sends uint8 images over and normalises them there."""
    layout = torch.channels_last if channels_last else torch.contiguous_format

    def ready(image: Tensor, box: Tensor) -> Tensor:
        image, box = image.to(device, non_blocking=True), box.to(device, non_blocking=True)
        return normalize(image, mean, std, box).contiguous(memory_format=layout)

    weak = tuple(map(ready, raw.pair_weak, raw.pair_box))
    strong = tuple(map(ready, raw.pair_strong, raw.pair_box))
    return Batch(
        image=ready(raw.image, raw.box),
        label=raw.label.to(device, non_blocking=True),
        weak=weak or None,
        strong=strong or None,
        mask=raw.mask[0].to(device, non_blocking=True) if raw.mask else None,
        files=raw.files,
    )


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
    split: Split, rank: int, processes: int, workers: int
) -> Iterator[tuple[int, np.ndarray, np.ndarray]]:
    """This process's share of the list: number, image (H, W, 3) uint8 RGB, label (H, W) uint8.

    Raises:
        InputError: the next file is bad.
    """
    samples = ValidationSamples(split, range(rank, len(split.files), processes))
    loader = DataLoader(
        samples,
        batch_size=None,
        num_workers=workers,
        collate_fn=_unchanged,
        worker_init_fn=_start_worker,
        multiprocessing_context="fork" if workers else None,
    )
    for sample in loader:
        if isinstance(sample, InputError):
            raise sample
        yield sample


def _unchanged(sample: object) -> object:
    return sample
