"""A trained run and one predictor of it: what `predict` and `export` are asked for."""

import argparse
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from furnace.errors import InputError

if TYPE_CHECKING:  # torch is not needed to show help
    from furnace.config.experiment import Experiment
    from furnace.engine.checkpoint import Snapshots

# Takes NAME=VALUE arguments; gives the environment's settings with these over them.
ReadTexts = Callable[[Sequence[str]], Mapping[str, str]]


@dataclass(frozen=True)
class Trained:
    """One epoch's snapshot of a run, and the predictor that is made of its networks."""

    experiment: "Experiment"
    snapshots: "Snapshots"
    epoch: int
    predictor: str  # of furnace.semi.ensemble.PREDICTORS


def add_run_options(command: argparse.ArgumentParser) -> None:
    """Adds what names a run, an epoch and a predictor; all of it can be left to the settings."""
    command.add_argument("experiment", metavar="EXPERIMENT", help="a folder with config.py and network.py")
    command.add_argument(
        "--weights", type=Path, metavar="RUN", help="the run's folder (default: the setting OUTPUT_PATH, as for eval)"
    )
    command.add_argument("--epoch", metavar="N", help="last (default), or the number of an epoch with a snapshot")
    command.add_argument(
        "--ensemble", metavar="CODE", help="v0, v0_2, v1, v1_2, v2, v3 or v4 (default: v3, or v2 without teachers)"
    )
    take_any_order(command)


def take_any_order(command: argparse.ArgumentParser) -> None:
    """Lets options stand between files and settings; argparse by itself takes those from one place only."""
    plain = command.parse_known_args

    def parse(arguments: Sequence[str] | None = None, namespace: argparse.Namespace | None = None) -> Any:
        command.parse_known_args = plain  # which the next line calls
        try:
            return command.parse_known_intermixed_args(arguments, namespace)
        finally:
            command.parse_known_args = parse

    command.parse_known_args = parse


def find_trained(options: argparse.Namespace, pairs: Sequence[str], read_texts: ReadTexts) -> Trained:
    """The run that the options and the settings name.

    Backbone, width, image size and the data set's folder are those of the run's config.json unless they are set.

    Raises:
        InputError: a setting is bad, there is no such snapshot, or the predictor's networks are not in it.
    """
    from furnace.config.experiment import for_evaluation, read_experiment
    from furnace.engine.checkpoint import Snapshots
    from furnace.evaluation.evaluate import chosen_epochs, chosen_predictors

    texts = dict(read_texts(pairs))
    if options.weights is not None:
        run = options.weights.absolute()
        if not (run / "snapshot").is_dir():
            raise InputError(f"no run: {run}: expected a run's folder, which holds snapshot; check --weights")
        texts["OUTPUT_PATH"] = texts["snapshot_dir"] = str(run)
    if texts.get("OUTPUT_PATH") and not texts.get("dataset_path"):
        texts["dataset_path"] = _data_of(Path(options.experiment, texts["OUTPUT_PATH"]).expanduser())
    for option, setting in (("ensemble", "ensemble"), ("epoch", "eval_epochs")):
        if (text := getattr(options, option)) is not None:
            require_readable(option, setting, text)
            texts[setting] = text
    experiment = for_evaluation(read_experiment(options.experiment, texts))
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


def require_readable(option: str, setting: str, text: str) -> None:
    """Raises InputError, in the option's name, if the setting that it stands for cannot be read from the text."""
    from furnace.config.settings import FIELDS

    try:
        FIELDS[setting].metadata["read"](text)
    except ValueError as error:
        raise InputError(f"--{option}: expected {error}, found {text!r}; mend it") from None


def _data_of(run: Path) -> str:
    """The data set's folder that a run was trained with; empty where none is known, or it is not here."""
    from furnace.config.record import read_record

    folder = read_record(run).get("settings", {}).get("dataset_path")
    return folder if folder and Path(folder).is_dir() else ""
