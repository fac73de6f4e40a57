"""One run of a sweep: what it is called, whether it is done, and how it is started."""

import errno
import os
import signal
import subprocess
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from furnace.config.experiment import Experiment
from furnace.config.record import read_record
from furnace.engine.checkpoint import Snapshots
from furnace.engine.signals import ASKING, EXIT_INTERRUPTED, STARTER, heeded
from furnace.errors import EXIT_RESUBMIT, InputError, because
from furnace.evaluation.evaluate import chosen_predictors
from furnace.evaluation.log_table import read_table
from furnace.evaluation.scores import read_scores
from furnace.sweep.varied import Value

# Statuses of a run that somebody asked to stop, by a signal or by Ctrl-C; the sweep then does not begin the next one.
STOPPED = (EXIT_RESUBMIT, EXIT_INTERRUPTED, *(-number for number in ASKING))


@dataclass(frozen=True)
class Job:
    """One run of a sweep."""

    title: str
    pairs: tuple[str, ...]  # the settings that are given to it, as NAME=VALUE
    experiment: Experiment  # the same settings, read
    varied: tuple[Value, ...] = ()  # those among them that --vary names

    @property
    def log(self) -> Path:
        """The file that receives all its output where several runs go on at a time."""
        return self.experiment.settings.OUTPUT_PATH / "sweep.log"

    def scores(self) -> dict[str, float]:
        """Reads the mean IoU of the last epoch, in percent by predictor, with the run's scales and mirroring.

        They come from the run's own folder, because log_df.csv has those of all runs by their folders' names alone.
        Where that table has none of a predictor, or where they are those of another validation list, this has none
        either: evaluating again brings them back.
        """
        settings, table = self.experiment.settings, self.experiment.log_table
        scores = read_scores(self.experiment, self.experiment.epochs)
        if not scores or not table.is_file():
            return {}
        rows = read_table(table)
        of_name = rows[(rows["folder"] == settings.OUTPUT_PATH.name) & (rows["epoch"] == str(settings.nepochs))]
        return {code: score for code, score in scores.items() if code in set(of_name["Ensemble"])}

    def is_done(self) -> bool:
        """Whether the last epoch has a snapshot, and the run scores for every predictor that is asked for.

        Raises:
            InputError: the folder holds a run with other settings, lists or code.
        """
        settings = self.experiment.settings
        if changed := self.experiment.changes_since(read_record(settings.OUTPUT_PATH)):
            raise InputError(
                f"{self.title}: {settings.OUTPUT_PATH} holds a run with other settings: {'; '.join(changed)}; "
                "set them back, or OUTPUT_PATH to other folders, with {method} and {labeled_ratio} in it"
            )
        snapshots = Snapshots(settings.snapshot_dir)
        if settings.nepochs not in snapshots.epochs():
            return False
        has_teachers = snapshots.has_teachers(settings.nepochs)
        return set(self.scores()).issuperset(chosen_predictors(settings.ensemble, has_teachers, snapshots.folder))

    def commands(self, more: Mapping[str, str] | None = None) -> dict[str, list[str]]:
        """Returns the command of each part of the run, in order, by what it does.

        Args:
            more: settings that win over those of the run, such as its share of the machine.
        """
        settings = dict(pair.split("=", 1) for pair in self.pairs) | dict(more or {})
        pairs = [f"{name}={text}" for name, text in settings.items()]
        return {
            doing: [sys.executable, "-m", "furnace", command, str(self.experiment.folder), *pairs]
            for doing, command in (("training", "train"), ("evaluation", "eval"))
        }

    def run(self) -> int:
        """Trains and evaluates, each in a process of its own, whose output goes where this one's goes.

        Returns:
            The exit status of the first process that failed, EXIT_RESUBMIT if somebody asked for an end, or 0.

        Raises:
            InputError: a process cannot be started.
        """
        for command in self.commands().values():
            status = _status_of(command)
            if status != 0:
                return status
        return 0


def start(
    command: Sequence[str], environment: Mapping[str, str] | None = None, **streams: Any
) -> "subprocess.Popen[bytes]":
    """Starts a process of a run, in a process group of its own: Ctrl-C reaches it only when the sweep passes it on.

    Args:
        command: the program and its arguments.
        environment: variables that it has besides this process's.
        streams: what `subprocess.Popen` takes for its input and its output.

    Raises:
        InputError: it cannot be started.
    """
    known = {**os.environ, **(environment or {}), STARTER: str(os.getpid())}
    known.pop("FURNACE_FIRST_PROCESS", None)  # so that its notes are said
    try:
        return subprocess.Popen(command, process_group=0, env=known, **streams)
    except OSError as error:
        reason = because(error)
        if error.errno == errno.EAGAIN:
            reason = f"{error.strerror}; allow more processes (ulimit -u), or end some"
        raise InputError(f"cannot start {command[0]}: {reason}") from error


def status_words(status: int) -> str:
    """Returns how a run ended: its status, or the signal that ended it."""
    if status >= 0:
        return f"status {status}"
    name = next((known.name for known in signal.Signals if known == -status), f"signal {-status}")
    return f"ended by {name}{', perhaps for its memory' * (status == -signal.SIGKILL)}"


def _status_of(command: Sequence[str]) -> int:
    """Runs a command and passes signals on to it, so that it can save what it has; returns its exit status.

    A command that was done when a signal reached it ends with 0 all the same. The status is EXIT_RESUBMIT then, so that
    nothing more begins.
    """
    early: list[int] = []  # signals that come before the command is there
    late: list[int] = []
    before = {number: signal.signal(number, lambda got, _: early.append(got)) for number in heeded()}
    try:
        with start(command) as child:

            def pass_on(got: int, _: object) -> None:
                late.append(got)
                child.send_signal(got)

            for number in before:
                signal.signal(number, pass_on)
            for got in early:
                child.send_signal(got)
            return child.wait() or (EXIT_RESUBMIT if early or late else 0)
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
