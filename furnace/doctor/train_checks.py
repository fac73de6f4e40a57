"""What `train` would refuse before it starts, and notes that it would print: the same checks, each a finding."""

import dataclasses
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from furnace.config.checks import check_data, check_evaluation_afterwards, check_networks, check_start, without_effect
from furnace.config.experiment import Experiment, require_data_folder
from furnace.doctor.finding import NOTE, PROBLEM, Finding, of_error
from furnace.doctor.wanted import try_to_write
from furnace.engine.checkpoint import Snapshots
from furnace.engine.files import writing
from furnace.errors import InputError
from furnace.network.weight_files import NONE
from furnace.training.announcement import lines_about_data


def refusals(experiment: Experiment) -> Iterator[Finding]:
    """Yields what `train` would refuse of data, evaluation and folders, and what it would note."""
    settings = experiment.settings

    def data() -> None:
        require_data_folder(experiment.dataset, settings.dataset_path)
        check_start(experiment, with_networks=False)
        check_data(experiment)

    if fault := _fault("data", data):
        yield fault
    else:
        try:
            yield from (Finding(NOTE, "data", line) for line in lines_about_data(experiment))
        except InputError as error:
            yield of_error(PROBLEM, "data", error)
    if fault := _fault("evaluation", lambda: check_evaluation_afterwards(experiment)):
        yield fault
    for folder in dict.fromkeys((settings.OUTPUT_PATH, settings.snapshot_dir)):
        if fault := _fault("output", lambda folder=folder: _require_writable(folder)):  # type: ignore[misc]
            yield fault
    if epochs := Snapshots(settings.snapshot_dir).epochs():
        found = f"{settings.snapshot_dir} holds snapshots up to epoch {epochs[-1]}; times are those of a whole run"
        found += ", files those that are not there yet"
        yield Finding(NOTE, "output", found, "", {"epochs_done": epochs[-1]})
    yield from (Finding(NOTE, "settings", line) for line in without_effect(experiment))


def with_epochs(experiment: Experiment) -> tuple[Experiment, list[Finding]]:
    """Returns the experiment, with one epoch where their number is not known, and what is said of that."""
    if experiment.settings.nepochs is not None:
        return experiment, []
    fault = _fault("epochs", lambda: check_start(experiment, with_networks=False))
    note = Finding(NOTE, "epochs", "what follows is said of a run of one epoch")
    return with_settings(experiment, nepochs=1), [*([fault] if fault else []), note]


def with_networks(experiment: Experiment) -> tuple[Experiment | None, list[Finding]]:
    """Returns the experiment, with random weights where its own are of no use, and what is said of that.

    The experiment is None where its networks cannot be built.
    """
    fault = _fault("weights", lambda: check_networks(experiment))
    if fault is None:
        return experiment, []
    random = with_settings(experiment, pretrained_model=NONE, pretrained_model_2=NONE)
    if _fault("network", lambda: check_networks(random)):
        return None, [dataclasses.replace(fault, subject="network")]
    return random, [fault]


def without_pairs(experiment: Experiment) -> Finding | None:
    """Returns the fault of a method that learns from unlabelled images where there are none: no step can be taken."""
    return _fault("data", lambda: check_start(experiment, with_networks=False))


def with_settings(experiment: Experiment, **changed: Any) -> Experiment:
    """Returns the experiment with other settings."""
    return dataclasses.replace(experiment, settings=dataclasses.replace(experiment.settings, **changed))


def _fault(subject: str, check: Callable[[], object]) -> Finding | None:
    try:
        check()
    except InputError as error:
        return of_error(PROBLEM, subject, error)
    return None


def _require_writable(folder: Path) -> None:
    """Raises InputError if a folder cannot be written into; unlike the check of a run, it leaves nothing behind."""
    with writing(folder):
        try_to_write(folder)
