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

from collections.abc import Iterable

from furnace.config.experiment import Experiment
from furnace.data.loaders import batch_bytes, image_bytes, training_batches
from furnace.data.reading import crashes_named
from furnace.data.samples import RawBatch
from furnace.engine.backend import loader_workers, prepare_backends
from furnace.engine.bars import bar, tell
from furnace.engine.distributed import World
from furnace.engine.shared_memory import require_shared_memory
from furnace.engine.signals import Stopped, StopRequest, end_helpers
from furnace.evaluation.validation import validate
from furnace.training.announcement import announce, look_at_data
from furnace.training.footprint import require_room
from furnace.training.learner import Learner
from furnace.training.log import RunLogs
from furnace.training.pictures import TrainingPictures
from furnace.training.progress import Progress
from furnace.training.shares import shares
from furnace.training.stream import training_samples
from furnace.training.transfer import sending_to

GO_ON, SAVE, STOP = range(3)  # what a process may wish for after an iteration; all do the highest wish of any


class Trainer:
    """One process of a training run.

    Raises:
        InputError: data, weights or snapshots are not what the run needs.
    """

    def __init__(self, experiment: Experiment, world: World) -> None:
        self.experiment, self.world = experiment, world
        self.settings = settings = experiment.settings
        self.iterations_per_epoch = experiment.iterations_per_epoch
        self.iterations = experiment.epochs * self.iterations_per_epoch

        prepare_backends(settings.deterministic)
        require_room(experiment, world)
        self.learner = Learner(experiment, world, self.iterations)
        self.progress = Progress(experiment, world, self.learner, self.iterations_per_epoch)
        self.done = self.progress.begin_or_go_on()  # iterations; those of earlier processes count too
        self.samples = training_samples(experiment, self.learner, self.iterations_per_epoch)
        self.workers = loader_workers(settings.num_workers, world.device)
        self._require_shared_memory()
        self._to_device = sending_to(world.device, settings.channels_last)
        if self.progress.start < self.iterations:
            world.by_main(lambda: look_at_data(experiment))
        if world.is_main and self.progress.start < self.iterations:
            announce(experiment, self.learner, self.iterations_per_epoch, self.progress.start)
        self.logs = self._open_logs() if world.is_main else None
        self.pictures = TrainingPictures(experiment.dataset, self.learner, self.logs.events) if self.logs else None

    def run(self, more_follows: bool = False) -> bool:
        """Trains from the first iteration that is not done yet to the last one.

        Args:
            more_follows: whether the same command goes on after training, as with an evaluation.

        Returns:
            False if the run was asked to stop before its end, or at its end where more follows. Either way everything
            is saved that going on needs.
        """
        finished = True
        with StopRequest(alone=self.world.size == 1) as stop, crashes_named():
            try:
                self._validate_if_due(stop)  # an earlier process may have ended between an epoch and its validation
                if self.done < self.iterations:
                    self._train(stop)
                elif self.world.is_main:
                    print(f"nothing to do: all {self.experiment.epochs} epochs are in {self.settings.snapshot_dir}")
                if stop and more_follows:
                    raise Stopped
            except Stopped:
                finished = False
                end_helpers()  # of a validation
                self._save()
                self._say_stopped(stop)
                stop.end_soon()
            if self.logs:
                self.logs.close()
        return finished

    def _train(self, stop: StopRequest) -> None:
        """The training loop: takes step after step, to the last one or until all processes agree to stop.

        Raises:
            Stopped: they agreed, or the only process was asked while it waited.
        """
        if self.logs:
            self.logs.events.begin()
        for iteration, raw in self._batches(stop):
            batch = self._to_device(raw)
            step = self.learner.step(batch, iteration)  # forward, backward, and both optimizers
            self.done = done = iteration + 1
            self.progress.meter.add(iteration, step.terms, step.confident)
            if self.progress.meter.due():
                self._read_losses()
            if self.pictures and is_due(done, self.settings.picture_iter):
                self.pictures.look(raw, batch, step, done)
            if done % self.iterations_per_epoch == 0:
                self._end_epoch(done // self.iterations_per_epoch)
            agreed = self._agree(stop)
            if agreed == STOP and done < self.iterations:
                raise Stopped
            if agreed != GO_ON:
                self._save()
            self._validate_if_due(stop)

    def _require_shared_memory(self) -> None:
        """Raises InputError if the workers that load for training, and those of a validation beside them, lack room."""
        settings, world, sizes = self.settings, self.world, [batch_bytes(self.samples.plan, self.world.size)]
        if self.workers and settings.validate_epochs:
            split = self.experiment.split("val")
            sizes.append(image_bytes(split, range(world.rank, len(split.files), world.size)))
        require_shared_memory(sizes, self.workers)

    def _batches(self, stop: StopRequest) -> Iterable[tuple[int, RawBatch]]:
        """Returns iterations and their batches, from the first that is not done yet on, behind a progress bar."""
        batches = training_batches(
            self.samples,
            self.progress.start,
            self.world.rank,
            self.world.size,
            workers=self.workers,
            pin_memory=self.world.device.type == "cuda",
        )
        left = self.iterations - self.progress.start
        self._bar = bar(
            enumerate(self.progress.stopwatch.waiting(stop.until_asked(batches, left)), self.progress.start),
            total=self.iterations,
            initial=self.progress.start,
            disable=not self.world.is_main,
            unit="it",
        )
        return self._bar

    def _save(self) -> None:
        """Saves what going on from here needs, unless that is saved already."""
        if self.done > self.progress.start:
            self._read_losses()
        self.progress.save_within(self.done)

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
        """Reads the losses back, writes the epoch's row, and a snapshot when one is due; then it tells of them."""
        self._read_losses()
        losses, classes = self.progress.meter.means(), self.experiment.dataset.classes
        confident = shares(self.progress.meter.counts, classes)
        self.progress.meter.reset()
        iteration, stopwatch = epoch * self.iterations_per_epoch, self.progress.stopwatch
        row = {
            "epoch": epoch,
            "iteration": iteration,
            "learning_rate": self.learner.learning_rate(iteration - 1),
            "cps_weight": self.learner.cps_weight(iteration - 1),
            **losses,
            **confident,
            "seconds": stopwatch.seconds,
            "step_seconds": stopwatch.step_seconds,
            "data_seconds": stopwatch.data_seconds,
        }
        stopwatch.reset()
        with stopwatch.stopped():
            if self.logs:
                self.logs.record(row, self.learner.ensemble.predictors() if self.experiment.scores_meanwhile else ())
            if is_due(epoch, self.settings.snapshot_iter) or epoch == self.experiment.epochs:
                self.progress.save_epoch(epoch)
            if self.logs:
                self.logs.tell(row)

    def _agree(self, stop: StopRequest) -> int:
        """Returns what all processes do now: GO_ON, SAVE or STOP.

        Each process may have been asked to stop; the main process alone decides when a save is due.
        """
        save_is_due = self.world.is_main and self.progress.save_is_due()
        return self.world.highest(STOP if stop else SAVE if save_is_due else GO_ON)

    def _say_stopped(self, stop: StopRequest) -> None:
        if self.world.is_main:
            asked = f" ({stop.signal.name})" if stop.signal else ""  # without one, another process had the signal
            tell(f"asked to stop{asked}: iteration {self.done} of {self.iterations} is saved; start again to go on")

    def _validate_if_due(self, stop: StopRequest) -> None:
        """Scores the networks if an epoch ends here that is to be scored and has no scores yet.

        Raises:
            Stopped: the only process was asked to stop meanwhile; a later start scores them.
        """
        epoch, rest = divmod(self.done, self.iterations_per_epoch)
        if rest or not is_due(epoch, self.settings.validate_epochs):
            return
        lacks_scores = self.logs is not None and self.logs.lack_scores(epoch)
        if not self.world.highest(int(lacks_scores)):
            return
        self.progress.save_within(self.done)  # because the validation may take long
        with self.progress.stopwatch.stopped(), stop.ending_waits():
            scores = validate(self.experiment, self.world, self.learner.ensemble, f"epoch {epoch}")
        if self.logs:
            self.logs.add_scores(epoch, self.done, scores)

    def _open_logs(self) -> RunLogs:
        start = self.progress.start
        return RunLogs(
            self.settings.OUTPUT_PATH, self.experiment.epochs, start // self.iterations_per_epoch, start, self.workers
        )


def is_due(done: int, every: int) -> bool:
    """Whether something is to be done after `done` iterations or epochs; it never is where `every` is 0."""
    return every > 0 and done > 0 and done % every == 0
