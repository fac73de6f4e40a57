"""THE ALGORITHM: cross pseudo supervision, by the students themselves or by their EMA teachers.

Two students f1 and f2 learn from labelled images x with labels y, and from pairs of unlabelled images u0 and u1:

    P_k     = mix(label_k(weak u0), label_k(weak u1))                pseudo-label of labeller k
    label_k = argmax h_k where max softmax h_k >= c, else IGNORE     c is `confidence`; with 0, every pixel has a label
    L_sup   = CE(f1(x), y) + CE(f2(x), y)
    L_cross = CE(f1(mix(u0, u1)), P_2) + CE(f2(mix(u0, u1)), P_1)    labels are crossed
    L       = L_sup + cps_weight * L_cross

In cross pseudo supervision the labellers h are the students, who see the weak view of u0 and u1: Chen et al.,
"Semi-Supervised Semantic Segmentation with Cross Pseudo Supervision" (2021). In Ensemble Teacher the labellers are the
students' EMA teachers, and the students see a strong view. `mix` is CutMix; CE is the mean of the pixels'
cross-entropies, which L_sup may replace by its OHEM variant.

With a `confidence` c above 0, the pixels that a labeller is not sure of are not learned from, but the mean of the cross
term stays one over ALL pixels, as in FixMatch (Sohn et al., 2020) and UniMatch (Yang et al., 2023). Where the mixed
images have M pixels, and student 1 gives class k the probability q(p, k) at pixel p:

    CE(f1(mix(u0, u1)), P_2) = 1/M * sum of -log q(p, P_2(p)) over the pixels p with P_2(p) != IGNORE

and likewise for student 2. So the fewer pixels a labeller is sure of, the less the cross term weighs beside L_sup.

With a `temperature` T above 0 labels are soft, softmax(h_k / T) in place of argmax h_k. A student learns all of a
labeller's probabilities P_2(p, k), and is not told that it should be sure where the labeller is not:

    CE(f1(mix(u0, u1)), P_2) = 1/M * sum over pixels p and classes k of -P_2(p, k) log q(p, k)

Below 1 T sharpens them, as in MixMatch (Berthelot et al., 2019); with T near 0 they are the hard labels.

With an `alignment`, labels are made of h_k plus a shift for each class (alignment.py).

In the shapes below, B is the number of images, H and W are their height and width, and N is the number of classes.
"""

from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from functools import cached_property

import torch
from torch import Tensor, nn

from furnace.semi.alignment import Alignment
from furnace.semi.batch import Batch
from furnace.semi.cutmix import mix
from furnace.semi.losses import PixelLoss, cross_entropy, cross_entropy_over_all, soft_cross_entropy_over_all
from furnace.semi.modes import in_eval_mode
from furnace.semi.terms import Autocast, Labels, LabelsOf, LossOf


@dataclass(frozen=True)
class Method:
    """The two choices in which the methods differ."""

    labellers: str  # who labels the unlabelled images: "none", "students" or "teachers"
    view: str  # in which view the students are trained on them: "weak" or "strong"


METHODS = {
    "supervised": Method(labellers="none", view="weak"),
    "org": Method(labellers="students", view="weak"),  # cross pseudo supervision
    "ema": Method(labellers="teachers", view="strong"),  # Ensemble Teacher
}


@dataclass(frozen=True)
class Losses:
    """The terms of one step. Lists hold the term of student 1, then that of student 2; all are detached scalars."""

    supervised: list[Tensor]
    cross: list[Tensor] | None  # before it is multiplied by cps_weight; None where no pairs were used
    cps_weight: float
    pseudo_labels: list[Tensor] | None = None  # P_1 and P_2 as hard labels, each (B, H, W) uint8
    likeliest: list[Tensor] | None = None  # the same with a class at every pixel; None where `confidence` is 0

    def terms(self) -> dict[str, Tensor]:
        """Returns every term by its name, and as `loss` their weighted sum L."""
        supervised_1, supervised_2 = self.supervised
        zero = torch.zeros_like(supervised_1)
        cross_1, cross_2 = self.cross or (zero, zero)
        return {
            "loss": supervised_1 + supervised_2 + self.cps_weight * (cross_1 + cross_2),
            "loss_sup_1": supervised_1,
            "loss_sup_2": supervised_2,
            "loss_cross_1": cross_1,
            "loss_cross_2": cross_2,
        }


def as_it_is(module: nn.Module) -> nn.Module:
    """Returns what it is given."""
    return module


@dataclass(frozen=True)
class CrossSupervision:
    """Computes the gradient of L for both students, one student and one term at a time.

    Pseudo-labels are constants. So student 1 can finish its backward pass before student 2 begins, and each student can
    finish the mixed images before it sees the labelled ones. The gradients are those of L as a whole, with a quarter of
    the activations in memory.

    Batch norm takes its statistics from one batch at a time, in the published order: a labeller sees u0, then u1; a
    student sees the mixed images, then the labelled ones.

    Labellers label without dropout and stochastic depth. Teachers are in such a mode all the time. Students, where they
    are the labellers, drop while they learn and not while they label.
    """

    students: Sequence[nn.Module]  # two networks
    labellers: Sequence[nn.Module]  # two networks, or none for supervised training
    view: str  # as in Method
    supervised_loss: PixelLoss = cross_entropy
    confidence: float = 0.0  # c: pseudo-labels of a lower probability are not learned from
    temperature: float = 0.0  # T of soft labels; 0 for hard ones
    alignment: Alignment | None = None  # holds labels to the labelled shares, and follows them with every step
    average: Callable[[Tensor], Tensor] = lambda values: values  # takes the mean of a tensor over all processes
    backward: Callable[[Tensor], None] = torch.Tensor.backward  # a gradient scaler puts its own here
    autocast: Autocast = nullcontext  # gives the context of every forward pass
    off_while_labelling: Sequence[nn.Module] = ()  # modules of students, which are in training mode otherwise
    compiled: Callable[[nn.Module], nn.Module] = as_it_is  # makes a graph of what a network does and what follows it
    parallel: Callable[[nn.Module], nn.Module] = as_it_is  # and here what shares gradients among processes

    @cached_property
    def losses_of(self) -> list[nn.Module]:
        """Both students as functions of an image, its label and a loss of the logits; see LossOf."""
        return [self.parallel(self.compiled(LossOf(student, self.autocast))) for student in self.students]

    @cached_property
    def labels_of(self) -> list[nn.Module]:
        """Both labellers as functions from images to labels; see LabelsOf."""
        return [
            self.compiled(LabelsOf(labeller, self.autocast, self.confidence, self.temperature))
            for labeller in self.labellers
        ]

    @property
    def cross_loss(self) -> PixelLoss:
        """The loss of the mixed images. Where every pixel has a label, its mean is one over all of them as well."""
        if self.temperature > 0:
            return soft_cross_entropy_over_all
        return cross_entropy_over_all if self.confidence > 0 else cross_entropy

    def accumulate_gradients(self, batch: Batch, cps_weight: float) -> Losses:
        """Adds dL/d(parameters) to both students' gradients and returns the terms of L.

        If `cps_weight` is 0 or there are no labellers, the unlabelled pairs are neither looked at nor needed.
        """
        supervised: list[Tensor] = []
        cross: list[Tensor] = []
        pairs_used = cps_weight > 0 and len(self.labellers) > 0
        if pairs_used:
            labels = self.pseudo_labels(batch)
            self._follow(labels, batch.label)
            learned = [labels_k.label if labels_k.soft is None else labels_k.soft for labels_k in labels]  # P_1 and P_2
            image_mixed = mix(*batch.pair(self.view))  # (B, 3, H, W)
        for index, loss_of in enumerate(self.losses_of):
            if pairs_used:
                # Labels are crossed: student 1 learns P_2, student 2 learns P_1. The mean is over all pixels, of which
                # all processes have the same number, so `mean` needs no `average`.
                with _without_exchange(loss_of):  # the labelled term below sends the gradients of both
                    loss = loss_of(image_mixed, learned[1 - index], self.cross_loss).mean()
                    self.backward(cps_weight * loss)
                cross.append(loss.detach())
            loss = loss_of(batch.image, batch.label, self.supervised_loss).mean(self.average)
            self.backward(loss)
            supervised.append(loss.detach())
        if not pairs_used:
            return Losses(supervised, None, cps_weight)
        pseudo_labels = [labels_k.label for labels_k in labels]
        likeliest = [labels_k.likeliest for labels_k in labels if labels_k.likeliest is not None]
        return Losses(supervised, cross, cps_weight, pseudo_labels, likeliest or None)

    @torch.no_grad()
    def pseudo_labels(self, batch: Batch) -> list[Labels]:
        """Returns P_1 and P_2, and what they were without the threshold.

        Because the mask is 0 or 1, mixing the labels equals taking the argmax of mixed scores. It needs no memory for
        mixed scores.
        """
        u0, u1, mask = batch.pair("weak")
        shifts = self.alignment.shifts() if self.alignment else [None, None]
        with in_eval_mode(self.off_while_labelling):
            return [
                _mix_labels(labels_of(u0, shift), labels_of(u1, shift), mask)
                for labels_of, shift in zip(self.labels_of, shifts, strict=True)
            ]

    @torch.no_grad()
    def _follow(self, labels: Sequence[Labels], label: Tensor) -> None:
        if self.alignment:
            said = [labels_k.said for labels_k in labels if labels_k.said is not None]
            self.alignment.follow(torch.stack(said), label, self.average)


def _mix_labels(first: Labels, second: Labels, mask: Tensor) -> Labels:
    def mixed(one: Tensor | None, other: Tensor | None) -> Tensor | None:
        return None if one is None or other is None else mix(one, other, mask)

    label = mix(first.label, second.label, mask)
    said = None if first.said is None or second.said is None else first.said + second.said
    return Labels(label, mixed(first.likeliest, second.likeliest), mixed(first.soft, second.soft), said)


def _without_exchange(loss_of: nn.Module) -> AbstractContextManager:
    """Returns a context in which backward keeps gradients within the process, if `loss_of` would exchange them."""
    return getattr(loss_of, "no_sync", nullcontext)()  # DistributedDataParallel has it
