"""The commands: `python -m furnace train|eval|prepare|demo-data --help`."""

import argparse
import os
import sys
import traceback
from collections.abc import Mapping, Sequence
from typing import NoReturn

from furnace.errors import InputError

EXIT_BAD_INPUT = 2
EXIT_RESUBMIT = 75  # EX_TEMPFAIL: asked to stop, everything saved; the same command goes on


def main(arguments: Sequence[str]) -> int:
    """Runs one command and returns its exit status; bad input is one line on standard error and status 2."""
    options = _parser().parse_args(arguments)
    try:
        return options.run(options, arguments)
    except InputError as error:
        if os.environ.get("LOCAL_RANK", "0") == "0":  # before they part, all processes find the same
            _say(error)
        return EXIT_BAD_INPUT
    except KeyboardInterrupt:
        print("stopped", file=sys.stderr)
        return 130


def _say(error: InputError) -> None:
    # debug is not read from Settings, because reading them may be what fails.
    if "debug=1" in sys.argv or os.environ.get("debug") == "1":
        traceback.print_exception(error)
    print(f"error: {error}", file=sys.stderr, flush=True)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m furnace", description="Ensemble Teacher: semi-supervised semantic segmentation"
    )
    commands = parser.add_subparsers(required=True, metavar="COMMAND")
    for name, run, meaning in (
        ("train", _train, "train an experiment"),
        ("eval", _evaluate, "score the snapshots of a run"),
    ):
        command = commands.add_parser(
            name,
            help=meaning,
            formatter_class=argparse.RawDescriptionHelpFormatter,
            epilog=f'example: python -m furnace {name} "exp.voc/ensemble_teacher+cutmix" labeled_ratio=16',
        )
        command.add_argument("experiment", help="a folder with config.py and network.py")
        command.add_argument(
            "settings",
            nargs="*",
            metavar="NAME=VALUE",
            help="settings, which win over the environment's; --settings lists them",
        )
        command.add_argument("--settings", action=_ListSettings, help="list every setting and exit")
        command.set_defaults(run=run)
    demo = commands.add_parser(
        "demo-data",
        help="make a small data set in the layout of VOC or Cityscapes",
        formatter_class=argparse.RawDescriptionHelpFormatter,
        epilog="examples: python -m furnace demo-data DATA/demo --images 250 --seed 0\n"
        "          python -m furnace demo-data DATA/demo_city --layout city",
    )
    demo.add_argument("folder")
    demo.add_argument(
        "--layout",
        choices=("voc", "city"),
        default="voc",
        help="voc: objects of 5 classes, as in DATA/pascal_voc (default); city: streets of 19 classes, as in DATA/city",
    )
    demo.add_argument("--images", type=int, default=250, help="training and validation images together (default 250)")
    demo.add_argument("--seed", type=int, default=0)
    demo.set_defaults(run=_demo_data)
    from furnace.prepare import add_parser

    add_parser(commands)
    return parser


class _ListSettings(argparse.Action):
    def __init__(self, **options) -> None:
        super().__init__(nargs=0, **{**options, "dest": argparse.SUPPRESS})

    def __call__(self, parser, *_) -> None:
        from furnace.settings import help_table

        print("environment variables, or NAME=VALUE arguments:\n" + help_table())
        parser.exit()


def _texts(pairs: Sequence[str]) -> Mapping[str, str]:
    """The environment with NAME=VALUE arguments over it."""
    from furnace.settings import FIELDS

    texts = {name: os.environ[name] for name in FIELDS if name in os.environ}
    for pair in pairs:
        name, equals, value = pair.partition("=")
        if not equals or name not in FIELDS:
            raise InputError(f"unknown setting {name!r}; expected NAME=VALUE, NAME being one of {', '.join(FIELDS)}")
        texts[name] = value
    return texts


def _train(options: argparse.Namespace, arguments: Sequence[str]) -> int:
    from furnace.experiment import check_training, read_experiment

    experiment = read_experiment(options.experiment, _texts(options.settings))
    check_training(experiment)

    def work(world) -> int:
        from furnace.train import Trainer

        return 0 if Trainer(experiment, world).run() else EXIT_RESUBMIT

    return _in_processes(experiment, arguments, work, split_batch=True)


def _evaluate(options: argparse.Namespace, arguments: Sequence[str]) -> int:
    from furnace.experiment import for_evaluation, read_experiment

    experiment = for_evaluation(read_experiment(options.experiment, _texts(options.settings)))
    if experiment.settings.eval_epochs == "none":
        return 0

    def work(world) -> int:
        from furnace.evaluate import evaluate

        evaluate(experiment, world)
        return 0

    return _in_processes(experiment, arguments, work, split_batch=False)


def _in_processes(experiment, arguments: Sequence[str], work, split_batch: bool) -> int:
    """Runs `work` here, or starts one process per GPU that comes back here with its rank."""
    from furnace.engine import distributed

    settings = experiment.settings
    gpus = distributed.gpus_to_use(settings.NGPUS)
    processes = distributed.processes_in_all(gpus)
    if split_batch and settings.batch_size % processes:
        raise InputError(
            f"batch_size: {settings.batch_size} cannot be shared out over {processes} processes; "
            f"expected a multiple of {processes}; change batch_size or NGPUS"
        )
    if processes > 1 and not distributed.launched_by_torchrun():
        return distributed.launch(arguments, processes_here=max(1, gpus), status_if_stopped=EXIT_RESUBMIT)
    world = distributed.join_world(gpus)
    try:
        status = work(world)
    except InputError as error:
        if world.size == 1:
            raise
        _say(error)
        _end_at_once(EXIT_BAD_INPUT)  # a clean exit would wait for processes that wait for this one
    distributed.leave_world()
    if world.size > 1:
        _end_at_once(status)  # all is written; gloo's threads can abort an interpreter that tidies up behind them
    return status


def _end_at_once(status: int) -> NoReturn:
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(status)


def _demo_data(options: argparse.Namespace, _: Sequence[str]) -> int:
    from tqdm import tqdm

    from furnace.data.synthetic import write_city_layout, write_voc_layout

    write = {"voc": write_voc_layout, "city": write_city_layout}[options.layout]
    try:
        write(options.folder, images=options.images, seed=options.seed, progress=tqdm)
    except OSError as error:
        raise InputError(
            f"cannot write {options.folder}: {error.strerror}; name a folder that can be written"
        ) from None
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
