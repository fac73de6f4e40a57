"""Runs several jobs at a time, and passes a request to stop on to all of them."""

import signal
import time
from collections import Counter, deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from fractions import Fraction

from furnace.engine.signals import heeded
from furnace.errors import EXIT_BAD_INPUT, InputError
from furnace.sweep.jobs import STOPPED, Job, status_words
from furnace.sweep.live import LiveLines
from furnace.sweep.run import Run
from furnace.sweep.sharing import Share, shares

TICK = 0.2  # seconds between two looks at all runs
# So many runs in a row that fail within so many minutes make a GPU suspect: it would spoil all that wait, in seconds.
SUSPECT, AT_ONCE = 2, 1.0
OnEnd = Callable[[Job, int], object]


@dataclass(frozen=True)
class Failure:
    """A run that failed."""

    job: Job
    status: int
    reason: str  # the last error that it printed

    def __str__(self) -> str:
        return f"{self.job.title}: {status_words(self.status)}: {self.reason}; see {self.job.log}"


@dataclass
class Outcome:
    """Which runs did not end well; all others are done."""

    failures: list[Failure] = field(default_factory=list)
    stopped: list[Job] = field(default_factory=list)  # asked to stop while they went on
    waiting: list[Job] = field(default_factory=list)  # not begun: there was a request to stop, or no GPU is left
    no_gpu_left: bool = False  # on each of them, the last runs failed at once


def shares_of(jobs: Sequence[Job], slots: int, gpus_per_run: Fraction | int | None = None) -> list[Share]:
    """Returns what each of `slots` runs at a time gets of the machine; with fewer jobs, of so many as there are.

    Args:
        jobs: what is to be run.
        slots: how many runs go on at a time.
        gpus_per_run: how many GPUs each has, as furnace.sweep.sharing.shares takes it.

    Raises:
        InputError: the machine cannot be shared out in this way.
    """
    for name in ("NGPUS", "num_workers"):
        asked = sorted({str(getattr(job.experiment.settings, name)) for job in jobs})
        if len(asked) > 1:
            raise InputError(f"{name}: expected the same for all runs, found {' and '.join(asked)}; set one of them")
    if not jobs:
        return []
    settings = jobs[0].experiment.settings
    batch_sizes = sorted({job.experiment.settings.batch_size for job in jobs})
    return shares(slots, gpus_per_run, settings.NGPUS, settings.num_workers, batch_sizes)[: len(jobs)]


def run_all(
    jobs: Sequence[Job], slots: int, gpus_per_run: Fraction | int | None = None, on_end: OnEnd | None = None
) -> Outcome:
    """Runs all jobs in their order, `slots` at a time, and shows what they do. After a failure the others go on.

    A signal that asks for an end is passed on to all runs that go on; nothing more begins, and the function returns
    when they have ended. Where somebody else stops one of the runs, nothing more begins either, but the others go on
    to their ends. A GPU on which two runs in a row fail within a minute gets no more.

    Args:
        jobs: what to run, whether it is done or not; each has an OUTPUT_PATH of its own.
        slots: how many runs go on at a time.
        gpus_per_run: how many GPUs each has, as furnace.sweep.sharing.shares takes it.
        on_end: is called with each run that has ended, and its exit status.

    Raises:
        InputError: the machine cannot be shared out in this way, or two jobs have one OUTPUT_PATH. Then nothing has
            been run.
    """
    outputs = Counter(job.experiment.settings.OUTPUT_PATH for job in jobs)
    if twice := [path for path, count in outputs.items() if count > 1]:
        raise InputError(f"OUTPUT_PATH: two runs would write to {twice[0]}; give each a folder of its own")
    own = shares_of(jobs, slots, gpus_per_run)
    asked: list[int] = []
    before = {number: signal.signal(number, lambda got, _: asked.append(got)) for number in heeded()}
    try:
        with LiveLines(len(own)) as lines:
            return _Pool(jobs, own, lines, asked, on_end).run()
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


class _Pool:
    """The runs that go on, and those that wait.

    Args:
        jobs: what to run.
        shares: that of each run at a time.
        lines: where it is shown.
        asked: the signals so far; a handler adds to it.
        on_end: is called with each run that has ended, and its exit status.
    """

    def __init__(
        self, jobs: Sequence[Job], shares: Sequence[Share], lines: LiveLines, asked: list[int], on_end: OnEnd | None
    ) -> None:
        self._waiting = deque((f"[{number}/{len(jobs)}]", job) for number, job in enumerate(jobs, 1))
        self._shares, self._lines, self._asked, self._on_end = shares, lines, asked, on_end
        self._failed_at_once: Counter[int] = Counter()  # by slot, since a run there went well
        self._passed_on = 0  # how many of the signals
        self._running: dict[int, Run] = {}  # by slot
        self._outcome = Outcome()

    def run(self) -> Outcome:
        """Runs until nothing goes on and nothing may begin."""
        try:
            self._begin()
            while self._running:
                time.sleep(TICK)
                self._pass_on()
                for slot, run in list(self._running.items()):
                    self._look_at(slot, run)
                self._begin()
                self._lines.show((slot, run.line) for slot, run in self._running.items())
        finally:  # an error here must not leave runs that nobody sees
            for run in self._running.values():
                run.ask_to_stop(signal.SIGTERM)
            for run in self._running.values():
                run.close()
        self._outcome.waiting = [job for _, job in self._waiting]
        self._outcome.no_gpu_left = self._may_begin()  # and yet nothing goes on
        return self._outcome

    def _pass_on(self) -> None:
        new = self._asked[self._passed_on :]
        for number in new:
            self._lines.tell(f"asked to stop ({signal.Signals(number).name}): {len(self._running)} runs are told")
            for run in self._running.values():
                run.ask_to_stop(number)
        self._passed_on += len(new)

    def _look_at(self, slot: int, run: Run) -> None:
        """Ends a run whose processes have ended."""
        try:
            status = run.status(goes_on=not self._asked)
        except InputError as error:
            status, reason = EXIT_BAD_INPUT, str(error)
        else:
            reason = run.tail.error() if status else ""
        if status is not None:
            run.close()
            del self._running[slot]
            self._end(run.label, run.job, status, reason, f" after {run.minutes:.1f} min")
            self._judge(slot, status, run.minutes)

    def _judge(self, slot: int, status: int, minutes: float) -> None:
        """Counts the runs in a row that failed at once on a slot's GPUs."""
        failed_at_once = status != 0 and status not in STOPPED and minutes < AT_ONCE
        self._failed_at_once[slot] = self._failed_at_once[slot] + 1 if failed_at_once else 0
        if self._is_suspect(slot):
            words = self._shares[slot].words
            self._lines.tell(f"{words}: {self._failed_at_once[slot]} runs failed at once; it gets no more")

    def _is_suspect(self, slot: int) -> bool:
        """Whether a slot gets no more runs. On a CPU none is: all slots are on the same one."""
        has_gpus = "CUDA_VISIBLE_DEVICES" in self._shares[slot].environment
        return has_gpus and self._failed_at_once[slot] >= SUSPECT

    def _begin(self) -> None:
        """Begins as many runs as there are free slots, unless somebody has asked for an end."""
        for slot, share in enumerate(self._shares):
            while not self._is_suspect(slot) and slot not in self._running and self._may_begin():
                number, job = self._waiting.popleft()
                label = f"{number} {job.title}"
                try:
                    self._running[slot] = Run(number, job, share)
                except InputError as error:
                    self._end(label, job, EXIT_BAD_INPUT, str(error), "")
                else:
                    self._lines.tell(f"{label}: begins on {share.words}; {job.log}")

    def _may_begin(self) -> bool:
        return bool(self._waiting) and not self._asked and not self._outcome.stopped

    def _end(self, label: str, job: Job, status: int, reason: str, after: str) -> None:
        if status == 0:
            self._lines.tell(f"{label}: done{after}")
        elif status in STOPPED:
            self._outcome.stopped.append(job)
            self._lines.tell(f"{label}: stopped{after}")
        else:
            self._outcome.failures.append(Failure(job, status, reason))
            self._lines.tell(f"{label}: failed{after}: {status_words(status)}: {reason}; {job.log}")
        if self._on_end:
            self._on_end(job, status)
