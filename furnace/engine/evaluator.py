"""Sliding windows over whole images: one pass for any number of networks.

H and W are an image's size, S the side of a window, N the classes.
"""

import math
from collections.abc import Callable, Iterator, Mapping, Sequence

import cv2
import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

IMAGENET_MEAN = (0.485, 0.456, 0.406)
IMAGENET_STD = (0.229, 0.224, 0.225)


class SlidingWindow:
    """Scores of whole images by several networks, each of which sees every window once.

    As published: scores are logits, summed over windows, scales and mirrored views and never divided by the number of
    visits; an image that fits into a window is padded with the mean colour, one that is too narrow on one side with
    black. Unlike it, a mirrored view is scored by the same networks as the straight one.

    Args:
        networks: by name; each maps (B, 3, S, S) normalised to logits (B, N, S, S).
        crop_size: S.
        stride_rate: the step from window to window as a share of S.
        scales: factors the image is resized by.
        flip: adds the scores of mirrored windows.
        window_batch: how many windows go through a network at once.
    """

    def __init__(
        self,
        networks: Mapping[str, Callable[[Tensor], Tensor]],
        num_classes: int,
        crop_size: int,
        stride_rate: float = 2 / 3,
        scales: Sequence[float] = (1.0,),
        flip: bool = False,
        mean: Sequence[float] = IMAGENET_MEAN,
        std: Sequence[float] = IMAGENET_STD,
        device: torch.device = torch.device("cpu"),
        window_batch: int = 8,
    ) -> None:
        self.networks = networks
        self.num_classes = num_classes
        self.crop_size = crop_size
        self.stride = math.ceil(crop_size * stride_rate)
        self.scales = scales
        self.flip = flip
        self.device = device
        self.window_batch = window_batch
        self.mean = torch.tensor(mean, device=device)[:, None, None]
        self.std = torch.tensor(std, device=device)[:, None, None]

    @torch.inference_mode()
    def scores(self, image: np.ndarray) -> dict[str, Tensor]:
        """Maps an image (H, W, 3) uint8 RGB to summed logits (N, H, W) fp32 by network name."""
        size = image.shape[:2]
        totals = {name: torch.zeros(self.num_classes, *size, device=self.device) for name in self.networks}
        for scale in self.scales:
            resized = image if scale == 1 else cv2.resize(image, None, fx=scale, fy=scale)
            for name, scores in self._one_scale(resized).items():
                if scores.shape[1:] != size:
                    scores = F.interpolate(scores[None], size=size, mode="bilinear", align_corners=False)[0]
                totals[name] += scores
        return totals

    def _one_scale(self, image: np.ndarray) -> dict[str, Tensor]:
        """Scores (N, h, w) of an image at its own size."""
        height, width = image.shape[:2]
        crop = self.crop_size
        top, bottom = _centred_padding(height, crop)
        left, right = _centred_padding(width, crop)
        if max(height, width) > crop:  # a side that is too short is filled with black, before normalisation
            image = cv2.copyMakeBorder(image, top, bottom, left, right, cv2.BORDER_CONSTANT, value=(0, 0, 0))
            pixels = self._normalize(image)
        else:
            pixels = F.pad(self._normalize(image), (left, right, top, bottom))  # 0 is the mean colour
        totals = {name: torch.zeros(self.num_classes, *pixels.shape[1:], device=self.device) for name in self.networks}
        for corners in _chunks(list(self._corners(*pixels.shape[1:])), self.window_batch):
            windows = torch.stack([pixels[:, y : y + crop, x : x + crop] for y, x in corners])  # (B, 3, S, S)
            for name, network in self.networks.items():
                for (y, x), scores in zip(corners, self._window_scores(network, windows), strict=True):
                    totals[name][:, y : y + crop, x : x + crop] += scores
        return {name: total[:, top : top + height, left : left + width] for name, total in totals.items()}

    def _window_scores(self, network: Callable[[Tensor], Tensor], windows: Tensor) -> Tensor:
        """(B, 3, S, S) to (B, N, S, S) fp32."""
        scores = network(windows).float()
        if self.flip:
            scores = scores + network(windows.flip(-1)).float().flip(-1)
        return scores

    def _normalize(self, image: np.ndarray) -> Tensor:
        """(H, W, 3) uint8 to (3, H, W) fp32."""
        pixels = torch.from_numpy(image).to(self.device).permute(2, 0, 1).float() / 255
        return (pixels - self.mean) / self.std

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
