"""The terminal as a place that only tells: writing to it never fails, and never ends what it tells of."""

import errno
import os
import sys
import traceback
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager, suppress
from typing import Any, TextIO

from furnace.errors import because, say_note

MAY_PASS = (errno.ENOSPC, errno.EDQUOT)  # a full disk may be emptied, so that the next line can be written
NOBODY_READS = (errno.EPIPE, errno.EIO, errno.ECONNRESET)  # the reader or the terminal is gone, and knows it
KEPT = 100  # lines that were printed before anybody takes them
BAR = ("\r", "\x1b")  # what a progress bar writes begins with one of these


class Printed:
    """Whole lines that were printed, but for those of progress bars; the last ones are kept until somebody takes them.

    Attributes:
        take: receives every line.
    """

    def __init__(self) -> None:
        self._kept: deque[str] = deque(maxlen=KEPT)
        self.take: Callable[[str], object] = self._kept.append

    def give_to(self, take: Callable[[str], object]) -> None:
        """Gives all lines to `take` from now on, and those before that were kept."""
        self.take = take
        while self._kept:
            take(self._kept.popleft())


class SafeStream:
    """Standard output or error, which drops what cannot be written; once nobody reads it any more, everything.

    What has no character in the stream's encoding is written as an escape. Every line is written at once.

    Args:
        stream: where the text goes; None if the process was started with it closed.
        name: what it is called where it cannot be written.
        printed: receives every whole line, too.
    """

    def __init__(self, stream: TextIO | None, name: str, printed: Printed) -> None:
        self._stream = stream or _nowhere()
        self._name, self.printed = name, printed
        self._failed = False
        self._after_bar = False  # whether a bar stands at the end, without an end of line
        self._unfinished = ""  # the line that has no end yet
        if hasattr(self._stream, "reconfigure"):  # tests may put something else there
            self._stream.reconfigure(errors="backslashreplace", line_buffering=True)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._stream, name)

    def write(self, text: str) -> int:
        """Writes what can be written; a line that would go on behind a progress bar begins on a line of its own."""
        of_bar = text.startswith(BAR)
        separate = "\n" if self._after_bar and not of_bar and text.strip() else ""
        self._after_bar = of_bar and text != "\r" if text else self._after_bar  # a bar that is cleared ends with "\r"
        if not of_bar:  # first, because a terminal may keep us waiting
            *lines, self._unfinished = (self._unfinished + text).split("\n")
            for line in filter(None, lines):
                self.printed.take(line)
        self._attempt(lambda: self._stream.write(separate + text))
        return len(text)

    def writelines(self, lines: Iterable[str]) -> None:
        """Writes one text after the other."""
        for line in lines:
            self.write(line)

    def flush(self) -> None:
        """Writes what is still in memory."""
        self._attempt(self._stream.flush)

    def end(self) -> None:
        """Flushes for the last time, so that nothing is left that Python would fail to write when it ends."""
        try:
            self._stream.flush()
        except (OSError, ValueError):
            self._lead_nowhere()

    def _attempt(self, write: Callable[[], object]) -> None:
        try:
            write()
        except (OSError, ValueError) as error:  # ValueError: it was closed
            number = error.errno if isinstance(error, OSError) else None
            if number not in MAY_PASS:
                self._lead_nowhere()
            if not self._failed and isinstance(error, OSError) and number not in NOBODY_READS:
                self._failed = True
                say_note(f"{self._name} cannot be written: {because(error)}")

    def _lead_nowhere(self) -> None:
        """Drops all that comes, also from libraries and child processes, and what Python still has in memory."""
        with suppress(OSError, ValueError):
            nowhere = _nowhere()
            os.dup2(nowhere.fileno(), self._stream.fileno())
            return
        self._stream = _nowhere()


def take_utf8() -> None:
    """Starts this process anew with UTF-8 for the names of files, where the locale has another encoding for them.

    Lists, declarations and settings hold names in UTF-8, and a name of a class or a file may have letters that other
    encodings lack. What goes to the terminal stays in the terminal's encoding.
    """
    if sys.getfilesystemencoding() != "utf-8" and os.environ.get("PYTHONUTF8") != "1":
        os.environ["PYTHONUTF8"] = "1"
        os.environ.setdefault("PYTHONIOENCODING", f"{sys.stdout.encoding}:backslashreplace" if sys.stdout else "utf-8")
        os.execv(sys.executable, [sys.executable, *sys.orig_argv[1:]])


@contextmanager
def safe_output() -> Iterator[None]:
    """Makes standard output and error safe within this context. An error that leaves it is copied as its traceback."""
    for number in range(3):
        try:
            os.fstat(number)
        except OSError:
            # The next file that is opened would take its place, and receive what is meant for the terminal.
            os.open(os.devnull, os.O_RDWR)
    before, printed = (sys.stdout, sys.stderr), Printed()
    # SafeStream has the methods of a stream by its __getattr__.
    safe = (SafeStream(sys.stdout, "standard output", printed), SafeStream(sys.stderr, "standard error", printed))
    sys.stdout, sys.stderr = safe
    try:
        yield
    except Exception:
        printed.take(traceback.format_exc().rstrip())  # Python prints it, but when this context has been left
        raise
    finally:
        for stream in safe:
            stream.end()
        sys.stdout, sys.stderr = before


def copy_lines(take: Callable[[str], object]) -> None:
    """Gives every line that is printed to `take`, too: those since `safe_output` was entered, until it is left."""
    if isinstance(sys.stdout, SafeStream):
        sys.stdout.printed.give_to(take)


def _nowhere() -> TextIO:
    return open(os.devnull, "w", encoding="utf-8")
