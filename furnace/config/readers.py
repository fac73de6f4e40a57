"""Readers of single settings. Each turns text into a value, or raises a ValueError that says what was expected."""

import math
import os
import re
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any, Literal

from furnace.errors import perhaps

MOST_EPOCHS = 1_000_000
Reader = Callable[[str], Any]
Epochs = Literal["last", "all", "none"] | tuple[int, ...]


def folder(value: str) -> Path:
    """Reads a folder's path; `~` and `~name` stand for a user's home, `$NAME` for a variable of the environment."""
    value = os.path.expandvars(value)
    if (unset := re.search(r"\$(\w+|\{\w+\})", value)) and not os.path.lexists(value):
        raise ValueError(f"a folder ({unset[0]} is no variable of the environment)")
    if "\0" in value or "\n" in value:
        raise ValueError("a folder's name on one line")
    try:
        return Path(value).expanduser()
    except RuntimeError:  # ~somebody, or ~ where the system knows no home
        raise ValueError("a folder, ~ only before the name of a user, or where HOME is set") from None


def weights(value: str) -> str:
    """Reads a source of weights: torchvision's, hub, none, or a file's path, in which `~` and `$NAME` are replaced."""
    if value.lower() in ("none", "null", "random"):
        return "none"
    if (scheme := re.match(r"(\w+):/", value)) and scheme[1] != "torchvision":
        raise ValueError("a file, torchvision://resnet50, hub or none (download it yourself)")
    return str(folder(value)) if value.startswith(("~", "$")) else value


def one_name(value: str) -> str:
    """Reads the name of a network's part, such as `resnet50` or `tu-vit_base_patch16_dinov3.lvd1689m`."""
    if not re.fullmatch(r"[\w.-]+", value):
        raise ValueError("one name of letters, digits, points and dashes")
    return value


def ratio(value: str) -> int:
    """Reads N, or 1/N."""
    try:
        return integer(1)(value.removeprefix("1/"))
    except ValueError:
        raise ValueError("N or 1/N, a whole number of at least 1") from None


def gpus(value: str) -> int | Literal["all"]:
    """Reads how many GPUs are meant; a list of their numbers is none."""
    try:
        return word_or("all", integer(0))(value)
    except ValueError as error:
        hint = f", how many (CUDA_VISIBLE_DEVICES={value} says which)" if re.fullmatch(r"\d+(,\d+)+", value) else ""
        raise ValueError(f"{error}{hint}") from None


def choice(*options: str) -> Reader:
    """Returns a reader that accepts one of these words."""

    def read(value: str) -> str:
        if value not in options:
            raise ValueError(f"one of {', '.join(options)}{perhaps(value, options)}")
        return value

    return read


def integer(low: int, high: int | None = None) -> Reader:
    """Returns a reader of whole numbers from `low` to `high`, both included."""

    def read(value: str) -> int:
        expected = f"a whole number of at least {low}" + ("" if high is None else f" and at most {high}")
        try:
            number = int(value)
        except ValueError:
            raise ValueError(expected) from None
        if number < low or (high is not None and number > high):
            raise ValueError(expected)
        return number

    return read


def number(low: float, high: float = math.inf, low_allowed: bool = True) -> Reader:
    """Returns a reader of finite numbers from `low` to `high`; `low` itself counts only if `low_allowed`."""

    def read(value: str) -> float:
        limit = f"number of {'at least' if low_allowed else 'more than'} {low:g}"
        expected = limit if high == math.inf else f"{limit} and at most {high:g}"
        try:
            result = float(value)
        except ValueError:
            hint = " (with a point, not a comma)" if re.fullmatch(r"\d+,\d+", value) else ""
            raise ValueError(f"a {expected}{hint}") from None
        if not math.isfinite(result):
            raise ValueError(f"a finite {expected}")
        if not (low <= result <= high) or (result == low and not low_allowed):
            raise ValueError(f"a {expected}")
        return result

    return read


def zero_or(read: Reader) -> Reader:
    """Returns a reader that accepts 0, and every other number that `read` accepts."""
    read_other = word_or("0", read)

    def read_either(value: str) -> Any:
        with suppress(ValueError):
            return number(0, 0)(value)  # 0.0 and 0e0 as well
        return read_other(value)

    return read_either


def switch(value: str) -> bool:
    """Reads 0 or 1; the words true, yes, on, false, no and off are understood, too."""
    words = {"1": True, "true": True, "yes": True, "on": True, "0": False, "false": False, "no": False, "off": False}
    if value.lower() not in words:
        raise ValueError("0 or 1")
    return words[value.lower()]


def word_or(word: str, read: Reader) -> Reader:
    """Returns a reader that leaves `word` as it is and gives every other text to `read`."""

    def read_either(value: str) -> Any:
        if value.lower() == word:
            return word
        try:
            return read(value)
        except ValueError as error:
            raise ValueError(f"{word}, or {error}") from None

    return read_either


def none_or(read: Reader) -> Reader:
    """Returns a reader that turns `none` into None and gives every other text to `read`."""
    read_either = word_or("none", read)
    return lambda value: None if value.lower() == "none" else read_either(value)


def several(read: Reader, count: int | None = None) -> Reader:
    """Returns a reader of values that are separated by commas, each of which `read` accepts; it makes a tuple.

    Args:
        count: how many they must be; None for any number.
    """

    def read_all(value: str) -> tuple:
        parts = value.split(",")
        if count is not None and len(parts) != count:
            raise ValueError(f"{count} values with commas between them")
        try:
            return tuple(read(part.strip()) for part in parts)
        except ValueError as error:
            hint = ", several with commas between them" if re.search(r"[\s;]|^,|,,|,$", value) else ""
            raise ValueError(f"{error}{hint}") from None

    return read_all


def fractions(value: str) -> tuple[float, float]:
    """Reads `a,b`: two fractions from 0 to 1, of which the second is not the smaller one."""
    expected = "two numbers a,b with 0 <= a <= b <= 1"
    try:
        start, end = (float(part) for part in value.split(","))
    except ValueError:
        raise ValueError(expected) from None
    if not 0 <= start <= end <= 1:
        raise ValueError(expected)
    return start, end


def epochs(value: str) -> Epochs:
    """Reads `last`, `all`, `none`, or epochs such as `30,34` and `20-34` (both ends included), also mixed."""
    match value:
        case "last" | "all" | "none":
            return value
    found: list[int] = []
    for part in value.split(","):
        first, dash, last = part.partition("-")
        if not first.strip().isdecimal() or (dash and not last.strip().isdecimal()):
            raise ValueError(f"last, all, none{perhaps(value, ('last', 'all', 'none'))}, a range 20-34 or a list 30,34")
        start, end = int(first), int(last or first)
        if max(start, end) > MOST_EPOCHS:
            raise ValueError(f"epochs up to {MOST_EPOCHS}")
        if end < start:
            raise ValueError("a range that ends after it starts")
        found += range(start, end + 1)
    return tuple(dict.fromkeys(found))  # each is evaluated once
