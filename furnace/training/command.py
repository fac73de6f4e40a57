"""The arguments of `python -m furnace train`."""

import argparse
from collections.abc import Sequence
from typing import TYPE_CHECKING

from furnace.config.arguments import add_run_command, texts_of
from furnace.errors import EXIT_RESUBMIT

if TYPE_CHECKING:  # showing help must not import torch
    from furnace.engine.distributed import World


def add_parsers(commands: argparse._SubParsersAction) -> None:
    """Adds `train` to the commands."""
    add_run_command(commands, "train", _train, "train an experiment")


def _train(options: argparse.Namespace, arguments: Sequence[str]) -> int:
    from furnace.config.checks import check_training
    from furnace.config.experiment import read_experiment
    from furnace.engine.launch import in_processes, require_share

    experiment = read_experiment(options.experiment, texts_of(options.settings))
    check_training(experiment)
    settings = experiment.settings

    def work(world: "World") -> int:
        # A process that only starts others, one for each GPU, never gets here and does not pay for this import.
        from furnace.training.trainer import Trainer

        return 0 if Trainer(experiment, world).run() else EXIT_RESUBMIT

    require_share(settings.batch_size, settings.NGPUS)
    return in_processes(work, arguments, settings.NGPUS, settings.timeout_minutes)
