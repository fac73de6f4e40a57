"""The arguments of `python -m furnace train`."""

import argparse
from collections.abc import Sequence
from contextlib import nullcontext
from typing import TYPE_CHECKING

from furnace.config.arguments import add_run_command, texts_of
from furnace.engine.signals import resubmit_on_signal
from furnace.errors import EXIT_RESUBMIT

if TYPE_CHECKING:  # showing help must not import torch
    from furnace.engine.distributed import World


def add_parsers(commands: argparse._SubParsersAction) -> None:
    """Adds `train` to the commands."""
    command = add_run_command(commands, "train", _train, "train an experiment")
    command.add_argument("--then-eval", action="store_true", help="score the snapshots (eval_epochs) when it is done")


@resubmit_on_signal()
def _train(options: argparse.Namespace, arguments: Sequence[str]) -> int:
    from furnace.config.checks import check_training
    from furnace.config.experiment import read_experiment
    from furnace.engine.gpus import gpus_for_batch
    from furnace.engine.launch import go_on_with, in_processes
    from furnace.engine.place import find_place
    from furnace.engine.terminal import copy_lines
    from furnace.training.transcript import Transcript

    experiment = read_experiment(options.experiment, texts_of(options.settings))
    copy_lines(Transcript(experiment.settings.OUTPUT_PATH / "train.log", errors_alone=find_place().rank > 0).add)
    check_training(experiment)
    settings = experiment.settings

    def work(world: "World") -> int:
        # A process that only starts others, one for each GPU, never gets here and does not pay for this import.
        from furnace.engine.compiler import compiler_named
        from furnace.training.trainer import Trainer

        with compiler_named() if settings.compile else nullcontext():
            return 0 if Trainer(experiment, world).run(more_follows=options.then_eval) else EXIT_RESUBMIT

    gpus = gpus_for_batch(settings.NGPUS, settings.batch_size)
    status = in_processes(work, arguments, gpus, settings.timeout_minutes)
    if status == 0 and options.then_eval:
        go_on_with(["eval", options.experiment, *options.settings])
    return status
