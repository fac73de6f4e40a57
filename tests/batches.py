"""Random batches for steps in float64, and small networks that take them."""

import torch

from furnace.network.deeplabv3plus import DeepLabV3Plus
from furnace.semi.batch import Batch

CLASSES = 5


def random_batch(batch: int = 2, size: int = 33) -> Batch:
    def images() -> torch.Tensor:
        return torch.randn(batch, 3, size, size, dtype=torch.float64)

    label = torch.randint(0, CLASSES, (batch, size, size))
    label[torch.rand(batch, size, size) < 0.2] = 255
    mask = (torch.rand(batch, 1, size, size) < 0.3).to(torch.uint8)
    return Batch(images(), label.to(torch.uint8), (images(), images()), (images(), images()), mask)


def small_network() -> torch.nn.Module:
    return DeepLabV3Plus("resnet18_v1c", CLASSES, width=0.0625).double()
