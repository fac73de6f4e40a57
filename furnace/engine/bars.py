"""Progress bars, all made here, and lines that are printed above them."""

import sys
import time
from collections.abc import Iterable
from contextlib import AbstractContextManager
from typing import Any

from tqdm import tqdm

# Seconds between two states of a bar: on a terminal, and in a file, where each is a line that stays.
WATCHED, UNWATCHED = 0.2, 30.0


class Bar(tqdm):
    """A progress bar that is redrawn for no other reason either where nobody watches, such as a line above it."""

    def refresh(self, *arguments: Any, **options: Any) -> None:
        """Draws the bar, unless it is too soon."""
        if _is_watched() or time.time() - getattr(self, "last_print_t", 0) >= self.mininterval:
            super().refresh(*arguments, **options)


def bar(steps: Iterable | None = None, **options: Any) -> Bar:
    """Returns a progress bar on standard error around `steps`; without any, the caller counts with its `update`.

    Args:
        steps: what to go through.
        options: `total`, `desc`, `unit` and others that tqdm takes.
    """
    between = WATCHED if _is_watched() else UNWATCHED
    return Bar(steps, mininterval=between, maxinterval=max(10.0, between), dynamic_ncols=True, **options)


def tell(line: str) -> None:
    """Prints a line above the bars."""
    tqdm.write(line)


def above_bars() -> AbstractContextManager:
    """A context in which standard error can be written to: bars are cleared before, and drawn again behind it."""
    return tqdm.external_write_mode(file=sys.stderr)


def _is_watched() -> bool:
    return sys.stderr.isatty()
