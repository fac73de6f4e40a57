"""The arguments of `python -m furnace prove`."""

import argparse
from collections.abc import Sequence
from pathlib import Path

from furnace.config.arguments import split_settings, take_any_order, texts_of
from furnace.errors import InputError

EXPERIMENT = Path(__file__).parents[2] / "exp.voc/ensemble_teacher+cutmix"


def add_parsers(commands: argparse._SubParsersAction) -> None:
    """Adds `prove` to the commands."""
    command = commands.add_parser(
        "prove",
        help="try the program's promises on this machine",
        description="Tries on this machine what the program promises, a row for each promise: in some minutes, on "
        "images that it draws, without leaving a file behind. The exit status is 1 if one does not hold.",
        formatter_class=argparse.RawDescriptionHelpFormatter,
        epilog="examples: python -m furnace prove\n"
        "          python -m furnace prove NGPUS=0 --only float64\n"
        "          python -m furnace prove exp.city/ensemble_teacher+cutmix batch_size=8",
    )
    command.add_argument(
        "words",
        nargs="*",
        metavar="NAME=VALUE",
        help="settings, as for train; and an experiment's folder for VOC or Cityscapes (default: exp.voc's)",
    )
    command.add_argument("--only", default="", metavar="WORDS", help="try the promises that contain these words")
    command.set_defaults(run=_prove)
    take_any_order(command)


def _prove(options: argparse.Namespace, _: Sequence[str]) -> int:
    from furnace.engine.signals import resubmit_on_signal
    from furnace.proof.prove import prove

    pairs, folders = split_settings(options.words)
    if len(folders) > 1:
        raise InputError(f"expected one experiment at most, found {', '.join(folders)}; name one")
    with resubmit_on_signal():
        return prove(Path(folders[0]) if folders else EXPERIMENT, texts_of(pairs), options.only)
