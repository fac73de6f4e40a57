"""The runs of a sweep: what each is called, whether it is done, and how it is started."""

import signal
import subprocess
import sys
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import product

import pandas as pd

from furnace.config.arguments import note, require_readable, texts_of
from furnace.config.checks import check_start
from furnace.config.experiment import Experiment, read_experiment
from furnace.config.record import changes, read_record
from furnace.engine.checkpoint import Snapshots
from furnace.engine.signals import heeded
from furnace.errors import InputError
from furnace.evaluation.evaluate import chosen_predictors
from furnace.evaluation.log_table import read_table, scales_text

VARIED = {"methods": "method", "ratios": "labeled_ratio", "seeds": "seed"}  # the setting of each option's list


@dataclass(frozen=True)
class Job:
    """One run of a sweep."""

    title: str
    pairs: tuple[str, ...]  # the settings that are given to it, as NAME=VALUE
    experiment: Experiment  # the same settings, read

    def scores(self) -> dict[str, float]:
        """Reads the mean IoU of the last epoch, in percent by predictor, from log_df.csv.

        Only rows of this run count that were evaluated with its scales and mirroring; without any the result is empty.
        """
        settings, table = self.experiment.settings, self.experiment.log_table
        if not table.is_file():
            return {}
        known = {
            "folder": settings.OUTPUT_PATH.name,
            "epoch": str(settings.nepochs),
            "method": settings.method,
            "labeled_ratio": str(settings.labeled_ratio),
            "seed": str(settings.seed),
            "scales": scales_text(settings.eval_scales),
            "flip": str(int(settings.eval_flip)),
        }
        rows = read_table(table)
        rows = rows[(rows[list(known)] == pd.Series(known)).all(axis=1) & rows["mean_IU"].ne("")]
        return dict(zip(rows["Ensemble"], rows["mean_IU"].astype(float), strict=True))

    def is_done(self) -> bool:
        """Whether the last epoch has a snapshot, and log_df.csv its scores for every predictor that is asked for.

        Raises:
            InputError: the folder holds a run with other settings.
        """
        settings = self.experiment.settings
        record = read_record(settings.OUTPUT_PATH)
        trained = record.get("settings", {})
        asked = self.experiment.result_settings()
        # The paths of weights are left out, because the files may have moved.
        paths = ("pretrained_model", "pretrained_model_2")
        comparable = {name: value for name, value in asked.items() if name not in paths} if trained else {}
        if changed := [*changes(trained, comparable), *self.experiment.code_changes(record)]:
            raise InputError(
                f"{self.title}: {settings.OUTPUT_PATH} holds a run with other settings: {'; '.join(changed)}; "
                "set them back, or OUTPUT_PATH to other folders, with {method} and {labeled_ratio} in it"
            )
        snapshots = Snapshots(settings.snapshot_dir)
        if settings.nepochs not in snapshots.epochs():
            return False
        has_teachers = snapshots.has_teachers(settings.nepochs)
        return set(self.scores()).issuperset(chosen_predictors(settings.ensemble, has_teachers, snapshots.folder))

    def run(self) -> int:
        """Trains and evaluates, each in a process of its own.

        Returns:
            The exit status of the first process that failed, or 0.
        """
        for command in ("train", "eval"):
            arguments = [command, str(self.experiment.folder), *self.pairs]
            status = _status_of([sys.executable, "-m", "furnace", *arguments])
            if status != 0:
                return status
        return 0


def _status_of(command: Sequence[str]) -> int:
    """Runs a command and passes signals on to it, so that it can save what it has; returns its exit status.

    The command has a process group of its own, so that Ctrl-C does not reach it twice.
    """
    early: list[int] = []  # signals that come before the command is there
    before = {number: signal.signal(number, lambda got, _: early.append(got)) for number in heeded()}
    try:
        with subprocess.Popen(command, process_group=0) as child:
            for number in before:
                signal.signal(number, lambda got, _: child.send_signal(got))
            for got in early:
                child.send_signal(got)
            return child.wait()
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def planned_jobs(experiment_folder: str, pairs: Sequence[str], lists: Mapping[str, str]) -> Iterator[Job]:
    """Yields a job for every combination of method, ratio and seed; a seed other than 0 stands in its folder's name.

    Args:
        experiment_folder: holds config.py and network.py.
        pairs: settings of all runs, as NAME=VALUE.
        lists: values with commas between them, by the options in `VARIED`.

    Raises:
        InputError: a list or the settings of a run are bad, or two runs would write into one folder.
    """
    values = {option: _values(option, text) for option, text in lists.items()}
    texts = {name: text for name, text in texts_of(pairs).items() if text}
    given = [pair.partition("=")[0] for pair in pairs]
    for option, name in VARIED.items():
        if name in given:
            raise InputError(f"{pairs[given.index(name)]}: a sweep has lists; say --{option}")
        if texts.pop(name, None):
            note(f"{name} in the environment changes nothing: a sweep has --{option}={lists[option]}")
    folders = set()
    for ratio, method, seed in product(values["ratios"], values["methods"], values["seeds"]):
        own = {**texts, "method": method, "labeled_ratio": ratio, "seed": seed}
        experiment = read_experiment(experiment_folder, own)
        output = experiment.settings.OUTPUT_PATH
        if experiment.settings.seed != 0:
            output = output.with_name(f"{output.name}_seed{seed}")
        if output in folders:
            raise InputError(
                f"OUTPUT_PATH: two runs would write to {output}; leave it unset, or name it with "
                "{method} and {labeled_ratio} in it"
            )
        folders.add(output)
        own |= {"OUTPUT_PATH": str(output), "snapshot_dir": str(output)}
        experiment = read_experiment(experiment_folder, own)
        check_start(experiment)
        as_arguments = tuple(f"{name}={text}" for name, text in own.items())
        yield Job(f"{method} 1/{experiment.settings.labeled_ratio} seed {seed}", as_arguments, experiment)


def _values(option: str, text: str) -> list[str]:
    """Splits an option's values at commas; raises InputError if one is empty, comes twice or cannot be read."""
    values = [value.strip() for value in text.split(",")]
    if not all(values) or len(set(values)) < len(values):
        raise InputError(f"--{option}: expected different values with commas between them, found {text!r}; mend it")
    for value in values:
        require_readable(option, VARIED[option], value)
    return values
