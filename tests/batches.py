"""Random batches for steps in float64."""

import torch

from furnace.semi.batch import Batch

CLASSES = 5


def random_batch(batch: int = 2, size: int = 33) -> Batch:
    def images() -> torch.Tensor:
        return torch.randn(batch, 3, size, size, dtype=torch.float64)

    label = torch.randint(0, CLASSES, (batch, size, size))
    label[torch.rand(batch, size, size) < 0.2] = 255
    mask = (torch.rand(batch, 1, size, size) < 0.3).to(torch.uint8)
    return Batch(images(), label.to(torch.uint8), (images(), images()), (images(), images()), mask)
