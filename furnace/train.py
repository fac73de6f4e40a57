"""`python -m furnace train`: sets up a run, then a loop that names its steps."""

import sys
import time
from collections.abc import Iterable, Iterator
from pathlib import Path

import torch
from tqdm import tqdm

from furnace.announcement import announce
from furnace.data.loaders import to_device, training_batches
from furnace.data.reading import crashes_named
from furnace.data.samples import Plan, TrainingSamples
from furnace.engine.backend import loader_workers, prepare_backends
from furnace.engine.checkpoint import Snapshots
from furnace.engine.distributed import World
from furnace.engine.evaluator import IMAGENET_MEAN, IMAGENET_STD
from furnace.engine.files import claim, remove_leftovers
from furnace.engine.log import LossMeter, RunLogs, Stopwatch
from furnace.engine.signals import StopRequest
from furnace.errors import InputError
from furnace.experiment import Experiment
from furnace.learner import Learner
from furnace.optimizer import iterations_per_epoch
from furnace.semi.cutmix import cutmix_masks

GO_ON, SAVE, STOP = range(3)  # what processes agree on after each iteration; the most urgent wish counts


class Trainer:
    """One process of a training run.

    Raises:
        InputError: data, weights or snapshots are not what the run needs.
    """

    def __init__(self, experiment: Experiment, world: World) -> None:
        self.experiment, self.world = experiment, world
        self.settings = settings = experiment.settings
        labeled, unlabeled = experiment.split("labeled"), experiment.split("unlabeled")
        self.iterations_per_epoch = iterations_per_epoch(len(labeled.files), len(unlabeled.files), settings.batch_size)
        self.iterations = settings.nepochs * self.iterations_per_epoch

        world.share_error(self._claim_folder)
        prepare_backends(settings.deterministic, settings.precision)
        self.learner = Learner(experiment, world, self.iterations)
        self.snapshots = Snapshots(settings.snapshot_dir)
        self.identity = {
            **experiment.result_settings(),
            "pretrained_model": Path(settings.pretrained_model).name,  # a checkout may move
            "precision": str(self.learner.dtype),
            "labelled list": labeled.files.sha256(),
            "unlabelled list": unlabeled.files.sha256(),
        }
        self.meter, self.stopwatch = LossMeter(), Stopwatch()
        self.skipped = 0  # steps that were not finite, since the run began
        self.start = self.saved = self._resume()  # `saved`: the iteration that the newest resume file goes on from
        self.saved_at = time.monotonic()
        world.require_same(self.start, "the iteration to start from: snapshot_dir must be one folder for all machines")
        plan = Plan(
            batch_size=settings.batch_size,
            iterations_per_epoch=self.iterations_per_epoch,
            iterations=self.iterations,
            pairs_from=self.learner.first_iteration_with_pairs(),
            crop=settings.image_size,
            scales=settings.train_scales,
            with_strong=experiment.method.view == "strong",
            seed=settings.seed,
        )
        self.samples = TrainingSamples(
            labeled, unlabeled, plan, draw_mask=lambda size, random: cutmix_masks(1, size, random)[0]
        )
        self.workers = loader_workers(settings.num_workers, world.device)
        self.batches = self.stopwatch.waiting(
            training_batches(
                self.samples,
                self.start,
                world.rank,
                world.size,
                workers=self.workers,
                pin_memory=world.device.type == "cuda",
            )
        )
        self.mean = torch.tensor(IMAGENET_MEAN, device=world.device)
        self.std = torch.tensor(IMAGENET_STD, device=world.device)
        if world.is_main and self.start < self.iterations:
            announce(experiment, self.learner, self.iterations_per_epoch, self.start)

    def run(self) -> bool:
        """Trains from the first iteration that is not done yet to the last; False if it was asked to stop before.

        Either way everything is saved that going on needs.
        """
        if self.start >= self.iterations:
            if self.world.is_main:
                print(f"nothing to do: all {self.settings.nepochs} epochs are in {self.settings.snapshot_dir}")
            return True
        logs = self._logs() if self.world.is_main else None
        done = self.start
        with StopRequest() as stop, crashes_named():
            for iteration, raw in self._progress(enumerate(self.batches, self.start)):
                batch = to_device(raw, self.world.device, self.mean, self.std, self.settings.channels_last)
                self.meter.add(iteration, self.learner.step(batch, iteration))
                if self.meter.due():
                    self._read_back()
                done = iteration + 1
                if done % self.iterations_per_epoch == 0:
                    self._end_epoch(done // self.iterations_per_epoch, logs)
                if self._agree(stop, done) == STOP:
                    break
        if logs:
            logs.close()
        return done == self.iterations

    def _agree(self, stop: StopRequest, done: int) -> int:
        """What all processes do after `done` iterations; saves if that is part of it."""
        minutes = self.settings.snapshot_minutes
        due = self.world.is_main and 0 < minutes < (time.monotonic() - self.saved_at) / 60
        agreed = self.world.highest(STOP if stop else SAVE if due else GO_ON)
        if agreed > GO_ON and done > self.saved:
            self._save_within(done)
        if agreed == STOP and self.world.is_main and done < self.iterations:
            asked = f" ({stop.signal.name})" if stop else ""
            tqdm.write(f"asked to stop{asked}: iteration {done} of {self.iterations} is saved; start again to go on")
        return agreed

    def _end_epoch(self, epoch: int, logs: RunLogs | None) -> None:
        """Reads the losses back, writes the epoch's row, and a snapshot when one is due."""
        self._read_back()
        losses = self._shared(self.meter.means())
        self.meter.reset()
        iteration = epoch * self.iterations_per_epoch
        row = {
            "epoch": epoch,
            "iteration": iteration,
            "learning_rate": self.learner.learning_rate(iteration - 1),
            "cps_weight": self.learner.cps_weight(iteration - 1),
            **losses,
            "seconds": self.stopwatch.seconds,
            "step_seconds": self.stopwatch.step_seconds,
            "data_seconds": self.stopwatch.data_seconds,
        }
        self.stopwatch.reset()
        if logs:
            logs.add(row)
        if epoch % self.settings.snapshot_iter == 0 or epoch == self.settings.nepochs:
            self._save_epoch(epoch)

    def _save_epoch(self, epoch: int) -> None:
        """A snapshot to evaluate and to go on from."""
        state = self._progress_state(epoch * self.iterations_per_epoch)
        if self.world.is_main:
            keep = None if self.settings.keep_snapshots == "all" else self.settings.keep_snapshots
            self.snapshots.save(epoch, self.learner.ensemble.networks(), state, keep)
        self.saved, self.saved_at = state["iteration"], time.monotonic()

    def _save_within(self, done: int) -> None:
        """All that going on from the middle of an epoch needs."""
        self._read_back()
        state = self._progress_state(done)
        if self.world.is_main:
            self.snapshots.save_within(done // self.iterations_per_epoch, self.learner.ensemble.networks(), state)
        self.saved, self.saved_at = done, time.monotonic()

    def _progress_state(self, done: int) -> dict:
        """What a resume file holds beside the networks."""
        self.learner.require_finite_weights(done)
        return {
            **self.learner.state(),
            "iteration": done,
            "settings": self.identity,
            "counters": {
                "losses": self._shared(self.meter.state()),
                "times": self.stopwatch.state(),
                "skipped": self.skipped,
            },
        }

    def _shared(self, values: dict[str, float]) -> dict[str, float]:
        """Their means over all processes."""
        means = self.world.mean(torch.tensor(list(values.values()), dtype=torch.float64, device=self.world.device))
        return dict(zip(values, means.tolist(), strict=True))

    def _claim_folder(self) -> None:
        """Two runs in one folder would overwrite each other's files."""
        self._lock = claim(self.settings.snapshot_dir / ".training")

    def _resume(self) -> int:
        """The first iteration to run: 0, or where the newest snapshot ended, with everything put back."""
        settings = self.settings
        if self.world.is_main:
            self.snapshots.remove_leftovers()
            for name in ("metrics.csv", "config.json"):
                remove_leftovers(settings.OUTPUT_PATH, name)
        state = None if settings.resume == "never" else self.snapshots.newest()
        if state is None and self.snapshots.of_another_run():
            remedy = "" if settings.resume != "never" else ", or set resume=auto to go on"
            raise InputError(
                f"snapshot_dir holds the snapshots of another run: {settings.snapshot_dir}; "
                f"choose another OUTPUT_PATH or remove them{remedy}"
            )
        if state is None and self.world.is_main:
            self.snapshots.begin()
        if state is None:
            return 0
        changed = [
            f"{name} was {old}, is {new}"
            for name, new in self.identity.items()
            if (old := state["settings"].get(name)) != new
        ]
        if changed and settings.resume != "force":
            raise InputError(
                f"cannot resume with other settings: {'; '.join(changed)}; "
                "set them back, choose another OUTPUT_PATH, or set resume=force"
            )
        self.snapshots.restore(state, self.learner.ensemble.networks())
        self.learner.restore(state)
        counters = state["counters"]
        self.meter.restore(counters["losses"])
        self.stopwatch.reset(**counters["times"])
        self.skipped = counters["skipped"]
        return state["iteration"]

    def _logs(self) -> RunLogs:
        epochs_done = self.start // self.iterations_per_epoch
        return RunLogs(self.settings.OUTPUT_PATH, self.settings.nepochs, epochs_done, self.start, self.workers)

    def _progress(self, steps: Iterable) -> Iterator:
        self._bar = tqdm(
            steps,
            total=self.iterations,
            initial=self.start,
            disable=not self.world.is_main,
            unit="it",
            dynamic_ncols=True,
            mininterval=0.2 if sys.stderr.isatty() else 30,
        )
        return self._bar

    def _read_back(self) -> None:
        """Takes the terms of the last steps in and shows their means; nothing is saved before.

        Raises:
            InputError: one more step is not finite than `skip_nonfinite` allows.
        """
        for bad in self.meter.read_back():
            self.skipped += 1
            epoch = bad.iteration // self.iterations_per_epoch + 1
            files = ", ".join(self.samples.files(self.samples.plan.indices(bad.iteration)))
            found = f"{bad.term} is {bad.value} at iteration {bad.iteration}, epoch {epoch}"
            allowed = self.settings.skip_nonfinite
            if self.skipped > allowed:
                raise InputError(
                    f"{found}; the last snapshot is kept; lower learning_rate, look at the files of that batch, "
                    f"or set skip_nonfinite={allowed + 1} or more to leave such steps out: {files}"
                )
            if self.world.is_main:
                tqdm.write(f"note: {found}: step left out, {self.skipped} of {allowed} allowed; files: {files}")
        losses = {name: f"{value:.3f}" for name, value in self.meter.means().items() if name.startswith("loss")}
        self._bar.set_postfix(losses, refresh=False)
