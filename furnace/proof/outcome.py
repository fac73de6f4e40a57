"""How a promise ends that does not hold, or that cannot be tried."""

import math
from collections.abc import Iterable, Mapping


class BrokenPromiseError(Exception):
    """A promise does not hold; the message says what was found and what was expected."""


class NotHereError(Exception):
    """A promise cannot be tried on this machine; the message says why."""


def require(holds: bool, found: str, expected: str) -> None:
    """Raises BrokenPromiseError unless a promise `holds`."""
    if not holds:
        raise BrokenPromiseError(f"found {found}, expected {expected}")


def largest(values: Iterable[float]) -> float:
    """Returns the largest of some numbers; if one is NaN, NaN, which `max` would pass over."""
    numbers = list(values)
    return math.nan if any(map(math.isnan, numbers)) else max(numbers)


def within(limits: Mapping[str, tuple[float, float]]) -> str:
    """Returns in words by how much things differ.

    Args:
        limits: for each thing by how much it differs, and by how much it may.

    Raises:
        BrokenPromiseError: one differs by more, or by what is no number.
    """
    for name, (found, limit) in limits.items():
        require(found <= limit, f"{name} off by {found:.2g}", f"at most {limit:g}")
    return ", ".join(f"{name} off by {found:.1g} (at most {limit:g})" for name, (found, limit) in limits.items())
