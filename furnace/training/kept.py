"""What the buffers of networks held before a step, so that the device alone can take them back to it."""

from collections.abc import Iterable

import torch
from torch import Tensor


class KeptBuffers:
    """Copies of buffers, joined into one tensor for each type of number.

    Batch norms have hundreds of small buffers, and on a GPU it takes longer to launch a copy than to copy one. So what
    is done here takes a few launches for all of them together. The buffers themselves stay where they are.
    """

    def __init__(self, buffers: Iterable[Tensor]) -> None:
        self._buffers: dict[torch.dtype, list[Tensor]] = {}
        for buffer in buffers:
            self._buffers.setdefault(buffer.dtype, []).append(buffer)
        self._before = {dtype: _joined(same) for dtype, same in self._buffers.items()}

    def put_back(self, condition: Tensor) -> None:
        """Gives the buffers their earlier values if `condition`, a scalar on the device, is true."""
        for dtype, buffers in self._buffers.items():
            chosen = torch.where(condition, self._before[dtype], _joined(buffers))
            parts = torch.split(chosen, [buffer.numel() for buffer in buffers])
            torch._foreach_copy_(
                buffers, [part.view(buffer.shape) for part, buffer in zip(parts, buffers, strict=True)]
            )


def _joined(buffers: list[Tensor]) -> Tensor:
    return torch.cat([buffer.flatten() for buffer in buffers])
