"""`python -m furnace train`: what a run is set up from, and the training loop as named steps.

Begin with `Trainer.run` and the loop below it. What the loop speaks of:

    Experiment   what the user asked for: settings, data set, network (furnace/config/experiment.py)
    World        this process among all processes of the run (furnace/engine/distributed.py)
    Learner      the networks, their optimizers and one training step (learner.py)
    Progress     what is counted and timed, and the snapshots that a run goes on from (progress.py)
    RunLogs      metrics.csv, TensorBoard and a line per epoch; the main process alone has them (log.py)

The processes of a run exchange averages, agreements and scores, and all must come to these exchanges in the same order.
Whether a process comes to one therefore depends only on the iteration and on what all have agreed on before.
"""

import sys
from functools import partial

import torch
from tqdm import tqdm

from furnace.config.experiment import Experiment
from furnace.data.loaders import training_batches
from furnace.data.normalization import IMAGENET_MEAN, IMAGENET_STD
from furnace.data.reading import crashes_named
from furnace.data.samples import RawBatch, iterations_per_epoch
from furnace.engine.backend import loader_workers, prepare_backends
from furnace.engine.distributed import World
from furnace.engine.signals import StopRequest
from furnace.evaluation.validation import validate
from furnace.training.announcement import announce
from furnace.training.learner import Learner
from furnace.training.log import RunLogs
from furnace.training.pictures import TrainingPictures
from furnace.training.progress import Progress
from furnace.training.stream import training_samples
from furnace.training.transfer import to_device

GO_ON, SAVE, STOP = range(3)  # what a process may wish for after an iteration; all do the highest wish of any


class Trainer:
    """One process of a training run.

    Raises:
        InputError: data, weights or snapshots are not what the run needs.
    """

    def __init__(self, experiment: Experiment, world: World) -> None:
        self.experiment, self.world = experiment, world
        self.settings = settings = experiment.settings
        labeled, unlabeled = experiment.split("labeled").files, experiment.split("unlabeled").files
        self.iterations_per_epoch = iterations_per_epoch(len(labeled), len(unlabeled), settings.batch_size)
        self.iterations = experiment.epochs * self.iterations_per_epoch

        prepare_backends(settings.deterministic, settings.precision)
        self.learner = Learner(experiment, world, self.iterations)
        self.progress = Progress(experiment, world, self.learner, self.iterations_per_epoch)
        self.samples = training_samples(experiment, self.learner, self.iterations_per_epoch)
        self.workers = loader_workers(settings.num_workers, world.device)
        self._to_device = partial(
            to_device,
            device=world.device,
            mean=torch.tensor(IMAGENET_MEAN, device=world.device),
            std=torch.tensor(IMAGENET_STD, device=world.device),
            channels_last=settings.channels_last,
        )
        if world.is_main and self.progress.start < self.iterations:
            announce(experiment, self.learner, self.iterations_per_epoch, self.progress.start)
        self.logs = self._open_logs() if world.is_main else None
        self.pictures = TrainingPictures(experiment.dataset, self.learner, self.logs.events) if self.logs else None

    def run(self) -> bool:
        """Trains from the first iteration that is not done yet to the last one.

        Returns:
            False if the run was asked to stop before its end. Either way everything is saved that going on needs.
        """
        done = self.progress.start
        with StopRequest() as stop, crashes_named():
            self._validate_if_due(done)  # an earlier process may have ended between an epoch and its validation
            if done < self.iterations:
                done = self._train(stop)
            elif self.world.is_main:
                print(f"nothing to do: all {self.experiment.epochs} epochs are in {self.settings.snapshot_dir}")
        if self.logs:
            self.logs.close()
        return done >= self.iterations

    def _train(self, stop: StopRequest) -> int:
        """The training loop: takes step after step, to the last one or until all processes agree to stop.

        Returns:
            How many iterations of the run are done then; those of earlier processes count too.
        """
        for iteration, raw in self._batches():
            batch = self._to_device(raw)
            step = self.learner.step(batch, iteration)  # forward, backward, and both optimizers
            done = iteration + 1
            self.progress.meter.add(iteration, step.terms)
            if self.progress.meter.due():
                self._read_losses()
            if self.pictures and is_due(done, self.settings.picture_iter):
                self.pictures.look(raw, batch, step, done)
            if done % self.iterations_per_epoch == 0:
                self._end_epoch(done // self.iterations_per_epoch)
            agreed = self._agree(stop)
            if agreed != GO_ON:
                self._read_losses()
                self.progress.save_within(done)
            if agreed == STOP:
                self._say_stopped(stop, done)
                break
            self._validate_if_due(done)
        return done

    def _batches(self) -> "tqdm[tuple[int, RawBatch]]":
        """Returns iterations and their batches, from the first that is not done yet on, behind a progress bar."""
        batches = training_batches(
            self.samples,
            self.progress.start,
            self.world.rank,
            self.world.size,
            workers=self.workers,
            pin_memory=self.world.device.type == "cuda",
        )
        self._bar = tqdm(
            enumerate(self.progress.stopwatch.waiting(batches), self.progress.start),
            total=self.iterations,
            initial=self.progress.start,
            disable=not self.world.is_main,
            unit="it",
            dynamic_ncols=True,
            mininterval=0.2 if sys.stderr.isatty() else 30,
        )
        return self._bar

    def _read_losses(self) -> None:
        """Reads back what the last steps told and shows the means. Nothing is saved before this has been done.

        Raises:
            InputError: more steps were not finite than `skip_nonfinite` allows.
        """
        for step in self.progress.meter.read_back():
            files = self.samples.files(self.samples.plan.indices(step.iteration))
            self.progress.leave_out(step, files)
        means = self.progress.meter.means()
        losses = {name: f"{value:.3f}" for name, value in means.items() if name.startswith("loss")}
        self._bar.set_postfix(losses, refresh=False)

    def _end_epoch(self, epoch: int) -> None:
        """Reads the losses back, writes the epoch's row, and a snapshot when one is due."""
        self._read_losses()
        losses = self.progress.shared(self.progress.meter.means())
        self.progress.meter.reset()
        iteration, stopwatch = epoch * self.iterations_per_epoch, self.progress.stopwatch
        row = {
            "epoch": epoch,
            "iteration": iteration,
            "learning_rate": self.learner.learning_rate(iteration - 1),
            "cps_weight": self.learner.cps_weight(iteration - 1),
            **losses,
            "seconds": stopwatch.seconds,
            "step_seconds": stopwatch.step_seconds,
            "data_seconds": stopwatch.data_seconds,
        }
        stopwatch.reset()
        if self.logs:
            self.logs.add(row, self.learner.ensemble.predictors() if self.experiment.scores_meanwhile else ())
        if is_due(epoch, self.settings.snapshot_iter) or epoch == self.experiment.epochs:
            self.progress.save_epoch(epoch)

    def _agree(self, stop: StopRequest) -> int:
        """Returns what all processes do now: GO_ON, SAVE or STOP.

        Each process may have been asked to stop; the main process alone decides when a save is due.
        """
        save_is_due = self.world.is_main and self.progress.save_is_due()
        return self.world.highest(STOP if stop else SAVE if save_is_due else GO_ON)

    def _say_stopped(self, stop: StopRequest, done: int) -> None:
        if self.world.is_main and done < self.iterations:
            asked = f" ({stop.signal.name})" if stop.signal else ""  # without one, another process had the signal
            tqdm.write(f"asked to stop{asked}: iteration {done} of {self.iterations} is saved; start again to go on")

    def _validate_if_due(self, done: int) -> None:
        """Scores the networks if `done` iterations end an epoch that is to be scored and has no scores yet."""
        epoch, rest = divmod(done, self.iterations_per_epoch)
        if rest or not is_due(epoch, self.settings.validate_epochs):
            return
        lacks_scores = self.logs is not None and self.logs.lack_scores(epoch)
        if not self.world.highest(int(lacks_scores)):
            return
        self.progress.save_within(done)  # because the validation may take long
        with self.progress.stopwatch.stopped():
            scores = validate(self.experiment, self.world, self.learner.ensemble, f"epoch {epoch}")
        if self.logs:
            self.logs.add_scores(epoch, done, scores)

    def _open_logs(self) -> RunLogs:
        start = self.progress.start
        return RunLogs(
            self.settings.OUTPUT_PATH, self.experiment.epochs, start // self.iterations_per_epoch, start, self.workers
        )


def is_due(done: int, every: int) -> bool:
    """Whether something is to be done after `done` iterations or epochs; it never is where `every` is 0."""
    return every > 0 and done > 0 and done % every == 0
