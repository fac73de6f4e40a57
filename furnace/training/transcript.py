"""`train.log`: every line that a run prints, so that a run without a terminal can be read afterwards."""

import os
import socket
import time
from pathlib import Path

from furnace.errors import because, say_note

MOST_WAITING = 1000  # lines that are kept while the file cannot be written


class Transcript:
    """Adds the lines of this process to those of earlier starts, and those of a run's other processes.

    It begins once the folder is there, so that a run that is refused makes no folder. A file that cannot be written is
    a note; the lines then wait until it can. It is opened for each line, because it may be moved away, or its disk be
    mounted anew, while a run goes on for weeks.

    Args:
        path: the file.
        errors_alone: whether lines count only from the first error on, as for processes that do not speak for all.
    """

    def __init__(self, path: Path, errors_alone: bool = False) -> None:
        self.path, self._errors_alone = path, errors_alone
        started = time.strftime("%Y-%m-%d %H:%M:%S")
        self._waiting = [f"--- {started}, process {os.getpid()} on {socket.gethostname()}"]
        self._failed = False

    def add(self, line: str) -> None:
        """Writes a line, behind those that wait."""
        is_error = line.startswith(("error: ", "Traceback "))
        if self._errors_alone and not is_error:
            return
        self._errors_alone = False
        self._waiting = [*self._waiting[-MOST_WAITING:], line]
        text = "".join(f"{line}\n" for line in self._waiting)
        try:
            if self.path.parent.is_dir():
                with open(self.path, "ab", buffering=0) as file:
                    file.write(text.encode("utf-8", "backslashreplace"))
                self._waiting = []
        except OSError as error:
            if not self._failed and not is_error:
                self._failed = True
                say_note(f"the run goes on without {self.path}: {because(error)}")
