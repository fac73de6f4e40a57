"""What is seen of several runs at a time: a line for each that is drawn anew, or now and then a line that stays."""

import os
import shutil
import sys
import time
import unicodedata
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
            shown, width = dict(lines), _columns() - 1  # a full line would break on some terminals
            for slot, line in enumerate(self._bars):
                if line.desc != (text := cut(shown.get(slot, ""), width)):
                    line.set_description_str(text)
        elif time.monotonic() - self._told >= BETWEEN:
            self._told = time.monotonic()
            for _, text in lines:
                self.tell(text)


def cut(text: str, width: int) -> str:
    """Returns as much of a line as fits into so many columns; not every version of tqdm cuts lines itself."""
    text = text.expandtabs(1)
    columns = 0
    for position, letter in enumerate(text):
        columns += 2 if unicodedata.east_asian_width(letter) in "WF" else 1
        if columns > width:
            return text[:position]
    return text


def _columns() -> int:
    """Returns how wide the terminal is that shows the lines."""
    try:
        columns = os.get_terminal_size(sys.stderr.fileno()).columns
    except (OSError, ValueError):  # it has no descriptor, or says nothing of its size
        columns = 0
    return columns or shutil.get_terminal_size().columns
