"""A benchmark's rows, each printed the moment it is known, and its figures as one JSON object, however it ends."""

import json
import os
import signal
import threading
import traceback
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Self

from furnace.errors import in_short


class Report:
    """A table, or several, that grow row by row on standard output; within a `with` block.

    The last line is the JSON object of all figures that are known by then: at the end of the block, after an error, and
    also when SIGTERM comes, which `timeout` sends. What fails within `attempt` is a row, not the end.

    Args:
        header: the names of the first table's columns.
    """

    def __init__(self, *header: str) -> None:
        self.header = header
        self.figures: dict[str, object] = {}
        self.failed: list[str] = []
        self._writer: int | None = None

    def __enter__(self) -> Self:
        self._listen()
        self._begin_table()
        return self

    def __exit__(self, *_: object) -> None:
        self._unlisten()
        self._print_figures()

    def table(self, *header: str) -> None:
        """Begins another table."""
        self.header = header
        print()
        self._begin_table()

    def row(self, *cells: object) -> None:
        print(f"| {' | '.join(map(str, cells))} |", flush=True)

    def figure(self, name: str, value: float) -> None:
        self.figures[name] = round(value, 4)

    @contextmanager
    def attempt(self, what: str) -> Iterator[None]:
        """Turns an error within this context into a row; its traceback goes to standard error."""
        try:
            yield
        except Exception as error:
            traceback.print_exc()
            said = in_short(error).replace("|", "/")
            self.failed.append(what)
            self.row(what, f"failed: {said}", *[""] * (len(self.header) - 2))

    @property
    def status(self) -> int:
        """The exit status: 1 if anything failed."""
        return int(bool(self.failed))

    def _begin_table(self) -> None:
        self.row(*self.header)
        self.row(*["---"] * len(self.header))

    def _print_figures(self, **more: object) -> None:
        failed = {"failed": self.failed} if self.failed else {}
        print(json.dumps({**self.figures, **failed, **more}), flush=True)

    def _listen(self) -> None:
        """Lets a thread of its own wait for SIGTERM.

        Python's own handlers run in the main thread, which may be within a library for a minute, for example while
        cuDNN searches. The signal's number, however, is written into a pipe at once.
        """
        reader, self._writer = os.pipe()
        os.set_blocking(self._writer, False)
        self._before = signal.signal(signal.SIGTERM, lambda *_: None)
        signal.set_wakeup_fd(self._writer)
        os.register_at_fork(after_in_child=self._let_child_end)
        threading.Thread(target=self._end_on_signal, args=(reader,), daemon=True).start()

    def _unlisten(self) -> None:
        signal.set_wakeup_fd(-1)
        signal.signal(signal.SIGTERM, self._before)
        os.close(self._writer)  # which ends the thread
        self._writer = None

    def _let_child_end(self) -> None:
        """Loading workers are forked from this process, and SIGTERM is what ends them."""
        if self._writer is not None:
            signal.set_wakeup_fd(-1)
            signal.signal(signal.SIGTERM, signal.SIG_DFL)

    def _end_on_signal(self, reader: int) -> None:
        while numbers := os.read(reader, 1):
            if signal.SIGTERM in numbers:
                self._print_figures(stopped=True)
                os._exit(128 + signal.SIGTERM)
        os.close(reader)
