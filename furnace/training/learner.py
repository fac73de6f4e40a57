"""What learns: the networks of a run, their optimizers, and one training step; no data and no files."""

from bisect import bisect_right
from collections.abc import Iterator
from dataclasses import dataclass
from functools import partial
from itertools import chain

import torch
from torch import Tensor, nn
from torch.nn.utils import get_total_norm

from furnace.config.experiment import Experiment
from furnace.config.settings import Settings
from furnace.engine.backend import autocast, training_dtype
from furnace.engine.distributed import World
from furnace.errors import CommonInputError
from furnace.network.pretrained import load_backbone
from furnace.semi.batch import Batch
from furnace.semi.cross_supervision import CrossSupervision
from furnace.semi.ensemble import Ensemble
from furnace.semi.losses import PixelLoss, cross_entropy, ohem_cross_entropy
from furnace.training.optimizer import build_optimizer, polynomial_rate, ramp, set_learning_rate


@dataclass(frozen=True)
class Step:
    """What a training step tells; nothing of it was waited for."""

    terms: dict[str, Tensor]  # scalars: losses, and norms of gradients but in fp16, where the scaler looks after them
    pseudo_labels: list[Tensor] | None  # two of (B, H, W) uint8, where pairs were used


class Learner:
    """Two students, their teachers and optimizers, on this process's device.

    Args:
        iterations: the length of the run, which the rate and the weight of the cross term follow.
    """

    def __init__(self, experiment: Experiment, world: World, iterations: int) -> None:
        self.settings, self.method = experiment.settings, experiment.method
        self.world, self.iterations = world, iterations
        self.base_rate = self.settings.learning_rate * self.settings.learning_rate_factor
        self.dtype = training_dtype(self.settings.precision, world.device)
        self.ensemble, self.weights = self._build_ensemble(experiment)
        self.optimizers = [
            build_optimizer(student, self.base_rate, self.settings.weight_decay) for student in self.ensemble.students
        ]
        self.scaler = torch.amp.GradScaler(world.device.type, enabled=self.dtype == torch.float16)
        self.algorithm = self._algorithm()

    def step(self, batch: Batch, iteration: int) -> Step:
        """Takes training step `iteration`, counted from 0: gradients of L, both students, both teachers."""
        cps_weight = self.cps_weight(iteration)
        guarded = self.settings.skip_nonfinite > 0 and not self.scaler.is_enabled()  # fp16's scaler guards by itself
        buffers = self._copied_buffers() if guarded else []
        losses = self.algorithm.accumulate_gradients(batch, cps_weight)
        norms = self._gradient_norms()
        if buffers:
            self._skip_if_not_finite(norms, buffers)
        self._move_students(self.learning_rate(iteration))
        self._move_teachers(iteration + 1, cps_weight)
        terms = losses.terms() if self.scaler.is_enabled() else losses.terms() | norms
        return Step(terms, losses.pseudo_labels)

    def learning_rate(self, iteration: int) -> float:
        return polynomial_rate(self.base_rate, iteration, self.iterations)

    def cps_weight(self, iteration: int) -> float:
        return self.settings.cps_weight * ramp(iteration, self.iterations, *self.settings.cps_ramp)

    def first_iteration_with_pairs(self) -> int:
        """Before it, unlabelled images need not even be read."""
        if self.method.labellers == "none":
            return self.iterations
        return bisect_right(range(self.iterations), 0, key=self.cps_weight)  # the weight never falls

    def require_finite_weights(self, iteration: int) -> None:
        """The losses read so far were taken before the last step; a snapshot must not hold what it broke."""
        for student in self.ensemble.students:
            if not torch.stack(torch._foreach_norm(list(student.parameters()))).isfinite().all():
                raise CommonInputError(
                    f"weights are not finite after iteration {iteration}; the last snapshot is kept; "
                    "lower learning_rate"
                )

    def state(self) -> dict:
        """What going on needs beside the networks."""
        return {
            "optimizers": [optimizer.state_dict() for optimizer in self.optimizers],
            "scaler": self.scaler.state_dict(),
        }

    def restore(self, state: dict) -> None:
        """Puts `state()` back; weight decay stays as it is set now."""
        for optimizer, saved in zip(self.optimizers, state["optimizers"], strict=True):
            decays = [group["weight_decay"] for group in optimizer.param_groups]
            optimizer.load_state_dict(saved)
            for group, decay in zip(optimizer.param_groups, decays, strict=True):
                group["weight_decay"] = decay
        if self.scaler.is_enabled() and state["scaler"]:
            self.scaler.load_state_dict(state["scaler"])

    def _gradient_norms(self) -> dict[str, Tensor]:
        """The Euclidean norm of each student's gradient."""
        for optimizer in self.optimizers:
            self.scaler.unscale_(optimizer)
        return {
            f"gradient_norm_{number}": get_total_norm([parameter.grad for parameter in student.parameters()])
            for number, student in enumerate(self.ensemble.students, 1)
        }

    def _copied_buffers(self) -> list[Tensor]:
        return [buffer.clone() for buffer in self._buffers()]

    def _buffers(self) -> Iterator[Tensor]:
        return chain.from_iterable(network.buffers() for network in self.ensemble.networks().values())

    def _skip_if_not_finite(self, norms: dict[str, Tensor], buffers_before: list[Tensor]) -> None:
        """Lets the next step of the optimizers do nothing, and takes statistics back, without waiting for the device.

        The gradients are those of all processes, so that these agree.
        """
        skipped = torch.stack(list(norms.values())).isfinite().logical_not().any()
        for buffer, before in zip(self._buffers(), buffers_before, strict=True):
            buffer.copy_(torch.where(skipped, before, buffer))
        for optimizer in self.optimizers:
            optimizer.found_inf = skipped.float()  # what a GradScaler tells fused optimizers

    def _move_students(self, learning_rate: float) -> None:
        for optimizer in self.optimizers:
            set_learning_rate(optimizer, learning_rate)
            self.scaler.step(optimizer)
            optimizer.zero_grad(set_to_none=True)
        self.scaler.update()

    def _move_teachers(self, step: int, cps_weight: float) -> None:
        # While the teachers see no images, or never make statistics of their own, theirs follow the students'.
        follow = cps_weight == 0 or self.settings.teacher_norm == "running"
        self.ensemble.update_teachers(step, self.settings.ema_decay, with_buffers=follow)

    def _build_ensemble(self, experiment: Experiment) -> tuple[Ensemble, str]:
        """The networks on the device, and in words what weights they start from."""
        torch.manual_seed(self.settings.seed)
        weights = ""

        def build() -> nn.Module:
            nonlocal weights
            network = experiment.network()
            weights = load_backbone(network.backbone, self.settings.pretrained_model)
            return network

        layout = torch.channels_last if self.settings.channels_last else torch.contiguous_format
        ensemble = Ensemble(build, with_teachers=self.method.labellers == "teachers")
        ensemble.map(lambda network: self.world.synchronized(network.to(self.world.device, memory_format=layout)))
        for student in ensemble.students:
            student.train()
        for teacher in ensemble.teachers:
            teacher.train(self.settings.teacher_norm == "batch")
        return ensemble, weights

    def _algorithm(self) -> CrossSupervision:
        settings, ensemble = self.settings, self.ensemble
        ready = torch.compile if settings.compile else lambda network: network
        labellers = {"none": [], "students": ensemble.students, "teachers": ensemble.teachers}
        return CrossSupervision(
            students=[ready(self.world.data_parallel(student)) for student in ensemble.students],
            labellers=[ready(labeller) for labeller in labellers[self.method.labellers]],
            view=self.method.view,
            supervised_loss=supervised_loss(settings, self.world.size),
            average=self.world.mean,
            backward=lambda loss: self.scaler.scale(loss).backward(),
            autocast=partial(autocast, self.world.device, self.dtype),
        )


def supervised_loss(settings: Settings, processes: int) -> PixelLoss:
    """Cross-entropy, or OHEM with `ohem_min_kept` pixels for every image of a process, as published."""
    if settings.ohem_threshold is None:
        return cross_entropy
    min_kept = settings.ohem_min_kept * settings.batch_size // processes
    return partial(ohem_cross_entropy, threshold=settings.ohem_threshold, min_kept=min_kept)
