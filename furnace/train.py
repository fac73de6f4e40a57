"""`python -m furnace train`: sets up a run, then a loop that names its steps."""

import sys
from bisect import bisect_right
from collections.abc import Iterable, Iterator
from functools import partial
from pathlib import Path

import torch
from torch import nn
from tqdm import tqdm

from furnace.data.file_list import FileList
from furnace.data.loaders import Plan, TrainingSamples, to_device, training_batches
from furnace.engine.backend import autocast, loader_workers, prepare_backends, training_dtype
from furnace.engine.checkpoint import Snapshots
from furnace.engine.distributed import World
from furnace.engine.evaluator import IMAGENET_MEAN, IMAGENET_STD
from furnace.engine.log import LossMeter, RunLogs, Stopwatch
from furnace.errors import InputError
from furnace.experiment import Experiment
from furnace.losses import PixelLoss, cross_entropy, ohem_cross_entropy
from furnace.network.pretrained import load_backbone
from furnace.optimizer import build_optimizer, iterations_per_epoch, polynomial_rate, ramp, set_learning_rate
from furnace.record import settings_record, software_record, write_record
from furnace.semi.cross_supervision import CrossSupervision
from furnace.semi.cutmix import cutmix_masks
from furnace.semi.ensemble import Ensemble
from furnace.settings import Settings


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
        self.base_rate = settings.learning_rate * settings.learning_rate_factor

        prepare_backends(settings.deterministic, settings.precision)
        self.ensemble = self._build_ensemble()
        self.optimizers = [
            build_optimizer(student, self.base_rate, settings.weight_decay) for student in self.ensemble.students
        ]
        dtype = training_dtype(settings.precision, world.device)
        self.scaler = torch.amp.GradScaler(world.device.type, enabled=dtype == torch.float16)
        self.algorithm = self._algorithm(dtype)

        self.snapshots = Snapshots(settings.snapshot_dir)
        self.identity = {
            **experiment.result_settings(),
            "pretrained_model": Path(settings.pretrained_model).name,  # a checkout may move
            "precision": str(dtype),
            "labelled list": labeled.files.sha256(),
            "unlabelled list": unlabeled.files.sha256(),
        }
        self.start = self._resume()
        world.require_same(self.start, "the iteration to start from: snapshot_dir must be one folder for all machines")
        plan = Plan(
            batch_size=settings.batch_size,
            iterations_per_epoch=self.iterations_per_epoch,
            iterations=self.iterations,
            pairs_from=self._first_iteration_with_pairs(),
            crop=settings.image_size,
            scales=settings.train_scales,
            with_strong=experiment.method.view == "strong",
            seed=settings.seed,
        )
        samples = TrainingSamples(
            labeled, unlabeled, plan, draw_mask=lambda size, random: cutmix_masks(1, size, random)[0]
        )
        self.stopwatch = Stopwatch()
        self.batches = self.stopwatch.waiting(
            training_batches(
                samples,
                self.start,
                world.rank,
                world.size,
                workers=loader_workers(settings.num_workers, world.device),
                pin_memory=world.device.type == "cuda",
            )
        )
        self.meter = LossMeter()
        self.mean = torch.tensor(IMAGENET_MEAN, device=world.device)
        self.std = torch.tensor(IMAGENET_STD, device=world.device)
        if world.is_main and self.start < self.iterations:
            self._describe(labeled.files, unlabeled.files, dtype)

    def run(self) -> None:
        """Trains from the first iteration that is not done yet to the last."""
        if self.start >= self.iterations:
            if self.world.is_main:
                print(f"nothing to do: all {self.settings.nepochs} epochs are in {self.settings.snapshot_dir}")
            return
        logs = self._logs() if self.world.is_main else None
        for iteration, raw in self._progress(enumerate(self.batches, self.start)):
            batch = to_device(raw, self.world.device, self.mean, self.std, self.settings.channels_last)
            cps_weight = self._cps_weight(iteration)
            losses = self.algorithm.accumulate_gradients(batch, cps_weight)
            self._step(polynomial_rate(self.base_rate, iteration, self.iterations))
            self._update_teachers(iteration + 1, cps_weight)
            self.meter.add(iteration, losses.terms(), batch.files)
            if self.meter.due():
                self._show(self.meter.read_back())
            if (iteration + 1) % self.iterations_per_epoch == 0:
                self._end_epoch((iteration + 1) // self.iterations_per_epoch, logs)
        if logs:
            logs.close()

    def _step(self, learning_rate: float) -> None:
        for optimizer in self.optimizers:
            set_learning_rate(optimizer, learning_rate)
            self.scaler.step(optimizer)
            optimizer.zero_grad(set_to_none=True)
        self.scaler.update()

    def _update_teachers(self, step: int, cps_weight: float) -> None:
        # While the teachers see no images, or never make statistics of their own, theirs follow the students'.
        follow = cps_weight == 0 or self.settings.teacher_norm == "running"
        self.ensemble.update_teachers(step, self.settings.ema_decay, with_buffers=follow)

    def _end_epoch(self, epoch: int, logs: RunLogs | None) -> None:
        """Reads the losses back, writes the epoch's row, and a snapshot when one is due."""
        local = self.meter.read_back()
        self.meter.reset()
        shared = self.world.mean(torch.tensor(list(local.values()), dtype=torch.float64, device=self.world.device))
        iteration = epoch * self.iterations_per_epoch
        row = {
            "epoch": epoch,
            "iteration": iteration,
            "learning_rate": polynomial_rate(self.base_rate, iteration - 1, self.iterations),
            "cps_weight": self._cps_weight(iteration - 1),
            **dict(zip(local, shared.tolist(), strict=True)),
            "seconds": self.stopwatch.seconds,
            "data_seconds": self.stopwatch.data_seconds,
        }
        self.stopwatch.reset()
        if not logs:
            return
        logs.add(row)
        if epoch % self.settings.snapshot_iter == 0 or epoch == self.settings.nepochs:
            self._require_finite_weights(iteration)
            keep = None if self.settings.keep_snapshots == "all" else self.settings.keep_snapshots
            self.snapshots.save(epoch, self.ensemble.networks(), self._state(iteration), keep)

    def _require_finite_weights(self, iteration: int) -> None:
        """The losses read so far were taken before the last step; a snapshot must not hold what it broke."""
        for student in self.ensemble.students:
            if not torch.stack(torch._foreach_norm(list(student.parameters()))).isfinite().all():
                raise InputError(
                    f"weights are not finite after iteration {iteration}; the last snapshot is kept; "
                    "lower learning_rate"
                )

    def _state(self, iteration: int) -> dict:
        """What going on needs beside the networks."""
        return {
            "iteration": iteration,
            "optimizers": [optimizer.state_dict() for optimizer in self.optimizers],
            "scaler": self.scaler.state_dict(),
            "settings": self.identity,
        }

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
        self.snapshots.load(state["epoch"], self.ensemble.networks())
        for optimizer, saved in zip(self.optimizers, state["optimizers"], strict=True):
            decays = [group["weight_decay"] for group in optimizer.param_groups]  # those of now, with resume=force
            optimizer.load_state_dict(saved)
            for group, decay in zip(optimizer.param_groups, decays, strict=True):
                group["weight_decay"] = decay
        if self.scaler.is_enabled() and state["scaler"]:
            self.scaler.load_state_dict(state["scaler"])
        return state["epoch"] * self.iterations_per_epoch

    def _build_ensemble(self) -> Ensemble:
        torch.manual_seed(self.settings.seed)

        def build() -> nn.Module:
            network = self.experiment.network()
            self.weights = load_backbone(network.backbone, self.settings.pretrained_model)
            return network

        layout = torch.channels_last if self.settings.channels_last else torch.contiguous_format
        ensemble = Ensemble(build, with_teachers=self.experiment.method.labellers == "teachers")
        ensemble.map(lambda network: self.world.synchronized(network.to(self.world.device, memory_format=layout)))
        for student in ensemble.students:
            student.train()
        for teacher in ensemble.teachers:
            teacher.train(self.settings.teacher_norm == "batch")
        return ensemble

    def _algorithm(self, dtype: torch.dtype) -> CrossSupervision:
        settings, ensemble = self.settings, self.ensemble
        ready = torch.compile if settings.compile else lambda network: network
        labellers = {"none": [], "students": ensemble.students, "teachers": ensemble.teachers}
        return CrossSupervision(
            students=[ready(self.world.data_parallel(student)) for student in ensemble.students],
            labellers=[ready(labeller) for labeller in labellers[self.experiment.method.labellers]],
            view=self.experiment.method.view,
            supervised_loss=supervised_loss(settings, self.world.size),
            average=self.world.mean,
            backward=lambda loss: self.scaler.scale(loss).backward(),
            autocast=partial(autocast, self.world.device, dtype),
        )

    def _cps_weight(self, iteration: int) -> float:
        return self.settings.cps_weight * ramp(iteration, self.iterations, *self.settings.cps_ramp)

    def _first_iteration_with_pairs(self) -> int:
        """Before it, unlabelled images are not even read."""
        if self.experiment.method.labellers == "none":
            return self.iterations
        return bisect_right(range(self.iterations), 0, key=self._cps_weight)  # the weight never falls

    def _describe(self, labeled: FileList, unlabeled: FileList, dtype: torch.dtype) -> None:
        """Prints what decides the result, and writes all of it to config.json."""
        settings, world = self.settings, self.world
        effective = {
            "learning_rate": self.base_rate,
            "weight_decay": settings.weight_decay,
            "processes": world.size,
            "batch_size_per_process": settings.batch_size // world.size,
            "iterations_per_epoch": self.iterations_per_epoch,
            "iterations": self.iterations,
            "precision": str(dtype).removeprefix("torch."),
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
            "weights": self.weights,
            "iteration": self.start,
            "effective": effective,
            "lists": lists,
        }
        write_record(settings.OUTPUT_PATH, start, goes_on=self.start > 0)
        method = self.experiment.method
        print(
            f"{settings.method}: labellers {method.labellers}, view {method.view}, "
            f"{settings.backbone} width {settings.width:g}\n"
            f"weights: {self.weights}\n"
            f"1/{settings.labeled_ratio}: {len(labeled)} labelled, {len(unlabeled)} unlabelled images"
            f"{_ratio_note(settings.labeled_ratio, len(labeled), len(unlabeled))}\n"
            f"batch {settings.batch_size} = {world.size} x {effective['batch_size_per_process']}, "
            f"effective learning rate {self.base_rate:g}, weight decay {settings.weight_decay:g}\n"
            f"{effective['precision']} on {world.device}\n"
            f"{settings.nepochs} epochs of {self.iterations_per_epoch} iterations, from iteration {self.start}\n"
            f"writing to {settings.OUTPUT_PATH}",
            flush=True,
        )

    def _logs(self) -> RunLogs:
        epochs_done = self.start // self.iterations_per_epoch
        return RunLogs(self.settings.OUTPUT_PATH, self.settings.nepochs, epochs_done, self.start)

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


def supervised_loss(settings: Settings, processes: int) -> PixelLoss:
    """Cross-entropy, or OHEM with `ohem_min_kept` pixels for every image of a process, as published."""
    if settings.ohem_threshold is None:
        return cross_entropy
    min_kept = settings.ohem_min_kept * settings.batch_size // processes
    return partial(ohem_cross_entropy, threshold=settings.ohem_threshold, min_kept=min_kept)
