"""What learns: the networks of a run, their optimizers, and one training step; no data and no files.

`Learner.step` is the place to begin. The losses themselves, and the order of forward and backward passes, are the
algorithm's: `CrossSupervision.accumulate_gradients` in furnace/semi/cross_supervision.py.
"""

from bisect import bisect_right
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from itertools import chain

import torch
from torch import Tensor, nn
from torch.nn.utils import clip_grads_with_norm_, get_total_norm

from furnace.config.experiment import Experiment
from furnace.config.settings import Settings
from furnace.engine.backend import autocast, training_dtype
from furnace.engine.compiler import compiled
from furnace.engine.distributed import World
from furnace.errors import CommonInputError, say_note
from furnace.semi.alignment import Alignment
from furnace.semi.batch import Batch
from furnace.semi.cross_supervision import CrossSupervision, Losses, as_it_is
from furnace.semi.losses import PixelLoss, cross_entropy, ohem_cross_entropy
from furnace.semi.modes import to_be_off
from furnace.training.draws import seed_draws
from furnace.training.kept import KeptBuffers
from furnace.training.networks import build_networks
from furnace.training.optimizer import build_optimizer, polynomial_rate, ramp, restore_optimizer, set_learning_rate
from furnace.training.shares import count_confident


@dataclass(frozen=True)
class Step:
    """What a training step tells. The tensors are still on the device: nobody has waited for their values."""

    # Scalars: the losses and, but for fp16, the norms of the gradients. In fp16 gradients that are not finite are
    # ordinary: the scaler leaves such steps out and lowers its scale.
    terms: dict[str, Tensor]
    pseudo_labels: list[Tensor] | None  # two of (B, H, W) uint8; None where no pairs were used
    confident: Tensor | None = None  # (N, 2) int64 as `count_confident` returns it; None without a threshold


class Learner:
    """Two students, their teachers and optimizers, on this process's device.

    Args:
        iterations: the length of the whole run; the learning rate and the weight of the cross term follow it.

    Attributes:
        weights: in words, what weights the networks started from.
        dtype: the type that convolutions compute in.
        draws: whether a network draws random numbers while it trains, as dropout does.
    """

    def __init__(self, experiment: Experiment, world: World, iterations: int) -> None:
        self.settings, self.method = experiment.settings, experiment.method
        self.world, self.iterations = world, iterations
        self.num_classes = experiment.dataset.num_classes
        self.base_rate = self.settings.learning_rate * self.settings.learning_rate_factor
        self.dtype = training_dtype(self.settings.precision, world.device)
        self.ensemble, self.weights, self.draws = build_networks(experiment, world)
        self.optimizers = [
            build_optimizer(
                student,
                self.base_rate,
                self.settings.weight_decay,
                self.settings.optimizer,
                self.settings.backbone_rate_factor,
            )
            for student in self.ensemble.students
        ]
        self.scaler = torch.amp.GradScaler(world.device.type, enabled=self.dtype == torch.float16)
        self.alignment = self._alignment()
        self.algorithm = self._algorithm()

    def step(self, batch: Batch, iteration: int) -> Step:
        """Takes one training step: the gradients of L, then both students move, then both teachers follow.

        Args:
            batch: this process's share of the images, on the device.
            iteration: the number of the step in the whole run, counted from 0.
        """
        if self.draws:
            seed_draws(self.settings.seed, iteration, self.world.rank)
        cps_weight = self.cps_weight(iteration)
        kept = KeptBuffers(self.statistics()) if self.settings.skip_nonfinite > 0 else None
        losses = self.algorithm.accumulate_gradients(batch, cps_weight)  # every forward, every loss.backward()
        norms = self._gradient_norms()
        if kept:
            self._skip_if_not_finite(norms, kept)
        self._clip_gradients(norms)
        self._move_students(self.learning_rate(iteration))
        self._move_teachers(iteration + 1, cps_weight)
        terms = losses.terms() if self.scaler.is_enabled() else losses.terms() | norms
        return Step(terms, losses.pseudo_labels, self._count_confident(losses))

    def _count_confident(self, losses: Losses) -> Tensor | None:
        """The pixels of each class that are ignored and those that are learned from; zeros before pairs are used."""
        if self.settings.confidence == 0 or self.method.labellers == "none":
            return None
        if losses.pseudo_labels is None or losses.likeliest is None:
            return torch.zeros(self.num_classes, 2, dtype=torch.int64, device=self.world.device)
        return count_confident(losses.pseudo_labels, losses.likeliest, self.num_classes)

    def _gradient_norms(self) -> dict[str, Tensor]:
        """The Euclidean norm of each student's gradient before it is clipped; all processes share the gradients."""
        for optimizer in self.optimizers:
            self.scaler.unscale_(optimizer)
        return {
            f"gradient_norm_{number}": get_total_norm(
                [parameter.grad for parameter in student.parameters() if parameter.grad is not None]
            )
            for number, student in enumerate(self.ensemble.students, 1)
        }

    def _skip_if_not_finite(self, norms: dict[str, Tensor], kept: KeptBuffers) -> None:
        """Makes the step that follows do nothing if a gradient is not finite: neither to students nor to statistics.

        In fp16 the scaler of gradients decides on each student by its own gradient, which may be too large for the type
        while the other's is not; only the statistics of both go back then.

        The device decides, so that nothing waits for it. Processes agree because they share the gradients.
        """
        skipped = torch.stack(list(norms.values())).isfinite().logical_not().any()
        kept.put_back(skipped)
        for optimizer in self.optimizers:
            # A GradScaler tells a fused optimizer by this attribute, which torch does not declare, to leave a step out.
            # AdamW does not count such a step. In fp16 there is a scaler, and puts what it finds itself in this place.
            optimizer.found_inf = skipped.float()  # type: ignore[attr-defined]

    def _clip_gradients(self, norms: dict[str, Tensor]) -> None:
        """Scales each student's gradient down to the norm `clip_gradients` where its own is larger; 0 does nothing.

        The factor is `min(1, clip_gradients / (norm + 1e-6))`. The device computes it, so that nothing waits for it.
        """
        if self.settings.clip_gradients > 0:
            for student, norm in zip(self.ensemble.students, norms.values(), strict=True):
                clip_grads_with_norm_(student.parameters(), self.settings.clip_gradients, norm)

    def statistics(self) -> Iterator[Tensor]:
        """Yields all that a step changes without a gradient: the buffers of every network, and of the alignment."""
        modules = [*self.ensemble.networks().values(), *([self.alignment] if self.alignment else [])]
        return chain.from_iterable(module.buffers() for module in modules)

    def _move_students(self, learning_rate: float) -> None:
        for optimizer in self.optimizers:
            set_learning_rate(optimizer, learning_rate)
            self.scaler.step(optimizer)
            optimizer.zero_grad(set_to_none=True)
        self.scaler.update()

    def _move_teachers(self, step: int, cps_weight: float) -> None:
        # Teachers that see no images yet, or that never make statistics of their own, take them from the students.
        with_statistics = cps_weight == 0 or self.settings.teacher_norm == "running"
        self.ensemble.update_teachers(step, self.settings.ema_decay, with_statistics)

    def learning_rate(self, iteration: int) -> float:
        """The rate of this iteration, counted from 0; that of a backbone is `backbone_rate_factor` times as large."""
        return polynomial_rate(self.base_rate, iteration, self.iterations, self.settings.warmup_iterations)

    def cps_weight(self, iteration: int) -> float:
        """The weight of the cross term in this iteration, counted from 0."""
        return self.settings.cps_weight * ramp(iteration, self.iterations, *self.settings.cps_ramp)

    def first_iteration_with_pairs(self) -> int:
        """The first iteration that looks at unlabelled images; before it they need not even be read."""
        if self.method.labellers == "none":
            return self.iterations
        # The weight never falls, so that bisection finds the first iteration where it is above 0.
        return bisect_right(range(self.iterations), 0.0, key=self.cps_weight)

    def require_finite_weights(self, iteration: int) -> None:
        """Raises InputError if the weights are not finite after `iteration` steps, so that none are saved that way.

        The losses do not show what the last step did: they were computed before it.
        """
        for network in self.ensemble.networks().values():
            if not torch.stack(torch._foreach_norm(list(network.parameters()))).isfinite().all():
                raise CommonInputError(
                    f"weights are not finite after iteration {iteration}; the last snapshot is kept; "
                    "lower learning_rate, with resume=force to go on from it, or with another OUTPUT_PATH to begin anew"
                )

    def state(self) -> dict:
        """What going on needs beside the networks."""
        return {
            "optimizers": [optimizer.state_dict() for optimizer in self.optimizers],
            "scaler": self.scaler.state_dict(),
            "alignment": self.alignment.state_dict() if self.alignment else None,
        }

    def restore(self, state: dict) -> None:
        """Puts `state()` back; weight decay and factors of rates stay as they are set now.

        Where `resume=force` goes on with another kind of optimizer, that one begins anew, and a note says so. So does
        an alignment that the saved run had not.
        """
        pairs = zip(self.optimizers, state["optimizers"], strict=True)
        restored = [restore_optimizer(optimizer, saved) for optimizer, saved in pairs]
        if not all(restored) and self.world.is_main:
            say_note(f"{self.settings.optimizer} begins anew: what is saved is of another kind of optimizer")
        if self.scaler.is_enabled() and state["scaler"]:
            self.scaler.load_state_dict(state["scaler"])
        saved_alignment = state.get("alignment")  # older files have none
        if self.alignment and saved_alignment:
            self.alignment.load_state_dict(saved_alignment)
        elif self.alignment and self.world.is_main:
            say_note("distribution_alignment begins anew: the saved run was without it")

    def _alignment(self) -> Alignment | None:
        if self.settings.distribution_alignment == 0 or self.method.labellers == "none":
            return None
        return Alignment(self.settings.distribution_alignment, self.num_classes).to(self.world.device)

    def _off_while_labelling(self) -> Sequence[nn.Module]:
        """Modules of students that are in eval mode while these label; teachers stay in the mode of labellers."""
        batch_statistics = self.settings.teacher_norm == "batch"
        if self.method.labellers != "students" or (batch_statistics and not self.draws):
            return ()
        return to_be_off(self.ensemble.students, batch_statistics)

    def _algorithm(self) -> CrossSupervision:
        settings, ensemble = self.settings, self.ensemble
        labellers: dict[str, list[nn.Module]] = {
            "none": [],
            "students": ensemble.students,
            "teachers": ensemble.teachers,
        }

        def backward(loss: Tensor) -> None:
            self.scaler.scale(loss).backward()  # type: ignore[no-untyped-call]  # torch does not annotate backward

        return CrossSupervision(
            students=ensemble.students,
            labellers=labellers[self.method.labellers],
            view=self.method.view,
            supervised_loss=supervised_loss(settings, self.world.size),
            confidence=settings.confidence,
            temperature=settings.label_temperature,
            alignment=self.alignment,
            off_while_labelling=self._off_while_labelling(),
            average=self.world.mean,
            backward=backward,
            autocast=partial(autocast, self.world.device, self.dtype),
            compiled=compiled if settings.compile else as_it_is,
            parallel=self.world.data_parallel,
        )


def supervised_loss(settings: Settings, processes: int) -> PixelLoss:
    """Returns cross-entropy, or OHEM with `ohem_min_kept` pixels for every image of a process, as published."""
    if settings.ohem_threshold is None:
        return cross_entropy
    min_kept = settings.ohem_min_kept * settings.batch_size // processes
    return partial(ohem_cross_entropy, threshold=settings.ohem_threshold, min_kept=min_kept)
