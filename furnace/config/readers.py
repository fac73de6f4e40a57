"""Readers of single settings. Each turns text into a value, or raises a ValueError that says what was expected."""

import math
from collections.abc import Callable
from pathlib import Path
from typing import Any, Literal

Reader = Callable[[str], Any]
Epochs = Literal["last", "all", "none"] | tuple[int, ...]


def folder(value: str) -> Path:
    """Reads a folder's path; `~` and `~name` stand for a user's home."""
    try:
        return Path(value).expanduser()
    except RuntimeError:  # ~somebody
        raise ValueError("a folder, ~ only before the name of a user") from None


def file_or_word(value: str) -> str:
    """Reads a file's path, in which `~` stands for a user's home, or a word such as `none`."""
    return str(folder(value)) if value.startswith("~") else value


def choice(*options: str) -> Reader:
    """Returns a reader that accepts one of these words."""

    def read(value: str) -> str:
        if value not in options:
            raise ValueError(f"one of {', '.join(options)}")
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
        limit = f"a number of {'at least' if low_allowed else 'more than'} {low:g}"
        expected = limit if high == math.inf else f"{limit} and at most {high:g}"
        try:
            result = float(value)
        except ValueError:
            raise ValueError(expected) from None
        if not (low <= result <= high) or result == math.inf or (result == low and not low_allowed):
            raise ValueError(expected)
        return result

    return read


def switch(value: str) -> bool:
    """Reads 0 or 1; the words true, yes, on, false, no and off are understood, too."""
    words = {"1": True, "true": True, "yes": True, "on": True, "0": False, "false": False, "no": False, "off": False}
    if value.lower() not in words:
        raise ValueError("0 or 1")
    return words[value.lower()]


def word_or(word: str, read: Reader) -> Reader:
    """Returns a reader that leaves `word` as it is and gives every other text to `read`."""

    def read_either(value: str) -> Any:
        if value == word:
            return word
        try:
            return read(value)
        except ValueError as error:
            raise ValueError(f"{word}, or {error}") from None

    return read_either


def none_or(read: Reader) -> Reader:
    """Returns a reader that turns `none` into None and gives every other text to `read`."""
    read_either = word_or("none", read)
    return lambda value: None if value == "none" else read_either(value)


def several(read: Reader) -> Reader:
    """Returns a reader of values that are separated by commas, each of which `read` accepts; it makes a tuple."""
    return lambda value: tuple(read(part.strip()) for part in value.split(","))


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
            raise ValueError("last, all, none, a range 20-34 or a list 30,34")
        found += range(int(first), int(last or first) + 1)
    if not found:
        raise ValueError("a range that ends after it starts")
    return tuple(found)
