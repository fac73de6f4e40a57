"""Which images of a training set are labelled."""

from collections.abc import Sequence

import numpy as np


def draw_split(entries: Sequence[str], ratio: int, seed: int) -> tuple[list[str], list[str]]:
    """Draws len(entries) // ratio labelled entries (one at least) uniformly; the rest is unlabelled.

    With one seed the labelled entries of a larger ratio are among those of a smaller one. Both parts keep the order of
    `entries`.
    """
    order = np.random.default_rng(seed).permutation(len(entries))
    chosen = set(order[: max(1, len(entries) // ratio)].tolist())
    labeled = [entry for index, entry in enumerate(entries) if index in chosen]
    unlabeled = [entry for index, entry in enumerate(entries) if index not in chosen]
    return labeled, unlabeled
