"""`python -m furnace train`: sets up a run, then a loop that names its steps."""

import sys
from collections.abc import Iterable, Iterator

import torch
from tqdm import tqdm

from furnace.config.experiment import Experiment
from furnace.data.loaders import training_batches
from furnace.data.normalization import IMAGENET_MEAN, IMAGENET_STD
from furnace.data.reading import crashes_named
from furnace.data.samples import Plan, TrainingSamples, iterations_per_epoch
from furnace.engine.backend import loader_workers, prepare_backends
from furnace.engine.distributed import World
from furnace.engine.signals import StopRequest
from furnace.errors import InputError
from furnace.evaluation.validation import validate
from furnace.semi.cutmix import cutmix_masks
from furnace.training.announcement import announce
from furnace.training.learner import Learner
from furnace.training.log import RunLogs
from furnace.training.pictures import TrainingPictures
from furnace.training.progress import Progress
from furnace.training.transfer import to_device

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

        prepare_backends(settings.deterministic, settings.precision)
        self.learner = Learner(experiment, world, self.iterations)
        self.progress = Progress(experiment, world, self.learner, self.iterations_per_epoch)
        self.meter, self.stopwatch, self.start = self.progress.meter, self.progress.stopwatch, self.progress.start
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
        logs = self._logs() if self.world.is_main else None
        with StopRequest() as stop, crashes_named():
            self._validate(self.start, logs)  # an earlier process may have been ended before
            if self.start < self.iterations:
                done = self._loop(stop, logs)
            else:
                done = self.start
                if self.world.is_main:
                    print(f"nothing to do: all {self.settings.nepochs} epochs are in {self.settings.snapshot_dir}")
        if logs:
            logs.close()
        return done >= self.iterations

    def _loop(self, stop: StopRequest, logs: RunLogs | None) -> int:
        """Step after step, to the end or until all agree to stop; how many iterations are done then."""
        pictures = TrainingPictures(self.experiment.dataset, self.learner, logs.events) if logs else None
        for iteration, raw in self._shown(enumerate(self.batches, self.start)):
            batch = to_device(raw, self.world.device, self.mean, self.std, self.settings.channels_last)
            step = self.learner.step(batch, iteration)
            self.meter.add(iteration, step.terms)
            if self.meter.due():
                self._read_back()
            done = iteration + 1
            if pictures and is_due(done, self.settings.picture_iter):
                pictures.look(raw, batch, step, done)
            if done % self.iterations_per_epoch == 0:
                self._end_epoch(done // self.iterations_per_epoch, logs)
            if self._agree(stop, done) == STOP:
                break
            self._validate(done, logs)
        return done

    def _agree(self, stop: StopRequest, done: int) -> int:
        """What all processes do after `done` iterations; saves if that is part of it."""
        due = self.world.is_main and self.progress.save_is_due()
        agreed = self.world.highest(STOP if stop else SAVE if due else GO_ON)
        if agreed > GO_ON:
            self._read_back()
            self.progress.save_within(done)
        if agreed == STOP and self.world.is_main and done < self.iterations:
            asked = f" ({stop.signal.name})" if stop else ""
            tqdm.write(f"asked to stop{asked}: iteration {done} of {self.iterations} is saved; start again to go on")
        return agreed

    def _end_epoch(self, epoch: int, logs: RunLogs | None) -> None:
        """Reads the losses back, writes the epoch's row, and a snapshot when one is due."""
        self._read_back()
        losses = self.progress.shared(self.meter.means())
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
            logs.add(row, self.learner.ensemble.predictors() if self.experiment.scores_meanwhile else ())
        if is_due(epoch, self.settings.snapshot_iter) or epoch == self.settings.nepochs:
            self.progress.save_epoch(epoch)

    def _validate(self, done: int, logs: RunLogs | None) -> None:
        """Scores the networks after `done` iterations, if an epoch is over, that is due after it, and was not done."""
        epoch, rest = divmod(done, self.iterations_per_epoch)
        if rest or not is_due(epoch, self.settings.validate_epochs):
            return
        if self.world.highest(int(logs is not None and logs.lack_scores(epoch))):
            self.progress.save_within(done)  # it may take long
            with self.stopwatch.stopped():
                scores = validate(self.experiment, self.world, self.learner.ensemble, f"epoch {epoch}")
            if logs:
                logs.add_scores(epoch, done, scores)

    def _logs(self) -> RunLogs:
        epochs_done = self.start // self.iterations_per_epoch
        return RunLogs(self.settings.OUTPUT_PATH, self.settings.nepochs, epochs_done, self.start, self.workers)

    def _shown(self, steps: Iterable) -> Iterator:
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
            self.progress.skipped += 1
            epoch = bad.iteration // self.iterations_per_epoch + 1
            files = ", ".join(self.samples.files(self.samples.plan.indices(bad.iteration)))
            found = f"{bad.term} is {bad.value} at iteration {bad.iteration}, epoch {epoch}"
            allowed = self.settings.skip_nonfinite
            if self.progress.skipped > allowed:
                raise InputError(
                    f"{found}; the last snapshot is kept; lower learning_rate, look at the files of that batch, "
                    f"or set skip_nonfinite={allowed + 1} or more to leave such steps out: {files}"
                )
            if self.world.is_main:
                tqdm.write(
                    f"note: {found}: step left out, {self.progress.skipped} of {allowed} allowed; files: {files}"
                )
        losses = {name: f"{value:.3f}" for name, value in self.meter.means().items() if name.startswith("loss")}
        self._bar.set_postfix(losses, refresh=False)


def is_due(done: int, every: int) -> bool:
    """Whether something is to be done after so many iterations or epochs; never where `every` is 0."""
    return every > 0 and done > 0 and done % every == 0
