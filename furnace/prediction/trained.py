"""Finds a trained run and one of its predictors: what `predict` and `export` work with."""

import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from furnace.config.arguments import require_readable, texts_of
from furnace.config.checks import check_image_size
from furnace.config.experiment import Experiment, for_evaluation, read_experiment
from furnace.config.record import read_record, trained_settings
from furnace.engine.checkpoint import Snapshots
from furnace.errors import InputError
from furnace.evaluation.evaluate import chosen_epochs, chosen_predictors


@dataclass(frozen=True)
class Trained:
    """One epoch's snapshot of a run, and one predictor, which is made of the snapshot's networks."""

    experiment: Experiment
    snapshots: Snapshots
    epoch: int
    predictor: str  # a code of furnace.semi.ensemble.PREDICTORS


def find_trained(
    experiment_folder: str | Path, pairs: Sequence[str], weights: Path | None, epoch: str | None, ensemble: str | None
) -> Trained:
    """Finds the run in the folder `weights`, or without it the run that the settings name.

    The run's config.json gives backbone, width and image size, unless they are set; so does it the data set's folder
    where `weights` or a setting OUTPUT_PATH without placeholders names the run.

    Args:
        experiment_folder: the folder with config.py and network.py.
        pairs: settings as `NAME=VALUE`, which win over the environment's.
        weights: the run's folder; without it, the setting OUTPUT_PATH says which run it is.
        epoch: `last` or a number, in place of the setting eval_epochs.
        ensemble: a predictor's code, in place of the setting ensemble.

    Raises:
        InputError: a setting is bad, the run had other classes, there is no such snapshot, or it lacks the predictor's
            networks.
    """
    texts = dict(texts_of(pairs))
    if weights is not None:
        run = weights.absolute()
        if not (run / "snapshot").is_dir():
            above = next((f": {folder} is one" for folder in run.parents[:2] if (folder / "snapshot").is_dir()), "")
            raise InputError(f"no run: {run}: expected a run's folder, which holds snapshot; check --weights{above}")
        texts["OUTPUT_PATH"] = texts["snapshot_dir"] = str(run)
    if texts.get("OUTPUT_PATH") and not texts.get("dataset_path"):
        named = Path(os.path.expandvars(texts["OUTPUT_PATH"])).expanduser()
        texts["dataset_path"] = _data_of(Path(experiment_folder, named))
    for option, setting, text in (("ensemble", "ensemble", ensemble), ("epoch", "eval_epochs", epoch)):
        if text is not None:
            require_readable(option, setting, text)
            texts[setting] = text
    experiment = for_evaluation(read_experiment(experiment_folder, texts))
    if note := experiment.note_of_changes():
        print(note, flush=True)
    check_image_size(experiment)
    settings = experiment.settings
    snapshots = Snapshots(settings.snapshot_dir)
    epochs = chosen_epochs(snapshots, settings.eval_epochs)
    if len(epochs) != 1:
        raise InputError(f"epoch: expected one, found {len(epochs)}; say --epoch last, or --epoch N")
    has_teachers = snapshots.has_teachers(epochs[0])
    wanted = ("v3" if has_teachers else "v2",) if settings.ensemble == ("all",) else settings.ensemble
    predictors = chosen_predictors(wanted, has_teachers, settings.snapshot_dir)
    if len(predictors) != 1:
        raise InputError(f"ensemble: expected one predictor, found {', '.join(predictors)}; say --ensemble v3")
    return Trained(experiment, snapshots, epochs[0], predictors[0])


def _data_of(run: Path) -> str:
    """Returns the data set's folder that a run was trained with; empty if it is not known or not on this machine."""
    folder = trained_settings(read_record(run)).get("dataset_path")
    return folder if folder and Path(folder).is_dir() else ""
