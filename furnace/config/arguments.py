"""How commands name an experiment and its settings. Nothing here imports torch before a command runs."""

import argparse
import os
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NoReturn

from furnace.errors import EXIT_BAD_INPUT, InputError, say

EXPERIMENT_HELP = "a folder with config.py and network.py"


class Parser(argparse.ArgumentParser):
    """The program's and its commands' parser."""

    def error(self, message: str) -> NoReturn:
        """Says what is wrong with arguments as everything else is said."""
        say(f"{message}; see {self.prog} --help")
        self.exit(EXIT_BAD_INPUT)


def add_run_command(
    commands: argparse._SubParsersAction, name: str, run: Callable[[argparse.Namespace, Sequence[str]], int], help: str
) -> None:
    """Adds a command that takes an experiment's folder and settings."""
    command = commands.add_parser(
        name,
        help=help,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        epilog=f'example: python -m furnace {name} "exp.voc/ensemble_teacher+cutmix" labeled_ratio=16',
    )
    command.add_argument("experiment", help=EXPERIMENT_HELP)
    command.add_argument(
        "settings",
        nargs="*",
        metavar="NAME=VALUE",
        help="settings, which win over the environment's; --settings lists them",
    )
    command.add_argument("--settings", action=_ListSettings, help="list every setting and exit")
    command.set_defaults(run=run)


class _ListSettings(argparse.Action):
    def __init__(self, **options: Any) -> None:
        super().__init__(nargs=0, **{**options, "dest": argparse.SUPPRESS})

    def __call__(self, parser: argparse.ArgumentParser, *_: object) -> None:
        from furnace.config.settings import help_table

        print("environment variables, or NAME=VALUE arguments:\n" + help_table())
        parser.exit()


def texts_of(pairs: Sequence[str]) -> Mapping[str, str]:
    """Returns the texts of all settings that the environment gives, with `NAME=VALUE` arguments over them.

    Raises:
        InputError: an argument has another form, or names no setting.
    """
    from furnace.config.settings import FIELDS

    texts = {name: os.environ[name] for name in FIELDS if name in os.environ}
    for pair in pairs:
        name, equals, value = pair.partition("=")
        if not equals or name not in FIELDS:
            raise InputError(f"unknown setting {name!r}; expected NAME=VALUE, NAME being one of {', '.join(FIELDS)}")
        texts[name] = value
    return texts


def require_readable(option: str, setting: str, text: str) -> None:
    """Raises InputError, in the option's name, if the setting that it stands for cannot be read from the text."""
    from furnace.config.settings import FIELDS

    try:
        FIELDS[setting].metadata["read"](text)
    except ValueError as error:
        raise InputError(f"--{option}: expected {error}, found {text!r}; mend it") from None


def take_any_order(command: argparse.ArgumentParser) -> None:
    """Lets options stand between files and settings; argparse by itself takes those from one place only."""
    plain = command.parse_known_args

    def parse(arguments: Sequence[str] | None = None, namespace: argparse.Namespace | None = None) -> Any:
        command.parse_known_args = plain  # which the next line calls
        try:
            return command.parse_known_intermixed_args(arguments, namespace)
        finally:
            command.parse_known_args = parse

    command.parse_known_args = parse
