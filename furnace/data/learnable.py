"""Whether masks can teach anything: how many classes they show, by a look at a few of them or by a check of all.

N is the number of classes. Counts of pixels are (N + 1,) int64: those of each class, and of ignored pixels at the end.
"""

import time
from collections.abc import Sequence

import numpy as np

from furnace.data.entries import Split
from furnace.data.file_list import spread
from furnace.data.images import read_label_and_counts
from furnace.data.splits import first_in_both
from furnace.errors import InputError

MOST_MASKS, MOST_SECONDS = 64, 0.1  # that a look at one list takes
MOST_ENTRIES = 50_000  # of a list that is compared with another in a moment


def fault_of(pixels: np.ndarray, classes: Sequence[str]) -> str | None:
    """Returns why masks with so many pixels of each class teach nothing, and score nothing; None if they can."""
    shown = [name for name, count in zip(classes, pixels, strict=False) if count]
    if not shown:
        return "no pixel of its masks has a class: all are ignored"
    if len(shown) == 1:
        return (
            f"every pixel of its masks is {shown[0]!r} or ignored, so that any network looks perfect; "
            "is what is ignored a class?"
        )
    return None


def never_taught(trains: np.ndarray, validates: np.ndarray, classes: Sequence[str]) -> str | None:
    """Returns which classes the masks that validate show and those that train do not; None if there are none."""
    names = [name for name, taught, asked in zip(classes, trains, validates, strict=False) if asked and not taught]
    return f"no mask of it shows {', '.join(names)}, which val shows: that cannot be learned" if names else None


def look_at_masks(labeled: Split | None, val: Split | None) -> list[str]:
    """Looks at a few masks of the lists, and returns a line about each thing that cannot be learned or scored.

    Raises:
        InputError: a mask cannot be read, or not one pixel of all labelled images has a class.
    """
    looks = [_Look(split) for split in (labeled, val) if split is not None]
    if labeled and looks[0].is_complete and not looks[0].pixels[:-1].any():
        raise InputError(f"nothing to learn from: {looks[0].fault()}; mend the masks, or what the declaration ignores")
    lines = [fault for look in looks if (fault := look.fault())]
    if labeled and val and looks[0].is_complete:
        untaught = never_taught(looks[0].pixels, looks[1].pixels, labeled.dataset.classes)
        lines += [f"{labeled.files.path}: {untaught}"] if untaught else []
    return lines


def shared_images(trains: Sequence[Split], val: Split) -> list[str]:
    """Returns a line for each list that trains and shares images with `val`, unless it is too long for a moment."""
    short = [split for split in trains if len(split.files) <= MOST_ENTRIES]
    return [
        f"{image} trains and validates: it is in {split.files.path} and in {val.files.path}"
        for split in short
        if (image := first_in_both(val, split))
    ]


class _Look:
    """A look at masks that are spread over a list.

    Attributes:
        pixels: of each class in these masks.
        is_complete: whether the list has no more masks than these.
    """

    def __init__(self, split: Split) -> None:
        self.split = split
        dataset, count = split.dataset, len(split.files)
        self.pixels, self.looked = np.zeros(dataset.num_classes + 1, dtype=np.int64), 0
        end = time.perf_counter() + MOST_SECONDS
        for number in spread(count, MOST_MASKS):
            if time.perf_counter() > end:
                break
            path = split.label_path(number)
            self.pixels += read_label_and_counts(path, dataset.num_classes, dataset.ignore_value)[1]
            self.looked += 1
        self.is_complete = self.looked == count

    def fault(self) -> str | None:
        """Returns a line about what is wrong with these masks, None if nothing is."""
        fault = fault_of(self.pixels, self.split.dataset.classes)
        part = "" if self.is_complete else f" ({self.looked} of {len(self.split.files)} looked at)"
        return f"{self.split.files.path}{part}: {fault}" if fault else None
