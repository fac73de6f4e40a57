"""How commands name an experiment and its settings. Nothing here imports torch before a command runs."""

import argparse
import os
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, NoReturn

from furnace.errors import EXIT_BAD_INPUT, InputError, say

EXPERIMENT_HELP = "a folder with config.py and network.py"


class Parser(argparse.ArgumentParser):
    """The parser of the program and of each of its commands."""

    # Whether options may stand between files and settings. By itself, argparse takes those from one place only.
    any_order = False

    def error(self, message: str) -> NoReturn:
        """Ends the program after one line that says what is wrong with the arguments, as for other bad input."""
        say(f"{message}; see {self.prog} --help")
        self.exit(EXIT_BAD_INPUT)

    def parse_known_args(self, args: Iterable[str] | None = None, namespace: Any = None) -> Any:
        """Parses as argparse does, and in any order where `any_order` is set."""
        if not self.any_order:
            return super().parse_known_args(args, namespace)
        self.any_order = False  # because parse_known_intermixed_args calls this method again
        try:
            return self.parse_known_intermixed_args(args, namespace)
        finally:
            self.any_order = True


def add_run_command(
    commands: argparse._SubParsersAction, name: str, run: Callable[[argparse.Namespace, Sequence[str]], int], help: str
) -> None:
    """Adds a command that takes an experiment's folder and settings; `run` does it and returns the exit status."""
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
    """The option `--settings`, which lists every setting and ends the program."""

    def __init__(self, **options: Any) -> None:
        # Without SUPPRESS the option's default would take the place of the positional argument `settings`.
        super().__init__(nargs=0, **{**options, "dest": argparse.SUPPRESS})

    def __call__(self, parser: argparse.ArgumentParser, *_: object) -> None:
        from furnace.config.settings import help_table

        print("environment variables, or NAME=VALUE arguments:\n" + help_table())
        parser.exit()


def texts_of(pairs: Sequence[str]) -> Mapping[str, str]:
    """Returns the texts of all settings that the environment or `NAME=VALUE` arguments give; the arguments win.

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
    """Raises InputError, which names the option, if `text` is no value of the setting that the option stands for."""
    from furnace.config.settings import FIELDS

    try:
        FIELDS[setting].metadata["read"](text)
    except ValueError as error:
        raise InputError(f"--{option}: expected {error}, found {text!r}; mend it") from None


def take_any_order(command: argparse.ArgumentParser) -> None:
    """Lets options stand between files and settings."""
    assert isinstance(command, Parser)  # argparse makes each command's parser from the class of the program's
    command.any_order = True
