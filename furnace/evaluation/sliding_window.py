"""Sliding windows over whole images, in one pass for any number of networks.

H and W are an image's size, h and w those of a resized and padded view of it, S the side of a window, N the classes.
"""

import math
from collections.abc import Callable, Mapping, Sequence
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

    As in the published code, scores are logits. They are summed over windows, scales and mirrored views, and never
    divided by the number of windows that cover a pixel. An image that fits into a window is padded with the mean
    colour, and one that is too small on one side only is padded with black. Unlike in the published code, a mirrored
    view is scored by the same networks as the straight one.

    Args:
        networks: by name. Each maps normalised windows (B, 3, S, S) to logits (B, N, S, S), which it does not keep, so
            that they may be changed in place.
        num_classes: N.
        crop_size: S.
        stride_rate: the step from window to window as a share of S.
        scales: the factors that the image is resized by, one at least.
        flip: whether the scores of mirrored windows are added.
        mean: of each channel, subtracted from pixels between 0 and 1.
        std: of each channel, which divides the difference.
        window_batch: how many windows go through a network at once. By default this is GPU_BATCH on a GPU and 1 on a
            CPU, where more windows take memory and save no time.
        dtype: the type of the normalised pixels and of the sums.
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
        """Maps an image (H, W, 3) uint8 RGB, on the CPU, to each network's summed logits (N, H, W), by its name."""
        views = [self._view(image, scale) for scale in self.scales]
        return {name: self._sum(network, views, image.shape[:2]) for name, network in self.networks.items()}

    def memory(self, height: int, width: int) -> int:
        """Returns how many bytes `scores` holds at once for an image of this size, but for what the networks need."""
        number = self.dtype.itemsize
        image, logits = height * width, self.num_classes * number  # pixels, and bytes for each
        views = [self._pixels(height, scale) * self._pixels(width, scale) for scale in self.scales]
        resized = [scale != 1 for scale in self.scales]
        in_work = max(view + image * again for view, again in zip(views, resized, strict=True))
        done = image if resized[0] else views[0]  # one network's scores; padding that was cut off still takes memory
        networks = (len(self.networks) - (len(views) == 1)) * done + in_work
        windows = self.window_batch * self.crop_size**2 * (3 * number + self.flip * (3 * number + logits))
        return networks * logits + sum(views) * 3 * number + windows

    def _pixels(self, length: int, scale: float) -> int:
        return max(round(length * scale), self.crop_size)

    def _sum(self, network: Network, views: Sequence[View], size: torch.Size) -> Tensor:
        """Sums one network's scores (N, H, W) over all views. Those of one view are freed before the next are made."""
        first, *others = views
        total = self._resized_scores(network, first, size)
        for view in others:
            total.add_(self._resized_scores(network, view, size))
        return total[0]

    def _resized_scores(self, network: Network, view: View, size: torch.Size) -> Tensor:
        """Returns one network's scores of a view at the image's size: (1, N, H, W)."""
        scores = self._view_scores(network, view)
        if scores.shape[2:] == size:
            return scores
        return F.interpolate(scores, size=size, mode="bilinear", align_corners=False)

    def _view_scores(self, network: Network, view: View) -> Tensor:
        """Returns one network's scores of a view, (1, N, h, w) with rows and columns of padding cut off."""
        crop, (height, width) = self.crop_size, view.pixels.shape[2:]
        rows, columns = view.inside
        if height == width == crop:
            return self._window_scores(network, view.pixels)[..., rows, columns]
        # Convolutions leave their results channels last. Adding those to another layout takes five times as long.
        total = torch.empty(
            (1, self.num_classes, height, width),
            dtype=self.dtype,
            device=self.device,
            memory_format=torch.channels_last,
        ).zero_()
        corners = [(y, x) for y in self._starts(height) for x in self._starts(width)]
        for first in range(0, len(corners), self.window_batch):
            batch = corners[first : first + self.window_batch]
            windows = torch.cat([view.pixels[..., y : y + crop, x : x + crop] for y, x in batch])  # (B, 3, S, S)
            for (y, x), scores in zip(batch, self._window_scores(network, windows), strict=True):
                total[0, :, y : y + crop, x : x + crop] += scores
            del scores  # or those of this batch would take memory while the next ones are made
        return total[..., rows, columns]

    def _window_scores(self, network: Network, windows: Tensor) -> Tensor:
        """Maps windows (B, 3, S, S) to scores (B, N, S, S), to which `flip` adds those of the mirrored windows."""
        scores = network(windows).to(self.dtype)
        if self.flip:
            scores += network(windows.flip(-1)).to(self.dtype).flip(-1)
        return scores

    def _view(self, image: Tensor, scale: float) -> View:
        """Resizes an image (H, W, 3) uint8, normalises it, and pads it to at least the size of a window."""
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
            pixels = F.pad(self._normalize(pixels), border)  # a normalised 0 is the mean colour
        return View(pixels, (slice(top, top + height), slice(left, left + width)))

    def _normalize(self, pixels: Tensor) -> Tensor:
        return pixels.div_(255).sub_(self.mean).div_(self.std)

    def _starts(self, length: int) -> list[int]:
        """Returns where windows start along a side; the last one is shifted back so that it ends at the border."""
        count = math.ceil((length - self.crop_size) / self.stride) + 1
        return [min(index * self.stride, length - self.crop_size) for index in range(count)]


def _centred_padding(length: int, target: int) -> tuple[int, int]:
    """Returns how many pixels to add before and after; an odd one goes after."""
    missing = max(0, target - length)
    return missing // 2, missing - missing // 2
