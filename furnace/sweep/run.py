"""One run of several at a time: its processes, one after the other, whose output goes into its log."""

import shlex
import subprocess
import time
from contextlib import suppress

from furnace.engine.files import claim, writing
from furnace.errors import EXIT_RESUBMIT, InputError
from furnace.sweep.jobs import Job, start
from furnace.sweep.log_tail import HEAD, LogTail
from furnace.sweep.sharing import Share


class Run:
    """A run that goes on: training, then evaluation, each a process.

    Args:
        number: its place among all, such as `[3/12]`.
        job: what is run.
        share: its share of the machine.

    Raises:
        InputError: another sweep has begun this run, the log cannot be written, or no process can be started.
    """

    def __init__(self, number: str, job: Job, share: Share) -> None:
        self.label, self.job = f"{number} {job.title}", job
        self._number = number
        self._begun = time.monotonic()
        self._environment = share.environment
        self._parts = list(job.commands(share.settings).items())
        # Training locks the folder, too; but two sweeps that begin the same run would first mix their lines in one log.
        self._lock = claim(job.log.with_name(".sweep"))
        try:
            with writing(job.log):
                self.tail = LogTail(job.log, job.log.stat().st_size if job.log.exists() else 0)
            self._begin_part()
        except InputError:
            self._unlock()
            raise

    @property
    def minutes(self) -> float:
        """How long it has gone on."""
        return (time.monotonic() - self._begun) / 60

    @property
    def line(self) -> str:
        """What it does, in one line; its title comes last, where a narrow terminal cuts the line."""
        return f"{self._number} {f'{self._doing} {self.tail.last()}'.rstrip()}  {self.job.title}"

    def status(self, goes_on: bool) -> int | None:
        """Returns the exit status of the run, None while it goes on; its next part begins here.

        Args:
            goes_on: whether another part may begin.

        Raises:
            InputError: the log cannot be written, or no process can be started.
        """
        status = self._process.poll()
        if status != 0 or not self._parts:
            return status
        if not goes_on:
            return EXIT_RESUBMIT
        self._begin_part()
        return None

    def ask_to_stop(self, number: int) -> None:
        """Passes a signal on to its process, which passes it on to those of its own."""
        self._process.send_signal(number)

    def close(self) -> None:
        """Waits until its process has ended, and lets other sweeps begin the run."""
        self._process.wait()
        self._unlock()

    def _unlock(self) -> None:
        if self._lock:
            with suppress(OSError):  # a server may say only here that its disk is full; the lock is gone all the same
                self._lock.close()

    def _begin_part(self) -> None:
        self._doing, command = self._parts.pop(0)
        head = f"{HEAD}{time.strftime('%Y-%m-%d %H:%M:%S')}, {self._doing}: {shlex.join(command)}\n"
        with writing(self.job.log):
            log = open(self.job.log, "ab", buffering=0)
        with log:
            with writing(self.job.log):
                log.write(head.encode("utf-8", "backslashreplace"))
            self._process = start(
                command, self._environment, stdin=subprocess.DEVNULL, stdout=log, stderr=subprocess.STDOUT
            )
