"""What one training iteration works on."""

from dataclasses import dataclass

from torch import Tensor


@dataclass(frozen=True)
class Batch:
    """B labelled images and B pairs of unlabelled images (u0, u1), normalised, on the device of the networks.

    Where there are no unlabelled images, `weak` is None, and only the supervised loss can be computed. `strong` is None
    where the students see the weak view. Where a crop is larger than its image, pixels beside the image are 0 in every
    channel. No other pixel is, because no colour of an image is exactly the mean that normalising takes off.
    """

    image: Tensor  # (B, 3, H, W) float: the labelled images in the weak view
    label: Tensor  # (B, H, W) integer; pixels of 255 are ignored
    weak: tuple[Tensor, Tensor] | None = None  # u0 and u1, each (B, 3, H, W)
    strong: tuple[Tensor, Tensor] | None = None  # the same crops of u0 and u1, changed photometrically
    mask: Tensor | None = None  # (B, 1, H, W) CutMix masks: 0 takes the pixel of u0, 1 that of u1

    def pair(self, view: str) -> tuple[Tensor, Tensor, Tensor]:
        """Returns u0 and u1 in the view "weak" or "strong", and their mask: the three arguments of `cutmix.mix`."""
        images = self.weak if view == "weak" else self.strong
        assert images is not None and self.mask is not None, f"this batch holds no pairs in the {view} view"
        return *images, self.mask
