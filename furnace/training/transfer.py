"""Batches on their way from the loaders to the device that the networks are on."""

import torch
from torch import Tensor

from furnace.data.normalization import normalize
from furnace.data.samples import RawBatch
from furnace.semi.batch import Batch


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
    )
