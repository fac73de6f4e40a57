"""THE ALGORITHM: cross pseudo supervision, by the students themselves or by their EMA teachers.

    P_k     = mix(argmax h_k(weak u0), argmax h_k(weak u1))          hard pseudo-label of labeller k
    L_sup   = CE(f1(x), y) + CE(f2(x), y)
    L_cross = CE(f1(mix(u0, u1)), P_2) + CE(f2(mix(u0, u1)), P_1)    labels are crossed
    L       = L_sup + cps_weight * L_cross

B images, H and W their size, N classes. Chen et al., "Semi-Supervised Semantic Segmentation with Cross Pseudo
Supervision" (2021); Ensemble Teacher replaces the labellers h by EMA teachers and shows the students a strong view.
"""

from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from furnace.semi.batch import Batch
from furnace.semi.cutmix import mix
from furnace.semi.losses import PixelLoss, cross_entropy


@dataclass(frozen=True)
class Method:
    """The two choices that tell the methods apart."""

    labellers: str  # who labels the unlabelled images: "none", "students" or "teachers"
    view: str  # which view of them the students are trained on: "weak" or "strong"


METHODS = {
    "supervised": Method(labellers="none", view="weak"),
    "org": Method(labellers="students", view="weak"),  # cross pseudo supervision
    "ema": Method(labellers="teachers", view="strong"),  # Ensemble Teacher
}


@dataclass(frozen=True)
class Losses:
    """The terms of one step, detached scalars. `cross` is before its weight; None where no pair was used.

    `pseudo_labels` are the P_1 and P_2 that it was computed with, each (B, H, W) uint8.
    """

    supervised: tuple[Tensor, Tensor]
    cross: tuple[Tensor, Tensor] | None
    cps_weight: float
    pseudo_labels: list[Tensor] | None = None

    def terms(self) -> dict[str, Tensor]:
        """Every term by name, and their weighted sum `loss`."""
        zero = torch.zeros_like(self.supervised[0])
        cross = self.cross or (zero, zero)
        return {
            "loss": sum(self.supervised) + self.cps_weight * sum(cross),
            "loss_sup_1": self.supervised[0],
            "loss_sup_2": self.supervised[1],
            "loss_cross_1": cross[0],
            "loss_cross_2": cross[1],
        }


@dataclass(frozen=True)
class CrossSupervision:
    """Computes the gradient of L for both students, one student and one term at a time.

    Pseudo-labels are constants, so nothing of student 1 is needed for student 2, nor the mixed images for the
    labelled ones: a quarter of the activations in memory, the same gradients. Batch norm sees every batch apart, in
    the published order: labeller on u0, on u1; student on mixed, on labelled.
    """

    students: Sequence[Callable[[Tensor], Tensor]]  # two; may be wrapped for several processes
    labellers: Sequence[nn.Module]  # two, or none for supervised training
    view: str
    supervised_loss: PixelLoss = cross_entropy
    average: Callable[[Tensor], Tensor] = lambda scalar: scalar  # mean over processes
    backward: Callable[[Tensor], None] = torch.Tensor.backward  # a gradient scaler goes here
    autocast: Callable[[], AbstractContextManager] = nullcontext

    def accumulate_gradients(self, batch: Batch, cps_weight: float) -> Losses:
        """Adds dL/d(parameters) to both students' gradients. With `cps_weight` 0 the pairs are not looked at."""
        supervised, cross = [], []
        pairs_used = cps_weight > 0 and len(self.labellers) > 0
        if pairs_used:
            pseudo_labels = self.pseudo_labels(batch)
            u0, u1 = batch.weak if self.view == "weak" else batch.strong
            image_mixed = mix(u0, u1, batch.mask)  # (B, 3, H, W)
        for index, student in enumerate(self.students):
            if pairs_used:
                with _without_exchange(student):  # gradients travel once, with the labelled term
                    loss = cross_entropy(self._logits(student, image_mixed), pseudo_labels[1 - index]).mean()
                    self.backward(cps_weight * loss)
                cross.append(loss.detach())
            loss = self.supervised_loss(self._logits(student, batch.image), batch.label).mean(self.average)
            self.backward(loss)
            supervised.append(loss.detach())
        if not pairs_used:
            return Losses(tuple(supervised), None, cps_weight)
        return Losses(tuple(supervised), tuple(cross), cps_weight, pseudo_labels)

    @torch.no_grad()
    def pseudo_labels(self, batch: Batch) -> list[Tensor]:
        """P_1 and P_2, each (B, H, W) uint8.

        Mixing after the argmax equals the argmax of mixed scores, because the mask is 0 or 1, and holds no mixed
        score map.
        """
        u0, u1 = batch.weak
        return [
            mix(self._hard_label(labeller, u0), self._hard_label(labeller, u1), batch.mask)
            for labeller in self.labellers
        ]

    def _hard_label(self, labeller: nn.Module, image: Tensor) -> Tensor:
        return self._logits(labeller, image).argmax(dim=1).to(torch.uint8)  # (B, H, W)

    def _logits(self, network: Callable[[Tensor], Tensor], image: Tensor) -> Tensor:
        with self.autocast():
            return network(image)  # (B, N, H, W)


def _without_exchange(student: Callable) -> AbstractContextManager:
    """A data-parallel wrapper's `no_sync`; nothing for a plain network."""
    return student.no_sync() if hasattr(student, "no_sync") else nullcontext()
