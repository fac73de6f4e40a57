"""Sliding windows over whole images, in one pass for any number of networks.

H and W are an image's size, h and w those of a resized and padded view of it, S the side of a window, N the classes.
"""

import math
from collections.abc import Callable, Iterator, Mapping, Sequence

import torch
import torch.nn.functional as F
from torch import Tensor

from furnace.data.normalization import IMAGENET_MEAN, IMAGENET_STD
from furnace.evaluation.views import View, view_of

GPU_BATCH = 8
Network = Callable[[Tensor], Tensor]
Size = tuple[int, int]  # height and width
Window = tuple[int, slice, slice]  # the view's place in a list, and the rows and columns of it


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
        window_batch: how many windows go through a network at once, at most. By default this is GPU_BATCH on a GPU and
            1 on a CPU, where more windows take memory and save no time.
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
        self.mean = torch.tensor(IMAGENET_MEAN, device=device, dtype=dtype)[:, None, None]
        self.std = torch.tensor(IMAGENET_STD, device=device, dtype=dtype)[:, None, None]

    def scores(self, image: Tensor) -> dict[str, Tensor]:
        """Maps an image (H, W, 3) uint8 RGB, on the CPU, to each network's summed logits (N, H, W), by its name."""
        return self.scores_of([image])[0]

    @torch.inference_mode()
    def scores_of(self, images: Sequence[Tensor]) -> list[dict[str, Tensor]]:
        """Does for several images, of any sizes, what `scores` does for one.

        Windows are of one size in all images, so that those of different images go through a network together. An
        image's scores depend on the other images only by rounding, which may differ between batches of different sizes.
        """
        views = [
            [view_of(image, scale, self.crop_size, self.mean, self.std) for image in images] for scale in self.scales
        ]
        sizes = [(image.shape[0], image.shape[1]) for image in images]
        sums = {name: self._sums(network, views, sizes) for name, network in self.networks.items()}
        return [{name: of_images[place] for name, of_images in sums.items()} for place in range(len(images))]

    def windows_of(self, size: Size) -> int:
        """Returns how many windows an image of this size has, at the scale at which it has most."""
        at_scales = ([self._starts(self._pixels(length, scale)) for length in size] for scale in self.scales)
        return max(len(rows) * len(columns) for rows, columns in at_scales)

    def memory(self, sizes: Sequence[Size]) -> int:
        """Returns how many bytes `scores_of` holds at once for images of these sizes, without what networks need."""
        number = self.dtype.itemsize
        image, logits = sum(height * width for height, width in sizes), self.num_classes * number  # pixels, bytes each
        views = [
            sum(math.prod(self._pixels(length, scale) for length in size) for size in sizes) for scale in self.scales
        ]
        resized = [scale != 1 for scale in self.scales]
        in_work = max(view + image * again for view, again in zip(views, resized, strict=True))
        done = image if resized[0] else views[0]  # one network's scores; padding that was cut off still takes memory
        networks = (len(self.networks) - (len(views) == 1)) * done + in_work
        windows = self.window_batch * self.crop_size**2 * (3 * number + self.flip * (3 * number + logits))
        return networks * logits + sum(views) * 3 * number + windows

    def _pixels(self, length: int, scale: float) -> int:
        return max(round(length * scale), self.crop_size)

    def _sums(self, network: Network, views: Sequence[Sequence[View]], sizes: Sequence[Size]) -> list[Tensor]:
        """Sums one network's scores of each image, (N, H, W), over its views, which `views` holds scale by scale.

        The scores of one scale are freed before the next ones are made.
        """
        first, *others = views
        totals = self._resized_scores(network, first, sizes)
        for of_scale in others:
            more = self._resized_scores(network, of_scale, sizes)
            for total in totals:
                total.add_(more.pop(0))
        return [total[0] for total in totals]

    def _resized_scores(self, network: Network, views: Sequence[View], sizes: Sequence[Size]) -> list[Tensor]:
        """Returns one network's scores of every image's view at the image's size: (1, N, H, W) each."""
        scores = self._view_scores(network, views)
        return [_resized(of_view, size) for of_view, size in zip(scores, sizes, strict=True)]

    def _view_scores(self, network: Network, views: Sequence[View]) -> list[Tensor]:
        """Returns one network's scores of each view, (1, N, h, w) with rows and columns of padding cut off."""
        crop = self.crop_size
        totals = [self._empty_scores(view) for view in views]
        windows = [
            (place, slice(y, y + crop), slice(x, x + crop))
            for place, view in enumerate(views)
            for y in self._starts(view.pixels.shape[2])
            for x in self._starts(view.pixels.shape[3])
        ]
        for batch in _in_batches(windows, self.window_batch):
            pixels = torch.cat([views[place].pixels[..., rows, columns] for place, rows, columns in batch])
            of_windows = torch.split(self._window_scores(network, pixels), 1)  # (1, N, S, S) each
            for (place, rows, columns), scores in zip(batch, of_windows, strict=True):
                if (total := totals[place]) is None:
                    totals[place] = scores if len(batch) == 1 else scores.clone()  # which does not keep the batch
                else:
                    total[..., rows, columns] += scores
            del of_windows, scores  # or those of this batch would take memory while the next ones are made
        return [total[..., *view.inside] for total, view in zip(totals, views, strict=True) if total is not None]

    def _empty_scores(self, view: View) -> Tensor | None:
        """Returns where the scores of a view's windows are summed, (1, N, h, w), or None if it is a single window."""
        height, width = view.pixels.shape[2:]
        if height == width == self.crop_size:
            return None
        # Convolutions leave their results channels last. Adding those to another layout takes five times as long.
        return torch.empty(
            (1, self.num_classes, height, width),
            dtype=self.dtype,
            device=self.device,
            memory_format=torch.channels_last,
        ).zero_()

    def _window_scores(self, network: Network, windows: Tensor) -> Tensor:
        """Maps windows (B, 3, S, S) to scores (B, N, S, S), to which `flip` adds those of the mirrored windows."""
        scores = network(windows).to(self.dtype)
        if self.flip:
            scores = network(windows.flip(-1)).to(self.dtype).flip(-1).add_(scores)  # `flip` copies
        return scores

    def _starts(self, length: int) -> list[int]:
        """Returns where windows start along a side; the last one is shifted back so that it ends at the border."""
        count = math.ceil((length - self.crop_size) / self.stride) + 1
        return [min(index * self.stride, length - self.crop_size) for index in range(count)]


def _resized(scores: Tensor, size: Size) -> Tensor:
    """Returns scores (1, N, h, w) at another size, (1, N, H, W)."""
    if scores.shape[2:] == size:
        return scores
    return F.interpolate(scores, size=size, mode="bilinear", align_corners=False)


def _in_batches(windows: Sequence[Window], most: int) -> Iterator[Sequence[Window]]:
    """Cuts a list into batches of `most` windows, and what is left at the end into halves of that, quarters and so on.

    cuDNN searches for its fastest kernels at each size of batch that it meets for the first time. Where `most` is 8 it
    meets four sizes in this way instead of eight, and no window is scored only to fill a batch.
    """
    start, size = 0, most
    while start < len(windows):
        while size > len(windows) - start:
            size //= 2
        yield windows[start : start + size]
        start += size
