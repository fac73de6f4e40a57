"""Checks of all that training will need, made before a device is touched."""

import re

from furnace.config.arguments import note
from furnace.config.completion import PLACEHOLDERS
from furnace.config.experiment import Experiment
from furnace.config.settings import Settings
from furnace.data.samples import iterations_per_epoch
from furnace.data.splits import first_in_both
from furnace.engine.files import require_writable
from furnace.errors import InputError
from furnace.network.pretrained import check_weights
from furnace.semi.ensemble import STUDENTS, predictors_of


def check_training(experiment: Experiment) -> None:
    """Checks everything that training and the evaluation after it will need.

    Raises:
        InputError: epochs, weights, a list or a file is missing; lists overlap or are shorter than a batch; the
            evaluation asks for predictors or epochs that there will not be; or OUTPUT_PATH cannot be written.
    """
    check_start(experiment)
    settings, labeled, unlabeled = experiment.settings, experiment.split("labeled"), experiment.split("unlabeled")
    labeled.check_files(with_labels=True)
    unlabeled.check_files(with_labels=False)
    if shared := first_in_both(labeled, unlabeled):
        raise InputError(
            f"labelled and unlabelled lists overlap: {shared} is in {labeled.files.path} and {unlabeled.files.path}; "
            "expected an image in one of them; mend the lists, or draw new ones with `python -m furnace prepare split`"
        )
    if iterations_per_epoch(len(labeled.files), len(unlabeled.files), settings.batch_size) == 0:
        raise InputError(
            f"batch_size {settings.batch_size} is larger than both lists "
            f"({len(labeled.files)} labelled, {len(unlabeled.files)} unlabelled); lower batch_size"
        )
    if experiment.needs_validation_images:
        experiment.split("val").check_files(with_labels=True)
    _check_evaluation_afterwards(experiment)
    for path in (settings.OUTPUT_PATH, settings.snapshot_dir):
        require_writable(path)
    for line in without_effect(experiment):
        note(line)


def without_effect(experiment: Experiment) -> list[str]:
    """Says which settings were set by hand, but change nothing in this training, and why."""
    settings, labellers = experiment.settings, experiment.method.labellers
    reasons = (
        (labellers == "none", "without a cross term", ("view", "cps_weight", "cps_ramp")),
        (labellers != "teachers", "without teachers", ("ema_decay", "teacher_norm")),
        (settings.ohem_threshold is None, "without ohem_threshold", ("ohem_min_kept",)),
        (not experiment.scores_meanwhile, "without validations", ("validate_images",)),
    )
    idle = [(name, why) for holds, why, names in reasons if holds for name in names if name in experiment.explicit]
    unknown = re.findall(r"\{\w+\}", str(settings.OUTPUT_PATH))  # what stands for another setting is replaced
    known = ", ".join(PLACEHOLDERS)
    return [f"{name} has no effect {why}" for name, why in idle] + [
        f"{name} in OUTPUT_PATH stands for nothing, as {known} would" for name in unknown
    ]


def check_start(experiment: Experiment) -> None:
    """Checks what takes only a moment: that epochs, weights and both lists are there.

    Raises:
        InputError: one of them is missing, or the weights are those of another network.
    """
    settings = experiment.settings
    if settings.nepochs is None:
        raise InputError(
            f"labeled_ratio: {settings.labeled_ratio} has no number of epochs of its own in config.py; set nepochs"
        )
    check_weights(settings.pretrained_model, settings.backbone, settings.width)
    experiment.split("labeled")
    experiment.split("unlabeled")


def _check_evaluation_afterwards(experiment: Experiment) -> None:
    """Checks what evaluation would find out only after days of training; with `eval_epochs=none` there is none."""
    settings = experiment.settings
    if settings.eval_epochs == "none":
        return
    if experiment.method.labellers != "teachers":
        for code in settings.ensemble:
            if code not in ("all", *predictors_of(STUDENTS)):
                raise InputError(
                    f"ensemble: {code} needs teachers, method {settings.method} has none; choose v0, v0_2, v2 or all"
                )
    if isinstance(settings.eval_epochs, tuple):
        kept = _kept_epochs(settings, experiment.epochs)
        lost = [epoch for epoch in settings.eval_epochs if epoch not in kept]
        if lost:
            raise InputError(
                f"eval_epochs: epoch {lost[0]} will have no snapshot when training ends, there will be "
                f"{', '.join(map(str, kept))}; change eval_epochs, snapshot_iter or keep_snapshots"
            )


def _kept_epochs(settings: Settings, last: int) -> list[int]:
    """Returns the epochs whose snapshots will be there when training ends with epoch `last`."""
    saved = [epoch for epoch in range(1, last + 1) if epoch % settings.snapshot_iter == 0 or epoch == last]
    return saved if settings.keep_snapshots == "all" else saved[-max(2, settings.keep_snapshots) :]
