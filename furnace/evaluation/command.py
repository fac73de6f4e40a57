"""The arguments of `python -m furnace eval`."""

import argparse
from collections.abc import Sequence
from typing import TYPE_CHECKING

from furnace.config.arguments import add_run_command, texts_of
from furnace.engine.signals import resubmit_on_signal

if TYPE_CHECKING:  # torch is not needed to show help
    from furnace.engine.distributed import World


def add_parsers(commands: argparse._SubParsersAction) -> None:
    """Adds `eval` to the commands."""
    add_run_command(commands, "eval", _evaluate, "score the snapshots of a run")


@resubmit_on_signal()
def _evaluate(options: argparse.Namespace, arguments: Sequence[str]) -> int:
    from furnace.config.checks import check_image_size
    from furnace.config.experiment import for_evaluation, read_experiment
    from furnace.engine.gpus import gpus_to_use
    from furnace.engine.launch import in_processes

    experiment = for_evaluation(read_experiment(options.experiment, texts_of(options.settings)))
    settings = experiment.settings
    if settings.eval_epochs == "none":
        return 0
    check_image_size(experiment)

    def work(world: "World") -> int:
        from furnace.evaluation.evaluate import evaluate

        evaluate(experiment, world)
        return 0

    return in_processes(work, arguments, gpus_to_use(settings.NGPUS), settings.timeout_minutes)
