"""What reads whole numbers from the arguments of a command, for argparse."""

import argparse
from collections.abc import Callable


def at_least(low: int) -> Callable[[str], int]:
    """Returns what reads a whole number of at least `low`."""

    def read(text: str) -> int:
        if not text.isdecimal() or int(text) < low:
            raise argparse.ArgumentTypeError(f"expected a whole number of at least {low}, found {text!r}")
        return int(text)

    return read


def several_from(low: int) -> Callable[[str], tuple[int, ...]]:
    """Returns what reads whole numbers of at least `low`, with commas between them; each counts once."""
    read = at_least(low)
    return lambda text: tuple(dict.fromkeys(map(read, text.split(","))))
