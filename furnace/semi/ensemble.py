"""Two students, their teachers, and the seven predictors made of them."""

import copy
from collections.abc import Callable, Iterable, Mapping, Sequence

import torch
from torch import Tensor, nn

from furnace.semi.ema import ema_alpha, has_other_buffers, update_buffers, update_parameters

NETWORKS = ("student_1", "student_2", "teacher_1", "teacher_2")
STUDENTS = NETWORKS[:2]
BAND = 2**22  # scores of a network that are worked on at once; in fp32 they take 16 MB

# Each predictor, by its published code, is the mean of the logits of these networks.
PREDICTORS: dict[str, tuple[str, ...]] = {
    "v0": ("student_1",),
    "v0_2": ("student_2",),
    "v1": ("teacher_1",),
    "v1_2": ("teacher_2",),
    "v2": ("student_1", "student_2"),
    "v3": ("teacher_1", "teacher_2"),
    "v4": ("student_1", "student_2", "teacher_1", "teacher_2"),
}


def predictors_of(networks: Iterable[str]) -> tuple[str, ...]:
    """Returns the codes of the predictors whose networks are all among those named."""
    there = set(networks)
    return tuple(code for code, members in PREDICTORS.items() if there.issuperset(members))


def predict(scores: Mapping[str, Tensor], predictor: str) -> Tensor:
    """Returns the mean of the scores of a predictor's networks.

    The published v4 is the sum of two means. That is twice the mean of all four, so its argmax is the same.

    Args:
        scores: by the names in NETWORKS, all of one shape.
        predictor: a code of PREDICTORS.
    """
    first, *others = (scores[name] for name in PREDICTORS[predictor])
    if not others:
        return first
    total = first + others[0]
    for other in others[1:]:
        total += other
    return total.div_(1 + len(others))


def predicted_labels(scores: Mapping[str, Tensor], predictors: Sequence[str]) -> Tensor:
    """Returns the likeliest class of every pixel for each of P predictors, (P, H, W) uint8.

    It works on bands of rows, so that no predictor's scores are held at full size.

    Args:
        scores: the scores (N, H, W) of one image for N classes, by the names in NETWORKS.
        predictors: P codes of PREDICTORS.
    """
    first = next(iter(scores.values()))
    classes, height, width = first.shape
    labels = torch.empty(len(predictors), height, width, dtype=torch.uint8, device=first.device)
    rows = max(1, BAND // (classes * width))
    for top in range(0, height, rows):
        band = {name: whole[:, top : top + rows] for name, whole in scores.items()}
        for predicted, code in zip(labels[:, top : top + rows], predictors, strict=True):
            # Among equal scores `max` takes the first class, as argmax does; argmax takes four times as long on a CPU.
            predicted.copy_(predict(band, code).max(dim=0).indices)
    return labels


def count_different(labels: Tensor) -> Tensor:
    """Returns how many different classes P label maps (P, H, W) name at each pixel: (H, W) uint8 from 1 to P."""
    ordered = labels.sort(dim=0).values
    return (ordered[1:] != ordered[:-1]).sum(dim=0, dtype=torch.uint8) + 1


class Ensemble:
    """Two students and, where asked for, two teachers that start as copies of them.

    Args:
        build_network: makes one student. It is called twice, so that the two students differ by their random start.
        with_teachers: whether there are EMA teachers.
        build_second: makes the second student, where that is another network than the first.
    """

    def __init__(
        self,
        build_network: Callable[[], nn.Module],
        with_teachers: bool,
        build_second: Callable[[], nn.Module] | None = None,
    ) -> None:
        self.students = [build_network(), (build_second or build_network)()]
        self._other_buffers = any(map(has_other_buffers, self.students))  # a look at all modules takes its time
        self.teachers: list[nn.Module] = []
        if with_teachers:
            self.teachers = [copy.deepcopy(student).requires_grad_(False) for student in self.students]

    def networks(self) -> dict[str, nn.Module]:
        """Returns the two or four networks by their names in NETWORKS."""
        return dict(zip(NETWORKS, self.students + self.teachers, strict=False))

    def map(self, change: Callable[[nn.Module], nn.Module]) -> None:
        """Replaces every network by `change(network)`, for example by the same network on another device."""
        self.students = [change(student) for student in self.students]
        self.teachers = [change(teacher) for teacher in self.teachers]

    def predictors(self) -> tuple[str, ...]:
        """Returns the codes of the predictors whose networks are all there."""
        return predictors_of(self.networks())

    def update_teachers(self, step: int, decay: float, with_statistics: bool) -> None:
        """Moves every teacher towards its student after an optimizer step.

        Args:
            step: the number of optimizer steps taken.
            decay: the largest alpha of the average.
            with_statistics: whether to average the running statistics too, for teachers that do not make their own.
        """
        alpha = ema_alpha(step, decay)
        for teacher, student in zip(self.teachers, self.students, strict=False):  # there may be no teachers
            update_parameters(teacher, student, alpha)
            if with_statistics or self._other_buffers:
                update_buffers(teacher, student, alpha, with_statistics)
