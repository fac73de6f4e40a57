"""Sliding windows over whole images: one pass for any number of networks.

H and W are an image's size, h and w those of a resized and padded view of it, S the side of a window, N the classes.
"""

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import NamedTuple

import cv2
import torch
import torch.nn.functional as F
from torch import Tensor

from furnace.data.normalization import IMAGENET_MEAN, IMAGENET_STD

GPU_BATCH = 8
Network = Callable[[Tensor], Tensor]


class View(NamedTuple):
    """The image at one scale, ready for windows."""

    pixels: Tensor  # (1, 3, h, w) normalised, channels last
    inside: tuple[slice, slice]  # rows and columns that are image, not padding


class SlidingWindow:
    """Scores of whole images by several networks, each of which sees every window once.

    As published: scores are logits, summed over windows, scales and mirrored views and never divided by the number of
    visits; an image that fits into a window is padded with the mean colour, one that is too narrow on one side with
    black. Unlike it, a mirrored view is scored by the same networks as the straight one.

    Args:
        networks: by name; each maps (B, 3, S, S) normalised to logits (B, N, S, S), which it does not keep.
        crop_size: S.
        stride_rate: the step from window to window as a share of S.
        scales: factors the image is resized by.
        flip: adds the scores of mirrored windows.
        window_batch: how many windows go through a network at once; on a CPU more than one only takes memory.
        dtype: of the normalised pixels and of the sums.
    """

    def __init__(
        self,
        networks: Mapping[str, Network],
        num_classes: int,
        crop_size: int,
        stride_rate: float = 2 / 3,
        scales: Sequence[float] = (1.0,),
        flip: bool = False,
        mean: Sequence[float] = IMAGENET_MEAN,
        std: Sequence[float] = IMAGENET_STD,
        device: torch.device = torch.device("cpu"),
        window_batch: int | None = None,
        dtype: torch.dtype = torch.float32,
    ) -> None:
        self.networks = networks
        self.num_classes = num_classes
        self.crop_size = crop_size
        self.stride = math.ceil(crop_size * stride_rate)
        self.scales = scales
        self.flip = flip
        self.device = device
        self.window_batch = window_batch or (1 if device.type == "cpu" else GPU_BATCH)
        self.dtype = dtype
        self.mean = torch.tensor(mean, device=device, dtype=dtype)[:, None, None]
        self.std = torch.tensor(std, device=device, dtype=dtype)[:, None, None]

    @torch.inference_mode()
    def scores(self, image: Tensor) -> dict[str, Tensor]:
        """Maps an image (H, W, 3) uint8 RGB, on the CPU, to summed logits (N, H, W) by network name."""
        views = [self._view(image, scale) for scale in self.scales]
        return {name: self._sum(network, views, image.shape[:2]) for name, network in self.networks.items()}

    def _sum(self, network: Network, views: Sequence[View], size: torch.Size) -> Tensor:
        """One network's scores (N, H, W) over all views; those of one view are gone before the next one's come."""
        total = None
        for view in views:
            scores = self._view_scores(network, view)
            if scores.shape[2:] != size:
                scores = F.interpolate(scores, size=size, mode="bilinear", align_corners=False)
            total = scores if total is None else total.add_(scores)
        return total[0]

    def _view_scores(self, network: Network, view: View) -> Tensor:
        """(1, N, h, w) without the padding."""
        crop, (height, width) = self.crop_size, view.pixels.shape[2:]
        rows, columns = view.inside
        if height == width == crop:
            return self._window_scores(network, view.pixels)[..., rows, columns]
        # Channels last, as convolutions leave them: to add those to another layout takes five times as long.
        total = torch.empty(
            (1, self.num_classes, height, width),
            dtype=self.dtype,
            device=self.device,
            memory_format=torch.channels_last,
        ).zero_()
        for corners in _chunks(list(self._corners(height, width)), self.window_batch):
            windows = torch.cat([view.pixels[..., y : y + crop, x : x + crop] for y, x in corners])  # (B, 3, S, S)
            for (y, x), scores in zip(corners, self._window_scores(network, windows), strict=True):
                total[0, :, y : y + crop, x : x + crop] += scores
        return total[..., rows, columns]

    def _window_scores(self, network: Network, windows: Tensor) -> Tensor:
        """(B, 3, S, S) to (B, N, S, S)."""
        scores = network(windows).to(self.dtype)
        if self.flip:
            scores += network(windows.flip(-1)).to(self.dtype).flip(-1)
        return scores

    def _view(self, image: Tensor, scale: float) -> View:
        if scale != 1:
            image = torch.from_numpy(cv2.resize(image.numpy(), None, fx=scale, fy=scale))
        height, width = image.shape[:2]
        top, bottom = _centred_padding(height, self.crop_size)
        left, right = _centred_padding(width, self.crop_size)
        pixels = image.to(self.device, non_blocking=True).permute(2, 0, 1)[None].to(self.dtype)  # (1, 3, h, w)
        border = (left, right, top, bottom)
        if max(height, width) > self.crop_size:  # a side that is too short is filled with black
            pixels = self._normalize(F.pad(pixels, border) if any(border) else pixels)
        else:
            pixels = F.pad(self._normalize(pixels), border)  # 0 is the mean colour
        return View(pixels, (slice(top, top + height), slice(left, left + width)))

    def _normalize(self, pixels: Tensor) -> Tensor:
        return pixels.div_(255).sub_(self.mean).div_(self.std)

    def _corners(self, height: int, width: int) -> Iterator[tuple[int, int]]:
        """The upper left corners of the windows; the last ones are shifted back to end at the border."""
        for y in self._starts(height):
            for x in self._starts(width):
                yield y, x

    def _starts(self, length: int) -> list[int]:
        count = math.ceil((length - self.crop_size) / self.stride) + 1
        return [min(index * self.stride, length - self.crop_size) for index in range(count)]


def _centred_padding(length: int, target: int) -> tuple[int, int]:
    """How much to add before and after; the odd pixel goes after."""
    missing = max(0, target - length)
    return missing // 2, missing - missing // 2


def _chunks(items: list, size: int) -> Iterator[list]:
    for start in range(0, len(items), size):
        yield items[start : start + size]
