"""What a sweep varies: methods, ratios and seeds by lists of their own, any other setting by `--vary`."""

import re
from collections.abc import Sequence
from typing import Any, NamedTuple

from furnace.config.arguments import require_readable
from furnace.config.settings import FIELDS, RESULT_FIELDS, meant
from furnace.errors import InputError

LISTED = {"methods": "method", "ratios": "labeled_ratio", "seeds": "seed"}  # the setting of each option's list
OPTION_OF = {name: option for option, name in LISTED.items()}
DECISIVE = (*RESULT_FIELDS, "lists_path")  # what decides which networks are trained: other lists do, too
SCORING = ("eval_scales", "eval_flip")  # what decides only how images are scored


class Value(NamedTuple):
    """One value of a setting that `--vary` names."""

    name: str
    text: str  # as it was given
    shown: str  # the value that was read from it: `0.990` and `0.99` are the same

    @property
    def in_folder(self) -> str:
        """What stands for the value in a folder's name; characters that do not belong there are dashes."""
        plain = re.sub(r"[^\w.+-]+", "-", self.shown).strip("-")
        return f"_{self.name}-{plain}"


def read_list(option: str, text: str) -> list[str]:
    """Splits the list of one of the options in LISTED at its commas.

    Returns:
        Each value as it is read: `1/8` is `8`, and `01` is `1`.

    Raises:
        InputError: a value is empty, comes twice or cannot be read.
    """
    parts = [part.strip() for part in text.split(",")]
    values: list[str] = []
    for part in filter(None, parts):
        require_readable(option, LISTED[option], part)
        values.append(str(FIELDS[LISTED[option]].metadata["read"](part)))
    if len(set(values)) < len(parts):
        raise InputError(f"--{option}: expected different values with commas between them, found {text!r}; mend it")
    return values


def read_varied(options: Sequence[str]) -> list[list[Value]]:
    """Reads what stands behind each `--vary`: NAME=V1,V2, or NAME='V1;V2' where the values hold commas themselves.

    A `;` at the end makes one value of all that is before it.

    Returns:
        The values of each setting, in the order in which they were given.

    Raises:
        InputError: a setting is unknown, cannot be varied in this way or comes twice; or a value is empty, comes twice
            or cannot be read.
    """
    found: dict[str, list[Value]] = {}
    for option in options:
        name, equals, text = option.partition("=")
        if not name or not equals:
            raise InputError(f"--vary: expected NAME=V1,V2 without spaces around the =, found {option!r}; mend it")
        _require_variable(name)
        if name in found:
            raise InputError(f"--vary: {name} is given twice; give all its values at once, {name}=V1,V2")
        found[name] = _values(name, text)
    return list(found.values())


def _require_variable(name: str) -> None:
    """Raises InputError unless the setting may be given to `--vary`."""
    if name in OPTION_OF:
        raise InputError(f"--vary: {name} has a list of its own; say --{OPTION_OF[name]}")
    if name not in FIELDS:
        likely = f" (perhaps {other})" if (other := meant(name)) else ""
        raise InputError(f"--vary: unknown setting {name!r}{likely}; python -m furnace train --settings lists all")
    if name in SCORING:
        raise InputError(
            f"--vary: {name} decides only how it is scored; evaluate again with eval, once for each {name}=VALUE"
        )
    if name not in DECISIVE:
        raise InputError(
            f"--vary: {name} decides neither what is trained nor how it is scored; give all runs one, {name}=VALUE"
        )


def _values(name: str, text: str) -> list[Value]:
    separator = ";" if ";" in text else ","
    parts = [part.strip() for part in text.removesuffix(";").split(separator)]
    if not all(parts):
        raise InputError(f"--vary: {name}: expected values with {separator} between them, found {text!r}; mend it")
    values = [Value(name, part, _shown(_read(name, part, separator))) for part in parts]
    if len({value.shown for value in values}) < len(values):
        raise InputError(f"--vary: {name}: expected different values, found {text!r}; mend it")
    return values


def _read(name: str, text: str, separator: str) -> Any:
    try:
        return FIELDS[name].metadata["read"](text)
    except ValueError as error:
        remedy = "mend it"
        if separator == "," and isinstance(FIELDS[name].default, tuple):  # a value has commas of its own
            remedy = f"put ; between the values, --vary '{name}=V1;V2'"
        raise InputError(f"--vary: {name}: expected {error}, found {text!r}; {remedy}") from None


def _shown(value: Any) -> str:
    """Returns a value as one would write it: 1 for a switch that is on, 0.5,1 for a list, none for what is not."""
    if isinstance(value, tuple):
        return ",".join(map(_shown, value))
    if isinstance(value, bool | None):
        return "none" if value is None else str(int(value))
    return repr(value).removesuffix(".0") if isinstance(value, float) else str(value)
