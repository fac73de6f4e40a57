"""Readers of single settings: text to a value, or a ValueError that says what was expected."""

import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

Reader = Callable[[str], Any]


def folder(value: str) -> Path:
    try:
        return Path(value).expanduser()
    except RuntimeError:  # ~somebody
        raise ValueError("a folder, ~ only before the name of a user") from None


def file_or_word(value: str) -> str:
    return str(folder(value)) if value.startswith("~") else value


def choice(*options: str) -> Reader:
    def read(value: str) -> str:
        if value not in options:
            raise ValueError(f"one of {', '.join(options)}")
        return value

    return read


def integer(low: int, high: int | None = None) -> Reader:
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
    words = {"1": True, "true": True, "yes": True, "on": True, "0": False, "false": False, "no": False, "off": False}
    if value.lower() not in words:
        raise ValueError("0 or 1")
    return words[value.lower()]


def word_or(word: str, read: Reader) -> Reader:
    """`word`, which stays as it is, or what `read` accepts."""

    def read_either(value: str) -> Any:
        if value == word:
            return word
        try:
            return read(value)
        except ValueError as error:
            raise ValueError(f"{word}, or {error}") from None

    return read_either


def several(read: Reader) -> Reader:
    return lambda value: tuple(read(part.strip()) for part in value.split(","))


def fractions(value: str) -> tuple[float, float]:
    expected = "two numbers a,b with 0 <= a <= b <= 1"
    try:
        start, end = (float(part) for part in value.split(","))
    except ValueError:
        raise ValueError(expected) from None
    if not 0 <= start <= end <= 1:
        raise ValueError(expected)
    return start, end


def epochs(value: str) -> str | tuple[int, ...]:
    """`last`, `all`, `none`, or epochs: `30,34` and `20-34` (both ends included), also mixed."""
    if value in ("last", "all", "none"):
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
