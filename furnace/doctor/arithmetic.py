"""What a whole run takes, from what was measured of its parts. This is arithmetic alone: nothing is measured here."""

from collections.abc import Iterable
from dataclasses import dataclass
from math import ceil

from furnace.config.checks import saved_epochs
from furnace.config.settings import Settings

MINUTE, HOUR, DAY = 60.0, 3600.0, 86400.0  # seconds


@dataclass(frozen=True)
class Part:
    """Iterations that do the same work: those before unlabelled images are used, or those with them.

    Attributes:
        iterations: how many of the run do this work.
        images: that one process decodes for an iteration.
        step: seconds of a step, without the wait for its batch.
        load: seconds that one loading worker takes to make a process's batch.
    """

    iterations: int
    images: int
    step: float
    load: float


@dataclass(frozen=True)
class Duration:
    """How many seconds a run takes for what it does; `evaluation` is what follows the training."""

    training: float
    validation: float
    saving: float
    evaluation: float

    @property
    def total(self) -> float:
        """Training with all that interrupts it; the evaluation afterwards is another command."""
        return self.training + self.validation + self.saving


def iteration_seconds(part: Part, workers: int, cores: int) -> float:
    """Returns how long an iteration takes: the step, or the loading where that is slower.

    Args:
        part: whose iteration it is.
        workers: of one process. Without any, the process makes a batch itself, before each step.
        cores: that one process has; more workers than that make no more batches.
    """
    if workers == 0:
        return part.step + part.load
    return max(part.step, part.load / min(workers, cores))


def training_seconds(parts: Iterable[Part], workers: int, cores: int) -> float:
    """Returns how long all iterations take."""
    return sum(part.iterations * iteration_seconds(part, workers, cores) for part in parts)


def validations(settings: Settings, epochs: int) -> list[int]:
    """Returns the epochs after which a run scores its networks."""
    return (
        list(range(settings.validate_epochs, epochs + 1, settings.validate_epochs)) if settings.validate_epochs else []
    )


def validation_seconds(settings: Settings, epochs: int, listed: int, processes: int, an_image: float) -> float:
    """Returns how long the validations of a run take.

    Args:
        settings: say how often there is one, and of how many images.
        epochs: of the run.
        listed: images in the `val` list.
        processes: that share the images out.
        an_image: seconds that one process takes for one.
    """
    images = listed if settings.validate_images == "all" else min(listed, settings.validate_images)
    return len(validations(settings, epochs)) * ceil(images / processes) * an_image


def evaluation_seconds(snapshots: int, listed: int, processes: int, an_image: float) -> float:
    """Returns how long the evaluation after a training takes, of so many snapshots and images of the `val` list."""
    return snapshots * ceil(listed / processes) * an_image


def saves(settings: Settings, epochs: int, training: float) -> tuple[int, int]:
    """Returns how often a run saves a snapshot, and how often all that going on needs in the midst of an epoch.

    The second happens every `snapshot_minutes`, and before a validation of an epoch without a snapshot. A snapshot
    begins the minutes anew.

    Args:
        settings: say how often.
        epochs: of the run.
        training: seconds of all iterations.
    """
    saved = set(saved_epochs(settings, epochs))
    before_validations = len(set(validations(settings, epochs)) - saved)
    between = training / max(1, len(saved)) / MINUTE  # minutes between two snapshots
    by_minutes = int(between / settings.snapshot_minutes) * len(saved) if settings.snapshot_minutes else 0
    return len(saved), max(before_validations, by_minutes)


def said_duration(seconds: float) -> str:
    """Returns a duration as people say it."""
    for least, unit, name in ((2 * DAY, DAY, "days"), (2 * HOUR, HOUR, "hours"), (2 * MINUTE, MINUTE, "minutes")):
        if seconds >= least:
            return f"{seconds / unit:.1f} {name}"
    return f"{seconds:.0f} s"


def said_seconds(seconds: float) -> str:
    """Returns the time of a step, with three digits."""
    return f"{1000 * seconds:.3g} ms" if seconds < 1 else f"{seconds:.3g} s" if seconds < 1000 else f"{seconds:.0f} s"
