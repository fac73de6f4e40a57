"""How long the run as it is set takes on this machine: its parts, and their sum."""

from collections.abc import Sequence

from furnace.config.checks import kept_epochs
from furnace.config.settings import Settings
from furnace.doctor.arithmetic import (
    Duration,
    Part,
    evaluation_seconds,
    said_duration,
    saves,
    training_seconds,
    validation_seconds,
    validations,
)
from furnace.doctor.finding import OK, Finding
from furnace.doctor.one_process import OneProcess
from furnace.doctor.storage import Saved, seconds_a_byte
from furnace.errors import counted
from furnace.semi.ensemble import PREDICTORS


def run_time(process: OneProcess, parts: Sequence[Part], saved: Saved, an_image: float) -> Finding:
    """Returns how long the run takes.

    Args:
        process: one of the run's.
        parts: its iterations, with the times that were measured.
        saved: bytes of its files.
        an_image: seconds in which a process scores a validation image; 0 if the run scores none, or if that
            could not be seen.
    """
    experiment, settings = process.experiment, process.experiment.settings
    epochs = experiment.epochs
    listed = len(experiment.split("val").files) if experiment.needs_validation_images else 0
    training = training_seconds(parts, process.workers, process.cores)
    snapshots, within = saves(settings, epochs, training)
    written = (snapshots + within) * (saved.snapshot + saved.progress)
    duration = Duration(
        training=training,
        validation=validation_seconds(settings, epochs, listed, process.processes, an_image),
        saving=written * seconds_a_byte(process.learner, settings.snapshot_dir),
        evaluation=evaluation_seconds(
            evaluated_epochs(settings, epochs), listed, process.processes, an_image * scored_share(process)
        ),
    )
    iterations = sum(part.iterations for part in parts)
    scored = len(validations(settings, epochs))
    about = "at most about" if process.tries_more else "about"
    found = (
        f"{about} {said_duration(duration.total)}: "
        f"{counted(iterations, 'iteration')} of {counted(epochs, 'epoch')} {said_duration(training)}"
    )
    if scored:
        lasting = said_duration(duration.validation) if an_image else "of unknown length"
        found += f", {counted(scored, 'validation')} {lasting}"
    found += f", {counted(snapshots + within, 'save')} {said_duration(duration.saving)}"
    if duration.evaluation:
        found += f"; the evaluation afterwards {said_duration(duration.evaluation)}"
    figures = {
        "seconds": duration.total,
        "training_seconds": training,
        "validation_seconds": duration.validation,
        "saving_seconds": duration.saving,
        "evaluation_seconds": duration.evaluation,
        "seconds_a_validation_image": an_image,
        "iterations": iterations,
        "epochs": epochs,
        "validations": scored,
        "snapshots": snapshots,
    }
    return Finding(OK, "time", found, "", figures)


def evaluated_epochs(settings: Settings, epochs: int) -> int:
    """Returns how many snapshots are evaluated after the training."""
    if isinstance(settings.eval_epochs, tuple):
        return len(settings.eval_epochs)
    return {"none": 0, "last": 1, "all": len(kept_epochs(settings, epochs))}[settings.eval_epochs]


def scored_share(process: OneProcess) -> float:
    """Returns which share of the run's networks the predictors need that the evaluation asks for."""
    ensemble, wanted = process.learner.ensemble, process.experiment.settings.ensemble
    if "all" in wanted:
        return 1.0
    needed = {name for code in wanted for name in PREDICTORS[code]} & set(ensemble.networks())
    return max(1, len(needed)) / len(ensemble.networks())
