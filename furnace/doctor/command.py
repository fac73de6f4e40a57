"""The arguments of `python -m furnace doctor`."""

import argparse
import json
import sys
from collections.abc import Callable, Iterable, Sequence
from contextlib import closing, nullcontext, redirect_stdout, suppress
from pathlib import Path
from typing import TYPE_CHECKING

from furnace.config.arguments import split_settings, take_any_order, texts_of
from furnace.errors import EXIT_FAILED, CommonInputError, InputError

if TYPE_CHECKING:  # showing help must not import torch
    from furnace.config.experiment import Experiment
    from furnace.doctor.wanted import Wanted

STANDARD_OUTPUT = Path("-")
NOTHING_KEPT = "nothing was kept, start again from the beginning"


def add_parsers(commands: argparse._SubParsersAction) -> None:
    """Adds `doctor` to the commands."""
    command = commands.add_parser(
        "doctor",
        help="look at this machine, and at what a run will take",
        usage="%(prog)s [-h] [--json FILE] [EXPERIMENT] [NAME=VALUE ...]",
        description="Looks at what would stop or slow a run on this machine, a line for each thing:\nok, note, or "
        "problem with its remedy. With an experiment, it then takes steps of\nthe run itself, and tells what the whole "
        "run will need. No file is left behind.\nThe exit status is 1 if something would stop a run.",
        formatter_class=argparse.RawDescriptionHelpFormatter,
        epilog="examples: python -m furnace doctor\n"
        '          python -m furnace doctor "exp.voc/ensemble_teacher+cutmix" batch_size=16\n'
        "          python -m furnace doctor NGPUS=0 --json machine.json",
    )
    command.add_argument(
        "words",
        nargs="*",
        metavar="NAME=VALUE",
        help="settings, as for train; and an experiment's folder (default: the machine alone)",
    )
    command.add_argument(
        "--json", type=Path, metavar="FILE", help="also write all that was found; - instead of the lines"
    )
    command.set_defaults(run=_doctor)
    take_any_order(command)


def _doctor(options: argparse.Namespace, _: Sequence[str]) -> int:
    from furnace.doctor.examination import examine_machine
    from furnace.doctor.finding import PROBLEM, Finding
    from furnace.doctor.telling import as_json, last_line, line_of
    from furnace.engine.files import json_text, write_text
    from furnace.engine.signals import resubmit_on_signal

    is_quiet = options.json == STANDARD_OUTPUT
    if options.json and not is_quiet:
        _require_writable(options.json.absolute())
    findings: list[Finding] = []

    def take(found: Iterable[Finding], tell: Callable[[str], object]) -> None:
        for finding in found:
            findings.append(finding)
            if not is_quiet:
                tell(line_of(finding))

    # What else is printed on the way must not stand in the JSON.
    with redirect_stdout(sys.stderr) if is_quiet else nullcontext(), resubmit_on_signal(NOTHING_KEPT):
        experiment, wanted = _asked(options.words)
        take(examine_machine(wanted), print)
        if experiment is not None:
            from furnace.doctor.estimate import examine
            from furnace.engine.bars import tell

            with closing(examine(experiment)) as examined:  # so that its files are removed, whatever ends it
                take(examined, tell)
    if is_quiet:
        print(json.dumps(as_json(findings), indent=2))  # in ASCII, because a terminal may have any encoding
    else:
        print(last_line(findings))
    if options.json and not is_quiet:
        write_text(options.json, json_text(as_json(findings)))
    return EXIT_FAILED if any(finding.state == PROBLEM for finding in findings) else 0


def _require_writable(file: Path) -> None:
    """Raises InputError if `file` cannot be written. Nothing is made: the command may still be refused, or stopped."""
    from furnace.doctor.wanted import try_to_write
    from furnace.engine.files import writing

    if file.is_dir():
        raise InputError(f"--json: expected a file, found the folder {file}; name a file in it")
    with writing(file):
        try_to_write(file.parent)


def _asked(words: Sequence[str]) -> tuple["Experiment | None", "Wanted"]:
    """Returns the experiment that the command's words name, if any, and what the machine is looked at for.

    Where a package cannot be imported that every run needs, the words are not read: the findings say what is wrong.

    Raises:
        InputError: a word is neither a setting nor an experiment's folder, or torchrun has started this process.
    """
    from furnace.doctor.packages import faults
    from furnace.doctor.wanted import Wanted, wanted_by
    from furnace.engine.place import find_place

    is_one_of_several = False
    with suppress(InputError):  # that some of torchrun's variables are left over becomes a finding
        is_one_of_several = find_place().launched
    if is_one_of_several:
        raise CommonInputError(
            "doctor: torchrun has started this process; expected one process; start it without torchrun"
        )
    if faults():
        return None, Wanted()
    from furnace.config.experiment import read_experiment
    from furnace.config.settings import read_settings

    pairs, folders = split_settings(words)
    if len(folders) > 1:
        raise InputError(f"expected one experiment at most, found {', '.join(folders)}; name one")
    texts = texts_of(pairs)
    if not folders:
        return None, wanted_by(read_settings({}, texts))
    experiment = read_experiment(folders[0], texts, with_data=False)
    return experiment, wanted_by(experiment.settings)
