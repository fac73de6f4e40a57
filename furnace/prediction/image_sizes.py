"""For which sizes of images a predictor's graph is recorded: for any if that works, otherwise for ever fewer.

B is the number of images, H and W are their size.
"""

import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

# The size of the images that a graph of any size is recorded with. The recorder treats a dimension of 1 as a constant
# and may take two equal ones for the same, so that none is 1 and no two are equal.
EXAMPLE_SIZE = (2, 3, 337, 391)
# The ranges that the heights and widths of compared images are drawn from. Images of the last range are so large that
# every tap of the dilated kernels meets pixels, and not padding alone.
COMPARED_SIZES = (*3 * [(16, 160)], (304, 352))
STEPS = (1, 2, 4, 8, 16, 32, 64)  # the sides of images are tried as multiples of these
# torch computes with sizes as formulas. Those of most networks are simple where they begin with a multiple of this.
PLAIN_STEP = 32
# Classes of timm whose layers pad by amounts that depend on the size, by a part of their names. If sizes are free, the
# formulas of these amounts grow with each layer, and torch works on them for hours: of windows always, of the padding
# that TensorFlow calls `same` unless sizes are multiples of something (furnace.prediction.recordable).
WINDOWS, SAME = "WindowAttention", "Same"
TRIED_SIZES = ((3, 5), (4, 7))  # heights and widths, in steps, at which a network must work if a step is to fit it
LEAST_SIDE = 64  # of the images that a step is tried with: deep networks do not take much smaller ones


@dataclass(frozen=True)
class ImageSizes:
    """The sizes of images that a graph takes.

    Attributes:
        step: the sides are multiples of it; None where they have one size.
        side: the side of the square images; None where they have many sizes.
        any_number: whether the graph takes any number of images, or one alone.
    """

    step: int | None = None
    side: int | None = None
    any_number: bool = True

    def __str__(self) -> str:
        """Says what stands in the file: `any`, `multiples of 32`, or `512 x 512`."""
        if self.side is not None:
            return f"{self.side} x {self.side}" + ("" if self.any_number else ", one image at a time")
        return "any" if self.step == 1 else f"multiples of {self.step}"

    @property
    def example(self) -> tuple[int, int, int, int]:
        """The shape of the images that the graph is recorded with."""
        if self.side is not None:
            return (2 if self.any_number else 1), 3, self.side, self.side
        if self.step == 1:
            return EXAMPLE_SIZE
        return 2, 3, *_in_steps(5, 7, self.step or 1)

    @property
    def dynamic(self) -> dict[int, Any]:
        """What torch.export is told about the example's dimensions that may have other sizes."""
        batch = {0: torch.export.Dim("batch")} if self.any_number else {}
        if self.step is None:
            return batch
        if self.step == 1:
            return {**batch, 2: torch.export.Dim("height"), 3: torch.export.Dim("width")}
        return {**batch, 2: self.step * torch.export.Dim("rows"), 3: self.step * torch.export.Dim("columns")}

    def compared_images(self, generator: np.random.Generator, image_size: int) -> Iterator[Tensor]:
        """Yields images that PyTorch and the graph are compared on, (B, 3, H, W).

        Args:
            generator: the source of all random numbers.
            image_size: the side of the windows that the networks were trained with. Where sizes are not free, images
                of that size are among those compared: a network may treat the size that it was made for differently.
        """
        if self.step is not None:
            for low, high in COMPARED_SIZES:
                yield random_images(generator, low, high, self.step)
        if self.step != 1:
            side = self.side or image_size
            for batch in (1, 3) if self.side and self.any_number else (1,):
                yield images_of(generator, batch, side, side)


def attempts(predictor: nn.Module, networks: list[nn.Module], image_size: int) -> Iterator[ImageSizes]:
    """Yields the sizes that a graph may be recorded for, the most useful first.

    Args:
        predictor: maps images (B, 3, H, W) to logits of their size, on the CPU.
        networks: what it consists of. A network may say by its attribute `multiple` which sizes it takes.
        image_size: the side of the windows that the networks were trained with, which every graph must take.
    """
    if (first := _first_step(predictor, declared_multiple(networks), image_size)) is not None:
        yield ImageSizes(step=first)
        plain = math.lcm(first, PLAIN_STEP)
        if plain != first and image_size % plain == 0:
            yield ImageSizes(step=plain)
    yield ImageSizes(side=image_size)
    yield ImageSizes(side=image_size, any_number=False)


def _first_step(predictor: nn.Module, declared: int, image_size: int) -> int | None:
    """Returns the smallest step that fits the networks and can be recorded, as far as that is known before."""
    if _has(predictor, WINDOWS):
        return None
    steps = [math.lcm(declared, step) for step in STEPS]
    if _has(predictor, SAME):
        steps = [step for step in steps if step > 1]
    fitting = (step for step in dict.fromkeys(steps) if image_size % step == 0 or step == 1)
    return next((step for step in fitting if _takes(predictor, step)), None)


def declared_multiple(networks: list[nn.Module]) -> int:
    """Returns what the sides of images must be multiples of, as far as the networks say so."""
    return math.lcm(*(int(getattr(network, "multiple", 1)) for network in networks))


def random_images(generator: np.random.Generator, low: int, high: int, step: int = 1) -> Tensor:
    """Draws one or two images of one random size.

    Args:
        generator: the source of all random numbers.
        low: the smallest height and width.
        high: one more than the largest height and width.
        step: the height and the width are multiples of it; a step that is wider than the range leaves it upwards.

    Returns:
        Whole numbers from 0 to 255, (B, 3, H, W), float32.
    """
    batch = int(generator.integers(1, 3))
    lowest = -(-low // step)
    height, width = step * generator.integers(lowest, max(lowest + 1, -(-high // step)), size=2)
    return images_of(generator, batch, height, width)


def images_of(generator: np.random.Generator, batch: int, height: int, width: int) -> Tensor:
    """Draws images of whole numbers from 0 to 255, (batch, 3, height, width), float32."""
    return torch.from_numpy(generator.integers(0, 256, (batch, 3, height, width)).astype(np.float32))


def _in_steps(rows: int, columns: int, step: int) -> tuple[int, int]:
    """Returns a height and a width: odd multiples of `step` where these are given, and at least LEAST_SIDE."""
    odd = -(-LEAST_SIDE // (min(rows, columns) * step)) // 2 * 2 + 1
    return rows * odd * step, columns * odd * step


@torch.inference_mode()
def _takes(predictor: nn.Module, step: int) -> bool:
    """Whether logits have the size of their images where the sides of these are multiples of `step`."""
    for rows, columns in TRIED_SIZES:
        height, width = _in_steps(rows, columns, step)
        try:
            logits = predictor(torch.zeros(1, 3, height, width))
        except Exception:  # whatever a library, or a user's network, raises
            return False
        if logits.shape[2:] != (height, width):
            return False
    return True


def _has(predictor: nn.Module, part: str) -> bool:
    """Whether the class of any layer has a name with this part."""
    return any(part in type(module).__name__ for module in predictor.modules())
