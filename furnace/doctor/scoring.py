"""How long it takes to score a validation image, by the way that a run's own validations go."""

import time

from furnace.data.file_list import spread
from furnace.doctor.one_process import OneProcess
from furnace.evaluation.validation import count_in_training

FEW, MOST = 2, 64  # images
TITLE = "scoring"


def seconds_an_image(process: OneProcess, budget: float) -> float:
    """Returns the seconds in which this process scores one image with all predictors of the run.

    It scores one image to warm up, and then as many as fit into `budget` seconds. Workers start anew each time, so that
    the difference between few images and many counts. Where there is no time for that, the first image counts itself.

    Raises:
        InputError: an image is bad, or there is no room for it.
    """
    listed = len(process.experiment.split("val").files)
    first = _score(process, spread(listed, 1))
    if listed < FEW or (1 + FEW) * first > budget:
        return first
    few = _score(process, spread(listed, FEW))
    many = min(MOST, listed, int(FEW * budget / few))
    if many < 2 * FEW:
        return few / FEW
    more = _score(process, spread(listed, many))
    return (more - few) / (many - FEW) if more > few else more / many


def _score(process: OneProcess, numbers: list[int]) -> float:
    """Scores images of the list by their numbers; returns the seconds."""
    process.finish()
    begun = time.perf_counter()
    count_in_training(process.experiment, process.world, process.learner.ensemble, numbers, TITLE)
    process.finish()
    return time.perf_counter() - begun
