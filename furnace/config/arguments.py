"""How commands name an experiment and its settings. Nothing here imports torch before a command runs."""

import argparse
import os
import sys
from collections.abc import Callable, Iterable, Mapping, Sequence
from itertools import pairwise
from pathlib import Path
from typing import Any, NoReturn

from furnace.engine.place import speaks_for_machine
from furnace.errors import EXIT_BAD_INPUT, InputError, perhaps, say

# Variables that are nearly called like settings, but are set by schedulers and compilers' modules.
OF_OTHERS = ("NCPUS", "COMPILER")
MAY_BE_EMPTY = ("--images", "--masks", "--image-ending", "--mask-ending")  # of own data: the source itself, no ending
EXPERIMENT_HELP = "a folder with config.py and network.py"


class Parser(argparse.ArgumentParser):
    """The parser of the program and of each of its commands."""

    # Whether options may stand between files and settings. By itself, argparse takes those from one place only.
    any_order = False
    _is_parsing = False

    def error(self, message: str) -> NoReturn:
        """Ends the program after one line that says what is wrong with the arguments, as for other bad input."""
        say(f"{message}; see {self.prog} --help")
        self.exit(EXIT_BAD_INPUT)

    def parse_known_args(self, args: Iterable[str] | None = None, namespace: Any = None) -> Any:
        """Parses as argparse does, and in any order where `any_order` is set; an unknown argument ends the program."""
        if self._is_parsing:  # parse_known_intermixed_args calls this method again
            return super().parse_known_args(args, namespace)
        args = list(sys.argv[1:] if args is None else args)
        if any(not text.strip() and before not in MAY_BE_EMPTY for before, text in pairwise(["", *args])):
            self.error("an argument is empty: expected none that is; is a variable of the shell not set?")
        self._is_parsing = True
        try:
            parse = self.parse_known_intermixed_args if self.any_order else super().parse_known_args
            namespace, unknown = parse(args, namespace)
        finally:
            self._is_parsing = False
        if unknown:
            option = unknown[0].partition("=")[0]
            self.error(f"unknown argument {unknown[0]!r}{perhaps(option, self._option_string_actions)}")
        return namespace, unknown

    def _check_value(self, action: argparse.Action, value: Any) -> None:
        """Refuses a word that is none of an action's choices, as argparse does, and says which one it nearly is."""
        if action.choices is not None and value not in action.choices:
            found = f"expected one of {', '.join(map(str, action.choices))}{perhaps(str(value), action.choices)}"
            raise argparse.ArgumentError(action, f"{found}, found {value!r}")


def add_run_command(
    commands: argparse._SubParsersAction, name: str, run: Callable[[argparse.Namespace, Sequence[str]], int], help: str
) -> argparse.ArgumentParser:
    """Adds a command that takes an experiment's folder and settings, and returns it.

    Args:
        run: does it and returns the exit status.
    """
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
    return command


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

    What looks like a mistake, but may be none, is said in a note: a variable of the environment that nearly has a
    setting's name, or a setting that is given twice.

    Raises:
        InputError: an argument has another form, or names no setting.
    """
    from furnace.config.settings import FIELDS, meant

    texts = {name: _bare(os.environ[name]) for name in FIELDS if name in os.environ}
    given: dict[str, str] = {}
    for pair in pairs:
        name, equals, value = pair.partition("=")
        if not name or not equals:
            raise InputError(
                f"{name or pair}: expected NAME=VALUE without spaces around the =, found {' '.join(pairs)!r}; "
                "write it in one piece; --settings lists every NAME"
            )
        if name not in FIELDS:
            likely = f" (perhaps {found})" if (found := meant(name)) else ""
            expected = f"expected NAME=VALUE, NAME being one of {', '.join(FIELDS)}"
            raise InputError(f"unknown setting {name!r}{likely}; {expected}")
        if given.get(name, _bare(value)) != _bare(value):
            note(f"{name} is given twice; {_bare(value)!r} counts, as the last one")
        given[name] = _bare(value)
    for name in os.environ:
        if name not in FIELDS and name not in OF_OTHERS and (other := meant(name)) and os.environ[name]:
            note(f"{name} in the environment is no setting and changes nothing; perhaps {other} is meant")
    return texts | given


def _bare(text: str) -> str:
    """Returns a text without the spaces and quotes around it that files of variables and job scripts leave there."""
    text = text.strip()
    return text[1:-1].strip() if len(text) > 1 and text[0] == text[-1] and text[0] in "'\"" else text


def split_settings(texts: Sequence[str]) -> tuple[list[str], list[str]]:
    """Splits a command's words into settings and the others, such as files; what nearly is a setting counts as one."""
    from furnace.config.settings import FIELDS, meant

    def is_setting(text: str) -> bool:
        name, equals, _ = text.partition("=")
        return bool(equals) and (name in FIELDS or (meant(name) is not None and not Path(text).exists()))

    return [text for text in texts if is_setting(text)], [text for text in texts if not is_setting(text)]


def note(text: str) -> None:
    """Prints a note, in one process alone of those that a command starts: all of them read the settings."""
    first = os.environ.setdefault("FURNACE_FIRST_PROCESS", str(os.getpid()))
    if first == str(os.getpid()) and speaks_for_machine():
        print(f"note: {text}", flush=True)


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
