"""How long it takes to score a validation image, by the way that a run's own validations go."""

import time

from furnace.data.file_list import spread
from furnace.doctor.finding import NOTE, PROBLEM, Finding, State, of_error
from furnace.doctor.one_process import OneProcess
from furnace.doctor.step_findings import doing
from furnace.engine.backend import memory_failure
from furnace.engine.distributed import World
from furnace.errors import InputError
from furnace.evaluation.validation import count_in_training

FEW, MOST = 2, 64  # images
TITLE = "scoring"


class Quiet(World):
    """This process alone, without bars of its own: those of one, two and four images would flicker."""

    @property
    def is_main(self) -> bool:
        """No, so that no bar is shown."""
        return False


def time_scoring(process: OneProcess, budget: float) -> tuple[float, list[Finding]]:
    """Returns what `seconds_an_image` does; where an image cannot be scored, 0 and what is said of that.

    It is a problem where the run itself scores images, and a note where this only follows the training.
    """
    try:
        with doing("scoring images"):
            return seconds_an_image(process, budget), []
    except InputError as error:
        reason = str(error)
    except (MemoryError, RuntimeError) as error:
        if (failure := memory_failure(error)) is None:
            raise
        reason = f"there is no room for an image: {failure}; lower image_size, or the number of predictors (ensemble)"
    process.tidy()  # only now, because the error held what had been taken
    state: State = PROBLEM if process.experiment.settings.validate_epochs else NOTE
    return 0.0, [of_error(state, "scoring", reason)]


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
    count_in_training(process.experiment, Quiet(device=process.world.device), process.learner.ensemble, numbers, TITLE)
    process.finish()
    return time.perf_counter() - begun
