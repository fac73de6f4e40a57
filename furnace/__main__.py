"""The commands: `python -m furnace --help`."""

import argparse
import os
import sys
from collections.abc import Callable, Mapping, Sequence
from typing import NoReturn

from furnace.errors import EXIT_BAD_INPUT, EXIT_RESUBMIT, InputError, say


def main(arguments: Sequence[str]) -> int:
    """Runs one command and returns its exit status; bad input is one line on standard error and status 2."""
    try:
        options = _parser().parse_args(arguments)
        return options.run(options, arguments)
    except InputError as error:
        if os.environ.get("LOCAL_RANK", "0") == "0":  # before they part, all processes find the same
            say(error)
        return EXIT_BAD_INPUT
    except ModuleNotFoundError as error:
        package = (error.name or "").partition(".")[0]
        if package in ("", "furnace"):
            raise
        say(f"the package {package} is missing; pip install -r requirements.txt")
        return EXIT_BAD_INPUT
    except KeyboardInterrupt:
        print("stopped", file=sys.stderr)
        return 130


class _Parser(argparse.ArgumentParser):
    """Says what is wrong with arguments as everything else is said."""

    def error(self, message: str) -> NoReturn:
        say(f"{message}; see {self.prog} --help")
        self.exit(EXIT_BAD_INPUT)


def _parser() -> argparse.ArgumentParser:
    parser = _Parser(
        prog="python -m furnace",
        description="Ensemble Teacher: semi-supervised semantic segmentation",
        formatter_class=argparse.RawDescriptionHelpFormatter,
        epilog="examples: bash scripts/demo.sh            all of it on toy images, in minutes\n"
        "          python -m furnace train --help   every command has its own help\n"
        "docs/faq.md answers what is asked most.",
    )
    commands = parser.add_subparsers(required=True, metavar="COMMAND")
    from furnace.prediction import export, predict
    from furnace.prepare import command as prepare
    from furnace.report import command as report
    from furnace.sweep import command as sweep

    prepare.add_parser(commands)
    _add_demo_data(commands)
    _add_run_command(commands, "train", _train, "train an experiment")
    _add_run_command(commands, "eval", _evaluate, "score the snapshots of a run")
    sweep.add_parser(commands, _texts)
    report.add_parser(commands)
    predict.add_parser(commands, _texts)
    export.add_parser(commands, _texts)
    return parser


def _add_run_command(commands: argparse._SubParsersAction, name: str, run: Callable, meaning: str) -> None:
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


def _add_demo_data(commands: argparse._SubParsersAction) -> None:
    demo = commands.add_parser(
        "demo-data",
        help="make a small data set of toy images",
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


class _ListSettings(argparse.Action):
    def __init__(self, **options) -> None:
        super().__init__(nargs=0, **{**options, "dest": argparse.SUPPRESS})

    def __call__(self, parser, *_) -> None:
        from furnace.config.settings import help_table

        print("environment variables, or NAME=VALUE arguments:\n" + help_table())
        parser.exit()


def _texts(pairs: Sequence[str]) -> Mapping[str, str]:
    """The environment with NAME=VALUE arguments over it."""
    from furnace.config.settings import FIELDS

    texts = {name: os.environ[name] for name in FIELDS if name in os.environ}
    for pair in pairs:
        name, equals, value = pair.partition("=")
        if not equals or name not in FIELDS:
            raise InputError(f"unknown setting {name!r}; expected NAME=VALUE, NAME being one of {', '.join(FIELDS)}")
        texts[name] = value
    return texts


def _train(options: argparse.Namespace, arguments: Sequence[str]) -> int:
    from furnace.config.experiment import check_training, read_experiment
    from furnace.engine.launch import in_processes, require_share

    experiment = read_experiment(options.experiment, _texts(options.settings))
    check_training(experiment)
    settings = experiment.settings

    def work(world) -> int:
        from furnace.training.trainer import Trainer

        return 0 if Trainer(experiment, world).run() else EXIT_RESUBMIT

    require_share(settings.batch_size, settings.NGPUS)
    return in_processes(work, arguments, settings.NGPUS, settings.timeout_minutes)


def _evaluate(options: argparse.Namespace, arguments: Sequence[str]) -> int:
    from furnace.config.experiment import for_evaluation, read_experiment
    from furnace.engine.launch import in_processes

    experiment = for_evaluation(read_experiment(options.experiment, _texts(options.settings)))
    if experiment.settings.eval_epochs == "none":
        return 0

    def work(world) -> int:
        from furnace.evaluation.evaluate import evaluate

        evaluate(experiment, world)
        return 0

    return in_processes(work, arguments, experiment.settings.NGPUS, experiment.settings.timeout_minutes)


def _demo_data(options: argparse.Namespace, _: Sequence[str]) -> int:
    from tqdm import tqdm

    from furnace.synthetic.layout import write_city_layout, write_voc_layout

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
