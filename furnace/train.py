"""`python -m furnace train`: sets up a run, then a loop that names its steps."""

import sys
from collections.abc import Iterable, Iterator
from pathlib import Path

import torch
from tqdm import tqdm

from furnace.data.file_list import FileList
from furnace.data.loaders import to_device, training_batches
from furnace.data.samples import Plan, TrainingSamples
from furnace.engine.backend import loader_workers, prepare_backends
from furnace.engine.checkpoint import Snapshots
from furnace.engine.distributed import World
from furnace.engine.evaluator import IMAGENET_MEAN, IMAGENET_STD
from furnace.engine.log import LossMeter, RunLogs, Stopwatch
from furnace.errors import InputError
from furnace.experiment import Experiment
from furnace.learner import Learner
from furnace.optimizer import iterations_per_epoch
from furnace.record import settings_record, software_record, write_record
from furnace.semi.cutmix import cutmix_masks


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
        self.snapshots = Snapshots(settings.snapshot_dir)
        self.identity = {
            **experiment.result_settings(),
            "pretrained_model": Path(settings.pretrained_model).name,  # a checkout may move
            "precision": str(self.learner.dtype),
            "labelled list": labeled.files.sha256(),
            "unlabelled list": unlabeled.files.sha256(),
        }
        self.start = self._resume()
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
        samples = TrainingSamples(
            labeled, unlabeled, plan, draw_mask=lambda size, random: cutmix_masks(1, size, random)[0]
        )
        self.stopwatch = Stopwatch()
        self.workers = loader_workers(settings.num_workers, world.device)
        self.batches = self.stopwatch.waiting(
            training_batches(
                samples,
                self.start,
                world.rank,
                world.size,
                workers=self.workers,
                pin_memory=world.device.type == "cuda",
            )
        )
        self.meter = LossMeter()
        self.mean = torch.tensor(IMAGENET_MEAN, device=world.device)
        self.std = torch.tensor(IMAGENET_STD, device=world.device)
        if world.is_main and self.start < self.iterations:
            self._describe(labeled.files, unlabeled.files)

    def run(self) -> None:
        """Trains from the first iteration that is not done yet to the last."""
        if self.start >= self.iterations:
            if self.world.is_main:
                print(f"nothing to do: all {self.settings.nepochs} epochs are in {self.settings.snapshot_dir}")
            return
        logs = self._logs() if self.world.is_main else None
        for iteration, raw in self._progress(enumerate(self.batches, self.start)):
            batch = to_device(raw, self.world.device, self.mean, self.std, self.settings.channels_last)
            losses = self.learner.step(batch, iteration)
            self.meter.add(iteration, losses.terms(), batch.files)
            if self.meter.due():
                self._show(self.meter.read_back())
            if (iteration + 1) % self.iterations_per_epoch == 0:
                self._end_epoch((iteration + 1) // self.iterations_per_epoch, logs)
        if logs:
            logs.close()

    def _end_epoch(self, epoch: int, logs: RunLogs | None) -> None:
        """Reads the losses back, writes the epoch's row, and a snapshot when one is due."""
        local = self.meter.read_back()
        self.meter.reset()
        shared = self.world.mean(torch.tensor(list(local.values()), dtype=torch.float64, device=self.world.device))
        iteration = epoch * self.iterations_per_epoch
        row = {
            "epoch": epoch,
            "iteration": iteration,
            "learning_rate": self.learner.learning_rate(iteration - 1),
            "cps_weight": self.learner.cps_weight(iteration - 1),
            **dict(zip(local, shared.tolist(), strict=True)),
            "seconds": self.stopwatch.seconds,
            "step_seconds": self.stopwatch.step_seconds,
            "data_seconds": self.stopwatch.data_seconds,
        }
        self.stopwatch.reset()
        if not logs:
            return
        logs.add(row)
        if epoch % self.settings.snapshot_iter == 0 or epoch == self.settings.nepochs:
            self.learner.require_finite_weights(iteration)
            keep = None if self.settings.keep_snapshots == "all" else self.settings.keep_snapshots
            state = {**self.learner.state(), "iteration": iteration, "settings": self.identity}
            self.snapshots.save(epoch, self.learner.ensemble.networks(), state, keep)

    def _resume(self) -> int:
        """The first iteration to run: 0, or where the newest snapshot ended, with everything put back."""
        settings = self.settings
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
        self.snapshots.load(state["epoch"], self.learner.ensemble.networks())
        self.learner.restore(state)
        return state["epoch"] * self.iterations_per_epoch

    def _describe(self, labeled: FileList, unlabeled: FileList) -> None:
        """Prints what decides the result, and writes all of it to config.json."""
        settings, world = self.settings, self.world
        effective = {
            "learning_rate": self.learner.base_rate,
            "weight_decay": settings.weight_decay,
            "processes": world.size,
            "batch_size_per_process": settings.batch_size // world.size,
            "iterations_per_epoch": self.iterations_per_epoch,
            "iterations": self.iterations,
            "precision": str(self.learner.dtype).removeprefix("torch."),
            "device": str(world.device),
        }
        named = [labeled, unlabeled]
        if settings.eval_epochs != "none":
            named.append(self.experiment.split("val").files)
        lists = {str(files.path): {"entries": len(files), "sha256": files.sha256()} for files in named}
        start = {
            "experiment": self.experiment.folder.name,
            "dataset": self.experiment.dataset.name,
            "classes": list(self.experiment.dataset.classes),
            "settings": settings_record(settings),
            **software_record(),
            "weights": self.learner.weights,
            "iteration": self.start,
            "effective": effective,
            "lists": lists,
        }
        write_record(settings.OUTPUT_PATH, start, goes_on=self.start > 0)
        method = self.experiment.method
        print(
            f"{settings.method}: labellers {method.labellers}, view {method.view}, "
            f"{settings.backbone} width {settings.width:g}\n"
            f"weights: {self.learner.weights}\n"
            f"1/{settings.labeled_ratio}: {len(labeled)} labelled, {len(unlabeled)} unlabelled images"
            f"{_ratio_note(settings.labeled_ratio, len(labeled), len(unlabeled))}\n"
            f"batch {settings.batch_size} = {world.size} x {effective['batch_size_per_process']}, "
            f"effective learning rate {self.learner.base_rate:g}, weight decay {settings.weight_decay:g}\n"
            f"{effective['precision']} on {world.device}\n"
            f"{settings.nepochs} epochs of {self.iterations_per_epoch} iterations, from iteration {self.start}\n"
            f"writing to {settings.OUTPUT_PATH}",
            flush=True,
        )

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

    def _show(self, means: dict[str, float]) -> None:
        self._bar.set_postfix({name: f"{value:.3f}" for name, value in means.items()}, refresh=False)


def _ratio_note(ratio: int, labeled: int, unlabeled: int) -> str:
    """What to say where the lists' lengths are not those that the ratio promises."""
    found = (labeled + unlabeled) / labeled
    return "" if 0.9 * ratio <= found <= 1.1 * ratio else f" (note: 1/{found:.1f}, not 1/{ratio}, of them is labelled)"
