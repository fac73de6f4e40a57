"""The commands: `python -m furnace --help`. Each is described in the `command.py` of the room that does its work."""

import argparse
import sys
from collections.abc import Sequence

from furnace.config.arguments import Parser
from furnace.doctor import command as doctor
from furnace.engine.place import speaks_for_machine
from furnace.engine.signals import EXIT_INTERRUPTED, end_surely
from furnace.engine.terminal import safe_output, take_utf8
from furnace.errors import EXIT_BAD_INPUT, InputError, say, system_errors_said
from furnace.evaluation import command as evaluation
from furnace.prediction import command as prediction
from furnace.prepare import command as prepare
from furnace.proof import command as proof
from furnace.report import command as report
from furnace.sweep import command as sweep
from furnace.synthetic import command as synthetic
from furnace.training import command as training

IN_ORDER_OF_USE = (prepare, synthetic, doctor, training, evaluation, sweep, report, prediction, proof)


def main(arguments: Sequence[str]) -> int:
    """Runs one command and returns its exit status. Bad input gives one line on standard error and status 2."""
    with safe_output():
        try:
            with system_errors_said():
                return (options := _parser().parse_args(arguments)).run(options, arguments)
        except InputError as error:
            if speaks_for_machine():  # all processes find this error, so one of them says it
                say(error)
            return EXIT_BAD_INPUT
        except KeyboardInterrupt:
            print("stopped", file=sys.stderr)
            return EXIT_INTERRUPTED


def _parser() -> argparse.ArgumentParser:
    parser = Parser(
        prog="python -m furnace",
        description="Ensemble Teacher: semi-supervised semantic segmentation",
        formatter_class=argparse.RawDescriptionHelpFormatter,
        epilog="examples: bash scripts/demo.sh            all of it on toy images, in minutes\n"
        "          python -m furnace train --help   every command has its own help\n"
        "docs/faq.md answers what is asked most.",
    )
    commands = parser.add_subparsers(required=True, metavar="COMMAND")
    for command in IN_ORDER_OF_USE:
        command.add_parsers(commands)
    return parser


if __name__ == "__main__":
    take_utf8()
    end_surely(lambda: main(sys.argv[1:]))
