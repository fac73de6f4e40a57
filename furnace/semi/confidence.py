"""Which pixels a labeller is sure enough of to be learned from.

In the shapes below, B is the number of images, H and W are their height and width, and N is the number of classes.
"""

import torch
from torch import Tensor

from furnace.semi.losses import in_full_precision

# So many logits are worked on at once; in fp32 they take 64 MB. A usual batch of crops of 512 or 800 pixels makes three
# bands. Many small ones would cost more: starting a kernel on a GPU takes longer than most kernels of a step.
BAND = 2**24


def likeliest_and_confident(logits: Tensor, confidence: float) -> tuple[Tensor, Tensor]:
    """Returns each pixel's likeliest class, and whether its probability is at least `confidence`.

    With logits l_j, the probability of the likeliest class m is

        exp(l_m) / sum_j exp(l_j) = 1 / sum_j exp(l_j - l_m)

    so that it is at least `confidence` where sum_j exp(l_j - l_m) <= 1 / confidence. The sum is computed on bands of
    rows. So no map of probabilities, which would be as large as the logits, is held at full size.

    Args:
        logits: (B, N, H, W) float; in half precision, the sum is computed in fp32.
        confidence: above 0, at most 1.

    Returns:
        (B, H, W) int64, and (B, H, W) bool, which is False where a logit is not a number.
    """
    best, likeliest = logits.max(dim=1)  # both (B, H, W); argmax takes longer on a CPU than both of them together
    best = in_full_precision(best).unsqueeze(1)  # (B, 1, H, W); so are the differences, without a copy of the logits
    batch, classes, height, width = logits.shape
    rows = max(1, BAND // (batch * classes * width))
    sums = [
        (logits[:, :, top : top + rows] - best[:, :, top : top + rows]).exp_().sum(dim=1)  # (B, rows, W)
        for top in range(0, height, rows)
    ]
    return likeliest, torch.cat(sums, dim=1) <= 1 / confidence
