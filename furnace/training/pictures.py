"""What a run shows while it trains: what goes into a step, what comes out of it, and how far the networks agree.

B images of a process, S the side of the crop, N classes; pictures are uint8 RGB.
"""

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor, nn

from furnace.data.datasets import Dataset
from furnace.data.samples import RawBatch
from furnace.engine.backend import autocast
from furnace.engine.bars import tell
from furnace.errors import in_short
from furnace.labels import IGNORE
from furnace.pictures import colourize, grey, panel, shrink
from furnace.semi.batch import Batch
from furnace.semi.cutmix import mix
from furnace.semi.modes import modes_kept
from furnace.training.events import Events
from furnace.training.learner import Learner, Step

LONGEST_SIDE = 256  # of a picture, in pixels; larger ones are shrunk
WHITE = np.uint8(255)


class TrainingPictures:
    """Looks at single steps of this process and shows them in TensorBoard. Looking changes nothing of the run."""

    def __init__(self, dataset: Dataset, learner: Learner, events: Events) -> None:
        self.dataset, self.learner, self.events = dataset, learner, events
        self._failed = False

    def look(self, raw: RawBatch, batch: Batch, step: Step, iterations_done: int) -> None:
        """Draws the first sample of the batch and of its pairs, and adds numbers that are counted over all of them.

        Predictions are those of student 1 after the step, in eval mode. After a failure, such as one for want of
        memory, it says so and draws no more: the run does without.
        """
        if self._failed:
            return
        try:
            self._look(raw, batch, step, iterations_done)
        except Exception as error:
            self._failed = True
            tell(f"note: no more pictures of steps: {in_short(error)}")

    def _look(self, raw: RawBatch, batch: Batch, step: Step, iterations_done: int) -> None:
        image = raw.image[0].numpy()
        labelled = [image, self._colours(raw.label[0]), self._colours(self._predict(batch.image))]
        self._show("labelled", labelled, ["image", "truth", "student 1"], iterations_done)
        scalars = {f"distance/teacher_{k}": value for k, value in enumerate(self._distances(), 1)}
        if step.pseudo_labels is not None:
            first, second = step.pseudo_labels
            self._show_pair(raw, batch, first, second, iterations_done)
            scalars |= self._agreement(first, second) | self._shares(step.pseudo_labels)
        self.events.scalars(scalars, iterations_done)

    def _show_pair(self, raw: RawBatch, batch: Batch, first: Tensor, second: Tensor, iterations_done: int) -> None:
        view = self.learner.method.view
        mixed = mix(*batch.pair(view))  # (B, 3, S, S)
        u0, u1 = raw.pair_weak if view == "weak" else raw.pair_strong  # each (B, S, S, 3)
        mask = raw.mask[0][0, 0].numpy()  # (S, S)
        unlabelled = {
            "u0 weak": raw.pair_weak[0][0].numpy(),
            "u1 weak": raw.pair_weak[1][0].numpy(),
            "mask": grey(mask * WHITE),
            f"mixed {view}": np.where(mask[..., None] == 1, u1[0].numpy(), u0[0].numpy()),
            "pseudo-label 1": self._colours(first[0]),
            "pseudo-label 2": self._colours(second[0]),
            "they agree": self._where_equal(first[0], second[0]),
            "student 1": self._colours(self._predict(mixed)),
        }
        self._show("unlabelled", list(unlabelled.values()), list(unlabelled), iterations_done)

    def _show(self, name: str, pictures: Sequence[np.ndarray], captions: Sequence[str], iterations_done: int) -> None:
        row = [shrink(picture, LONGEST_SIDE) for picture in pictures]
        self.events.picture(f"step/{name}", panel([row], captions), iterations_done)

    def _colours(self, label: Tensor) -> np.ndarray:
        return colourize(label.cpu().numpy(), self.dataset.palette)

    def _where_equal(self, first: Tensor, second: Tensor) -> np.ndarray:
        """White where two labels (S, S) are equal, black where not; where one is ignored, its colour in labels."""
        equal = (first == second).to(torch.uint8).masked_fill(~_both(first, second), IGNORE)
        return colourize(equal.cpu().numpy(), [(0, 0, 0), (255, 255, 255)])

    def _predict(self, images: Tensor) -> Tensor:
        """The classes (S, S) uint8 that student 1 sees in the first of (B, 3, S, S); its running statistics stay."""
        student = self.learner.ensemble.students[0]
        with modes_kept(list(student.modules())), torch.no_grad(), autocast(images.device, self.learner.dtype):
            scores = student.eval()(images[:1])[0]  # (N, S, S)
        return scores.argmax(dim=0).to(torch.uint8)

    def _distances(self) -> list[float]:
        """How far each teacher is from its student; no numbers where there are no teachers."""
        ensemble = self.learner.ensemble
        return [_distance(*pair) for pair in zip(ensemble.teachers, ensemble.students, strict=False)]

    def _agreement(self, first: Tensor, second: Tensor) -> dict[str, float]:
        """The share of equal labels among the pixels that both labellers label; no number where there are none."""
        both = _both(first, second)
        equal, labelled = ((first == second) & both).sum().item(), both.sum().item()
        return {"agreement": equal / labelled} if labelled else {}

    def _shares(self, pseudo_labels: Sequence[Tensor]) -> dict[str, float]:
        """Which share of all pseudo-labelled pixels each class has, from 0 to 1; no numbers where there are none."""
        counts = torch.bincount(torch.cat([label.flatten() for label in pseudo_labels]), minlength=256).tolist()
        named = dict(zip(self.dataset.classes, counts, strict=False))  # the last count is that of ignored pixels
        labelled = sum(named.values())
        return {f"pseudo_label_share/{name}": count / labelled for name, count in named.items() if labelled}


def _both(first: Tensor, second: Tensor) -> Tensor:
    """Where both of two label maps have a label."""
    return (first != IGNORE) & (second != IGNORE)


def _distance(teacher: nn.Module, student: nn.Module) -> float:
    """The Euclidean distance between the weights, as a part of the length of the student's."""
    ours: list[Tensor] = list(teacher.parameters())
    theirs: list[Tensor] = list(student.parameters())
    with torch.no_grad():
        difference = torch._foreach_norm(torch._foreach_sub(ours, theirs))
        length = torch._foreach_norm(theirs)
    return (torch.stack(difference).norm() / torch.stack(length).norm()).item()
