"""The memory that training needs at the least, compared with what is free before any of it is taken."""

from collections.abc import Iterable, Iterator
from functools import partial
from itertools import chain
from typing import NamedTuple

import torch
from torch import Tensor, nn

from furnace.config.experiment import Experiment
from furnace.engine import memory
from furnace.engine.backend import training_dtype
from furnace.engine.distributed import World
from furnace.errors import say_note
from furnace.network.fit import without_values

PLENTY = 16384  # more bytes for each pixel of a batch than a step with the networks here keeps
COPIES = 5  # of both students' weights at the most: their own, the teachers', the gradients, and two of AdamW
FLOAT = 4  # bytes of a number of an image, of whatever type networks compute in
TIGHT = 1.5  # Where less than this times the least is free, a note says so: libraries and kernels need some too.
REMEDY = "lower batch_size or image_size, share the batch out over more GPUs, or take a smaller backbone or width"


def require_room(experiment: Experiment, world: World) -> None:
    """Raises InputError if a step surely does not fit into the memory, and notes if it may not."""
    settings, device = experiment.settings, world.device
    images, left = settings.batch_size // world.size, memory.free(device)
    if surely_fits(experiment, images, left):
        return
    least = least_bytes(experiment, images, device)
    what = f"training with batch_size={settings.batch_size} and image_size={settings.image_size}"
    if not settings.compile:  # which may find ways to keep less
        memory.require(least, what, REMEDY, device)
    if world.is_main and least * TIGHT > left:
        say_note(f"{what} needs at least {memory.said(least)} of memory on {device}, {memory.said(left)} are free")


def surely_fits(experiment: Experiment, images: int, room: float) -> bool:
    """Whether the sizes of images and weights alone show that a step fits well, so that it need not be measured.

    Args:
        images: in the batch of one process.
        room: in bytes.
    """
    numbers = range(1, len(experiment.settings.students) + 1)
    sizes = [_bytes(_tensors(without_values(partial(experiment.network, number)))) for number in numbers]
    weights = sum(sizes * 2 if len(sizes) == 1 else sizes)
    return images * experiment.settings.image_size**2 * PLENTY + TIGHT * COPIES * weights < room


def least_bytes(experiment: Experiment, images: int, device: torch.device) -> float:
    """Returns how many bytes a step holds at once at the least.

    That is the weights of students and teachers, what the optimizers remember of both students (SGD one number for
    each weight, AdamW two), the gradients of one, the images, and what one student's forward pass keeps for its
    backward pass.

    Args:
        images: in the batch of one process.
    """
    settings, method = experiment.settings, experiment.method
    size, half = settings.image_size, training_dtype(settings.precision, device) != torch.float32
    students = [_student_bytes(experiment, number, images) for number in range(1, len(settings.students) + 1)]
    first, second = students if len(students) == 2 else students * 2
    kept = max(first.kept, second.kept) // (2 if half else 1)
    copies = 2 if method.labellers == "teachers" else 1
    views = 1 if method.labellers == "none" else 4 + 2 * (method.view == "strong")  # and u0 and u1, and their mix
    remembered = 2 if settings.optimizer == "adamw" else 1
    return (
        copies * (first.weights + second.weights)
        + remembered * (first.trained + second.trained)
        + max(first.trained, second.trained)
        + views * images * 3 * size**2 * FLOAT
        + kept
    )


class _StudentBytes(NamedTuple):
    """What one student takes, in bytes."""

    weights: int  # parameters and buffers
    trained: int  # the parameters that a gradient reaches
    kept: int  # in fp32, from a forward pass for the backward pass


def _student_bytes(experiment: Experiment, number: int, images: int) -> _StudentBytes:
    """Measures a step of a student's network without values; `images` are those of a process."""
    size, weights, trained = experiment.settings.image_size, 0, 0

    image_bytes = images * 3 * size**2 * FLOAT

    def step(network: nn.Module) -> None:
        nonlocal weights, trained
        weights = _bytes(_tensors(network))
        network.train()(torch.empty(images, 3, size, size)).log_softmax(dim=1).mean().backward()
        trained = _bytes(parameter for parameter in network.parameters() if parameter.grad is not None)

    kept = memory.peak_of(lambda: without_values(lambda: experiment.network(number)), step) - image_bytes
    return _StudentBytes(weights, trained, max(0, kept))


def _tensors(network: nn.Module) -> Iterator[Tensor]:
    return chain(network.parameters(), network.buffers())


def _bytes(tensors: Iterable[Tensor]) -> int:
    return sum(tensor.nbytes for tensor in tensors)
