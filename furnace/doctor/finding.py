"""What the doctor found of one thing: whether it is well, and what to do where it is not."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Final, Literal

from furnace.errors import InputError

State = Literal["ok", "note", "problem"]
OK: Final = "ok"
NOTE: Final = "note"
PROBLEM: Final = "problem"  # it would stop a run


@dataclass(frozen=True)
class Finding:
    """One line of what the doctor says.

    Attributes:
        state: OK, NOTE where something is worth knowing, PROBLEM where it would stop a run.
        subject: what was looked at, in a word or two.
        found: what was found.
        remedy: what to do; empty where nothing is to be done.
        figures: numbers and words by name, for programs that read the JSON; bytes and seconds where nothing else is
            said.
    """

    state: State
    subject: str
    found: str
    remedy: str = ""
    figures: Mapping[str, Any] = field(default_factory=dict)


def of_error(state: State, subject: str, error: InputError | str) -> Finding:
    """Returns the finding that an error's line makes: the remedy stands behind its last semicolon."""
    found, _, remedy = str(error).rpartition("; ")
    return Finding(state, subject, found or remedy, remedy if found else "")
