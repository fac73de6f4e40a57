"""The end of a log that grows: what its run does at the moment, and why it failed."""

import re
from pathlib import Path

HEAD = "--- "  # how a line begins that the sweep itself writes into the log
NEAR, FAR = 4096, 65536  # bytes: of the last line, and of the end of a run that failed
COLOURS = re.compile(r"\x1b\[[0-9;?]*[A-Za-z]")
BLOCKS = re.compile(r"(?<=%)\|[^|]*\|")  # the picture within a progress bar


class LogTail:
    """Reads the end of a log, and nothing before `start`.

    Args:
        path: the log.
        start: its size when the run began; what is before belongs to other starts.
    """

    def __init__(self, path: Path, start: int) -> None:
        self._path, self._start = path, start
        self._size, self._last = -1, ""

    def last(self) -> str:
        """Returns the last line or progress bar, an empty text before there is one. It reads only what has grown."""
        size = self._size_now()
        if size != self._size:
            lines = self._lines(NEAR)
            self._size, self._last = size, lines[-1] if lines else ""
        return self._last

    def error(self) -> str:
        """Returns the last line that tells of an error, or else the last line."""
        lines = self._lines(FAR)
        errors = [line for line in lines if line.startswith("error: ")]
        return (errors or lines or ["it said nothing"])[-1]

    def _size_now(self) -> int:
        try:
            return self._path.stat().st_size
        except OSError:
            return -1

    def _lines(self, most: int) -> list[str]:
        """Returns the lines and states of bars within the last bytes, without what the sweep itself wrote."""
        try:
            with open(self._path, "rb") as file:
                file.seek(max(self._start, self._size_now() - most))
                text = file.read(2 * most).decode("utf-8", "replace")
        except OSError:
            return []
        parts = (BLOCKS.sub("", COLOURS.sub("", part)).strip() for part in re.split(r"[\r\n]", text))
        return [part for part in parts if part and not part.startswith(HEAD)]
