"""Training samples: which images belong to a batch, and their views, painted straight into the batch.

**Randomness is a function of place.** What a sample is depends on the seed, the stream, the epoch and the position in
the epoch. It never depends on the workers, on the processes, or on the samples before it.

B images a process and iteration, S the side of the crop in pixels. A box is (top, bottom, left, right) of the part of a
crop that its view fills.
"""

import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import Dataset

from furnace.data.entries import Split
from furnace.data.file_list import Shuffled
from furnace.data.images import read_image
from furnace.data.reading import noted
from furnace.data.strong_augment import strong_view
from furnace.data.transforms import draw_weak_view, inside_of
from furnace.errors import InputError

LABELED, UNLABELED_0, UNLABELED_1, CUTMIX, ORDER = range(5)  # a part of each seed: says what the generator is for
Place = tuple[int, int]  # an epoch and a position in it
DrawMask = Callable[[tuple[int, int], np.random.Generator], np.ndarray]


class Views(NamedTuple):
    """The images that one stream contributes to a batch."""

    weak: Tensor  # (B, S, S, 3) uint8 RGB
    strong: Tensor | None  # (B, S, S, 3) uint8 RGB; None if nothing needs strong views
    box: Tensor  # (B, 4)


class RawBatch(NamedTuple):
    """A batch on the CPU. Its pixels are uint8, so that a quarter of the bytes of float32 go to the device."""

    image: Tensor  # (B, S, S, 3), weak views of labelled images
    box: Tensor  # (B, 4)
    label: Tensor  # (B, S, S)
    pair_weak: list[Tensor]  # two of (B, S, S, 3), or none while no unlabelled images are used
    pair_strong: list[Tensor]  # two of (B, S, S, 3), or none; none also if there are no strong views
    pair_box: list[Tensor]  # two of (B, 4), or none
    mask: list[Tensor]  # one of (B, 1, S, S), or none


@dataclass(frozen=True)
class Plan:
    """Which samples each iteration takes: sample i of iteration t has the index t * batch_size + i."""

    batch_size: int  # of all processes together
    iterations_per_epoch: int
    iterations: int  # in all
    pairs_from: int  # the first iteration that uses unlabelled images, two for each sample
    crop: int  # S
    scales: tuple[float, ...]
    with_strong: bool
    seed: int

    def indices(self, iteration: int) -> range:
        """Returns the indices of one iteration's samples, those of all processes together."""
        return range(iteration * self.batch_size, (iteration + 1) * self.batch_size)

    def place(self, index: int) -> Place:
        """Returns the epoch of a sample and its position in it."""
        return divmod(index, self.iterations_per_epoch * self.batch_size)


def iterations_per_epoch(labeled: int, unlabeled: int, batch_size: int) -> int:
    """Returns the iterations of an epoch, which goes once through the longer list; a smaller last batch is left out."""
    return max(labeled, unlabeled) // batch_size


class TrainingSamples(Dataset):
    """Makes batches: `samples[indices]` is the batch of these samples, which all belong to one iteration.

    If a file is bad, the InputError is returned, not raised: raised in a worker process, it would reach the main
    process with the worker's traceback in its message, and the message must stay one line.

    Args:
        unlabeled: may name no image where no iteration uses unlabelled images.
        draw_mask: makes one CutMix mask (1, S, S) of uint8 from its size (S, S) and a generator.
    """

    def __init__(self, labeled: Split, unlabeled: Split, plan: Plan, draw_mask: DrawMask) -> None:
        self.plan = plan
        self.draw_mask = draw_mask
        self.streams = {LABELED: labeled, UNLABELED_0: unlabeled, UNLABELED_1: unlabeled}
        self.orders = {
            stream: Shuffled(len(split.files), plan.seed, ORDER, stream)
            for stream, split in self.streams.items()
            if len(split.files) > 0  # where all images are labelled, there may be no unlabelled ones
        }

    def __getitem__(self, indices: Sequence[int]) -> RawBatch | InputError:
        try:
            return self._batch(indices)
        except InputError as error:
            return error
        except Exception as error:
            error.add_note(f"the file read last: {noted(os.getpid())}")
            raise

    def _batch(self, indices: Sequence[int]) -> RawBatch:
        places = [self.plan.place(index) for index in indices]
        labeled, label = self.labeled(places)
        with_pairs = self._with_pairs(indices)
        pair = [self.unlabeled(stream, places) for stream in (UNLABELED_0, UNLABELED_1)] if with_pairs else []
        return RawBatch(
            image=labeled.weak,
            box=labeled.box,
            label=label,
            pair_weak=[views.weak for views in pair],
            pair_strong=[views.strong for views in pair if views.strong is not None],
            pair_box=[views.box for views in pair],
            mask=[self._masks(places)] if with_pairs else [],
        )

    def files(self, indices: Sequence[int]) -> list[str]:
        """Returns the image files of these samples: of each one the labelled image, then the pair if it has one."""
        streams = (LABELED, UNLABELED_0, UNLABELED_1) if self._with_pairs(indices) else (LABELED,)
        places = [self.plan.place(index) for index in indices]
        return [
            str(self.streams[stream].image_path(self.orders[stream](*place))) for place in places for stream in streams
        ]

    def _with_pairs(self, indices: Sequence[int]) -> bool:
        return indices[0] // self.plan.batch_size >= self.plan.pairs_from

    def labeled(self, places: Sequence[Place]) -> tuple[Views, Tensor]:
        """Returns weak views of the labelled images at `places`, and their labels (B, S, S)."""
        plan, split, randoms = self.plan, self.streams[LABELED], self._randoms(LABELED, places)
        entries = [self.orders[LABELED](*place) for place in places]
        weak, labels, boxes = self._canvases(len(places), 3), self._canvases(len(places)), []
        for entry, random, image_canvas, label_canvas in zip(entries, randoms, weak, labels, strict=True):
            image, label = split.labeled_to_cut(entry)
            view = draw_weak_view(random, label.shape, plan.crop, plan.scales)
            view.paint_label(label, label_canvas)
            boxes.append(view.paint_image(image, image_canvas))
        return Views(torch.from_numpy(weak), None, torch.tensor(boxes)), torch.from_numpy(labels)

    def unlabeled(self, stream: int, places: Sequence[Place]) -> Views:
        """Returns views of the unlabelled images that `stream` has at `places`; each image is decoded once."""
        # All generators and paths are made first: between two images, when they are out of the cache, they take five
        # times as long.
        plan, split, randoms = self.plan, self.streams[stream], self._randoms(stream, places)
        paths = [split.image_path(self.orders[stream](*place)) for place in places]
        weak, boxes = self._canvases(len(places), 3), []
        strong = self._canvases(len(places), 3) if plan.with_strong else None
        for row, (path, random) in enumerate(zip(paths, randoms, strict=True)):
            image = read_image(path)
            box = draw_weak_view(random, image.shape[:2], plan.crop, plan.scales).paint_image(image, weak[row])
            boxes.append(box)
            if strong is not None:
                strong[row] = weak[row]
                inside = strong[row][inside_of(box)]  # noise or brightness must not reach the pixels around the view
                inside[:] = strong_view(inside, random)
        return Views(
            weak=torch.from_numpy(weak),
            strong=torch.from_numpy(strong) if strong is not None else None,
            box=torch.tensor(boxes),
        )

    def _masks(self, places: Sequence[Place]) -> Tensor:
        size = self.plan.crop, self.plan.crop
        return torch.from_numpy(np.stack([self.draw_mask(size, random) for random in self._randoms(CUTMIX, places)]))

    def _canvases(self, count: int, *channels: int) -> np.ndarray:
        return np.empty((count, self.plan.crop, self.plan.crop, *channels), dtype=np.uint8)

    def _randoms(self, stream: int, places: Sequence[Place]) -> list[np.random.Generator]:
        return [np.random.default_rng([self.plan.seed, stream, *place]) for place in places]
