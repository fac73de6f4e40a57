"""What is seen of several runs at a time: a line for each that is drawn anew, or now and then a line that stays."""

import sys
import time
from collections.abc import Iterable
from contextlib import ExitStack
from typing import Self

from furnace.engine.bars import Bar, bar, tell

BETWEEN = 600.0  # seconds between two lines about a run where no terminal shows them


class LiveLines:
    """Shows what runs do, within a `with` block: on a terminal the last `slots` lines, one for each run at a time.

    Args:
        slots: how many runs go on at a time.
    """

    def __init__(self, slots: int) -> None:
        self._slots = slots
        self._bars: list[Bar] = []
        self._told = time.monotonic()
        self._stack = ExitStack()

    def __enter__(self) -> Self:
        if sys.stderr.isatty():
            for slot in range(self._slots):
                line = bar(total=0, bar_format="{desc}", position=slot, leave=False)
                self._bars.append(self._stack.enter_context(line))
        return self

    def __exit__(self, *_: object) -> None:
        self._stack.close()

    def tell(self, line: str) -> None:
        """Prints a line that stays."""
        tell(line)
        sys.stdout.flush()  # of a program of one's own it may be a file, which Python fills in blocks

    def show(self, lines: Iterable[tuple[int, str]]) -> None:
        """Shows what each run does: its slot and its line. Without a terminal, most calls do nothing."""
        if self._bars:
            shown = dict(lines)
            for slot, line in enumerate(self._bars):
                if line.desc != (text := shown.get(slot, "")):
                    line.set_description_str(text)
        elif time.monotonic() - self._told >= BETWEEN:
            self._told = time.monotonic()
            for _, text in lines:
                self.tell(text)
