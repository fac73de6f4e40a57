"""How far a run has come: what is counted since an epoch began, when it is saved, and how it goes on from there."""

import hashlib
import json
import time
from collections.abc import Sequence

from furnace.config.experiment import Experiment
from furnace.config.record import changes
from furnace.engine.bars import tell
from furnace.engine.checkpoint import Snapshots
from furnace.engine.distributed import World
from furnace.engine.files import claim, remove_leftovers
from furnace.errors import CommonInputError
from furnace.training.learner import Learner
from furnace.training.meters import LossMeter, NotFinite, Stopwatch


class Progress:
    """The counters of a run and its files to go on from. While it lives, no other process trains into the folder.

    Attributes:
        start: the first iteration that this process does, once the run is begun or gone on with.

    Raises:
        InputError: another process trains into the folder.
    """

    start: int

    def __init__(self, experiment: Experiment, world: World, learner: Learner, iterations_per_epoch: int) -> None:
        self.settings, self.world, self.learner = experiment.settings, world, learner
        self.iterations_per_epoch = iterations_per_epoch
        self.meter, self.stopwatch = LossMeter(world.mean), Stopwatch()
        self.skipped = 0  # steps that were not finite, since the run began
        self.snapshots = Snapshots(self.settings.snapshot_dir)
        self._identity = {**experiment.identity(), "precision": str(learner.dtype)}
        self._code = experiment.code
        self._digests = self._code.digests()  # of what this run has imported; the files may be edited while it goes on
        decisive = json.dumps([self._identity, self._digests]).encode()
        world.require_same(hashlib.sha256(decisive).hexdigest()[:8], "settings, lists, or the files beside network.py")
        world.by_main(self._claim_folders)

    def begin_or_go_on(self) -> int:
        """Fills the learner with what was saved last, if anything was, and returns the first iteration to do.

        Raises:
            InputError: what is saved cannot be gone on from, or it was saved with other settings.
        """
        self.start = self._saved = self._resume()  # `_saved`: the iteration that the newest resume file goes on from
        self._saved_at = time.monotonic()
        unequal = "the iteration to start from: snapshot_dir must be one folder for all machines"
        self.world.require_same(self.start, unequal)
        return self.start

    def leave_out(self, step: NotFinite, files: Sequence[str]) -> None:
        """Counts a step that is not finite, and says which `files` its batch was made of.

        Raises:
            CommonInputError: it is one more than `skip_nonfinite` allows.
        """
        self.skipped += 1
        allowed, epoch = self.settings.skip_nonfinite, step.iteration // self.iterations_per_epoch + 1
        found, named = f"{step.term} is {step.value} at iteration {step.iteration}, epoch {epoch}", ", ".join(files)
        if self.skipped > allowed:
            kept = "the last snapshot is kept; " if self._saved else ""
            raise CommonInputError(
                f"{found}; {kept}lower learning_rate, look at the files of that batch, "
                f"or set skip_nonfinite={allowed + 1} or more to leave such steps out: {named}"
            )
        if self.world.is_main:
            tell(f"note: {found}: step left out, {self.skipped} of {allowed} allowed; files: {named}")

    def save_is_due(self) -> bool:
        """Whether the last save is more than `snapshot_minutes` ago; it never is where they are 0."""
        return 0 < self.settings.snapshot_minutes < (time.monotonic() - self._saved_at) / 60

    def save_epoch(self, epoch: int) -> None:
        """Saves a snapshot to evaluate and to go on from. All processes call it together."""
        done = epoch * self.iterations_per_epoch
        state = self._state(done)
        if self.world.is_main:
            keep = None if self.settings.keep_snapshots == "all" else self.settings.keep_snapshots
            self.snapshots.save(epoch, self.learner.ensemble.networks(), state, keep)
        self._saved, self._saved_at = done, time.monotonic()

    def save_within(self, done: int) -> None:
        """Saves what going on after `done` iterations needs, unless it is saved already. All processes call it."""
        if done == self._saved:
            return
        state = self._state(done)
        if self.world.is_main:
            self.snapshots.save_within(done // self.iterations_per_epoch, self.learner.ensemble.networks(), state)
        self._saved, self._saved_at = done, time.monotonic()

    def _state(self, done: int) -> dict:
        """What a resume file holds beside the networks."""
        self.learner.require_finite_weights(done)
        return {
            **self.learner.state(),
            "iteration": done,
            "settings": {**self._identity, "code": self._digests},
            "counters": {"losses": self.meter.state(), "times": self.stopwatch.state(), "skipped": self.skipped},
        }

    def _claim_folders(self) -> None:
        """Locks the folders for as long as this object lives: two runs in one would overwrite each other's files."""
        folders = {self.settings.OUTPUT_PATH, self.settings.snapshot_dir}
        self._locks = [claim(folder / ".training") for folder in sorted(folders)]

    def _resume(self) -> int:
        """Returns the first iteration to run: 0, or where the newest snapshot ended, with everything put back."""
        if self.world.is_main:
            self.snapshots.remove_leftovers()
            for name in ("metrics.csv", "config.json"):
                remove_leftovers(self.settings.OUTPUT_PATH, name)
        state = None if self.settings.resume == "never" else self.snapshots.newest()
        if state is None:
            self._begin()
            return 0
        self._restore(state)
        return state["iteration"]

    def _begin(self) -> None:
        """Marks the folder as this run's, unless another run has snapshots in it."""
        settings = self.settings
        if self.snapshots.of_another_run():
            if settings.resume == "never":
                whose, remedy = "", "set resume=auto to go on"
            else:
                whose, remedy = ", or of this one without its file resume.pth", "put that file back"
            raise CommonInputError(
                f"snapshot_dir holds the snapshots of another run{whose}: {settings.snapshot_dir}; "
                f"choose another OUTPUT_PATH or remove them, or {remedy}"
            )
        if self.world.is_main:
            self.snapshots.begin()

    def _restore(self, state: dict) -> None:
        """Puts back what `_state` returned when it was saved, and the networks; refuses other settings."""
        before = state["settings"]
        changed = [*changes(before, self._identity), *self._code.changes(before.get("code", {}))]
        if changed and self.settings.resume != "force":
            raise CommonInputError(
                f"cannot resume with other settings: {'; '.join(changed)}; "
                "set them back, choose another OUTPUT_PATH, or set resume=force"
            )
        self.snapshots.restore(state, self.learner.ensemble.networks())
        self.learner.restore(state)
        counters = state["counters"]
        self.meter.restore(counters["losses"])
        self.stopwatch.reset(**counters["times"])
        self.skipped = counters["skipped"]
