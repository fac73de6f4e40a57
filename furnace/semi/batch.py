"""What one training iteration works on."""

from dataclasses import dataclass

from torch import Tensor


@dataclass(frozen=True)
class Batch:
    """B labelled images and B unlabelled pairs (u0, u1), normalised, on the device of the networks.

    Without unlabelled images (`weak` is None) only the supervised loss can be computed. `strong` is None where the
    students see the weak view.
    """

    image: Tensor  # (B, 3, H, W) float, labelled, weak view
    label: Tensor  # (B, H, W) integer, 255 is ignored
    weak: tuple[Tensor, Tensor] | None = None  # two of (B, 3, H, W)
    strong: tuple[Tensor, Tensor] | None = None  # the same crops, changed photometrically
    mask: Tensor | None = None  # (B, 1, H, W) of 0 and 1, CutMix
