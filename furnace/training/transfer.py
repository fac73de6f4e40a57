"""Batches on their way from the loaders to the device that the networks are on."""

from collections.abc import Callable, Sequence
from functools import partial

import torch
from torch import Tensor

from furnace.data.normalization import IMAGENET_MEAN, IMAGENET_STD, normalize
from furnace.data.samples import RawBatch
from furnace.engine.backend import layout
from furnace.semi.batch import Batch


def sending_to(device: torch.device, channels_last: bool) -> Callable[[RawBatch], Batch]:
    """Returns the function that sends a batch to the device; what it needs there is there already."""
    mean, std = torch.tensor(IMAGENET_MEAN, device=device), torch.tensor(IMAGENET_STD, device=device)
    return partial(to_device, device=device, mean=mean, std=std, channels_last=channels_last)


def to_device(raw: RawBatch, device: torch.device, mean: Tensor, std: Tensor, channels_last: bool) -> Batch:
    """Sends uint8 images to the device and normalises them there, with `mean` and `std` (3,) that are there already."""

    def ready(image: Tensor, box: Tensor) -> Tensor:
        image, box = image.to(device, non_blocking=True), box.to(device, non_blocking=True)
        return normalize(image, mean, std, box).contiguous(memory_format=layout(channels_last))  # (B, 3, S, S)

    def pair(images: Sequence[Tensor]) -> tuple[Tensor, Tensor] | None:
        if not images:
            return None
        first, second = map(ready, images, raw.pair_box)
        return first, second

    return Batch(
        weak=pair(raw.pair_weak),
        strong=pair(raw.pair_strong),
        image=ready(raw.image, raw.box),
        label=raw.label.to(device, non_blocking=True),
        mask=raw.mask[0].to(device, non_blocking=True) if raw.mask else None,
    )
