"""What the benchmarks of a training step run: training's own step, and the longhand one."""

import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from typing import NamedTuple

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from furnace.config.experiment import read_experiment
from furnace.engine.backend import prepare_backends
from furnace.engine.distributed import World
from furnace.network.resnet import AtrousConv2d
from furnace.semi.batch import Batch
from furnace.semi.cutmix import cutmix_masks
from furnace.training.learner import Learner
from tests.bench.measure import REPOSITORY
from tests.longhand import longhand_ema, longhand_step

RUN_LENGTH = 1000  # iterations: one step's rate is as good as another's
SMALL_CROP = 64  # of the step that warms a CPU up and makes momentum, before memory is looked at
TINY = ("backbone=resnet18_v1c", "width=0.25", "batch_size=4", "image_size=64")  # in place of a recipe, to rehearse


class Setup(NamedTuple):
    """What is measured on one kind of device."""

    settings: tuple[str, ...]
    memory_crop: int | None  # on a CPU memory is measured in fresh processes, at this crop
    matrix: int  # side of the matrix product
    rows: tuple[str, ...]  # what is put beside the step, the most wanted first; NAME=VALUE is a variant of it
    at_most: float  # seconds after which a row's turns end


SETUPS = {
    "cpu": Setup(
        ("batch_size=4", "image_size=128"),
        192,
        2048,
        ("longhand", "memory", "ema", "channels_last=0", "precision=bf16", "compile=1"),
        float("inf"),
    ),
    "cuda": Setup(
        ("batch_size=8", "image_size=512"),
        None,
        8192,
        ("longhand", "memory", "ema", "precision=fp16", "compile=1", "channels_last=0", "precision=fp32"),
        10.0,
    ),
    "tiny": Setup(
        TINY, None, 256, ("longhand", "memory", "ema", "precision=bf16", "compile=1", "channels_last=0"), 2.0
    ),
}


def build_learner(device: torch.device, *settings: str, experiment: str = "exp.voc/ensemble_teacher+cutmix") -> Learner:
    """What training uses, at its start, with random weights; of a setting that is given twice, the last one counts."""
    with tempfile.TemporaryDirectory() as folder:  # in place of a data set
        texts = dict(pair.split("=") for pair in ("pretrained_model=none", f"dataset_path={folder}", *settings))
        described = read_experiment(REPOSITORY / experiment, texts)
    prepare_backends(deterministic=False)
    return Learner(described, World(device=device), RUN_LENGTH)


def random_batch(learner: Learner, crop: int | None = None) -> Batch:
    """Noise in a learner's size, layout and number of classes; `crop` in place of its own."""
    settings, device = learner.settings, learner.world.device
    count, side, random = settings.batch_size, crop or settings.image_size, torch.Generator().manual_seed(0)
    classes = learner.num_classes
    layout = torch.channels_last if settings.channels_last else torch.contiguous_format

    def images() -> Tensor:
        return torch.randn(count, 3, side, side, generator=random).to(device, memory_format=layout)

    label = torch.randint(classes, (count, side, side), generator=random, dtype=torch.uint8).to(device)
    mask = torch.from_numpy(cutmix_masks(count, (side, side), np.random.default_rng(0))).to(device)
    return Batch(images(), label, (images(), images()), (images(), images()), mask)


class Step:
    """Training's own step, again and again on one batch."""

    def __init__(self, learner: Learner) -> None:
        self.learner, self.batch = learner, random_batch(learner)
        self.students = learner.ensemble.students

    def __call__(self) -> None:
        if self.learner.settings.compile:
            # Captured graphs, where there are any, may write over what the last step left.
            torch.compiler.cudagraph_mark_step_begin()
        self.learner.step(self.batch, iteration=0)

    def warm_up(self) -> None:
        """Makes momentum, and what libraries keep, with little memory for anything else."""
        self.learner.step(random_batch(self.learner, SMALL_CROP), iteration=0)


class LonghandStep:
    """The same networks and the same step, written down without a thought for time or memory.

    Like every program that does not say otherwise, it lets cuDNN round to TF32, and choose kernels by rules of thumb.

    Args:
        learner: in fp32 and contiguous memory.
        search: whether cuDNN tries out kernels, as it does in training's own step. It keeps its choices for as long as
            the process lives, so that two such steps with and without a search need a process each.
    """

    def __init__(self, learner: Learner, search: bool = False) -> None:
        self.search = search
        for network in learner.ensemble.networks().values():
            for module in network.modules():
                if isinstance(module, AtrousConv2d):
                    module.__class__ = nn.Conv2d  # with the taps that see padding alone
        self.students, self.teachers = learner.ensemble.students, learner.ensemble.teachers
        self.batch, self.small = random_batch(learner), random_batch(learner, SMALL_CROP)
        self.optimizers = [
            torch.optim.SGD(student.parameters(), learner.base_rate, momentum=0.9, weight_decay=2e-4, foreach=False)
            for student in self.students
        ]

    def __call__(self) -> None:
        self._step(self.batch)

    def warm_up(self) -> None:
        self._step(self.small)

    def _step(self, batch: Batch) -> None:
        supervised = partial(F.cross_entropy, ignore_index=255)
        with convolutions(self.search):
            longhand_step(self.students, self.teachers, batch, "strong", 1.0, supervised)
        for optimizer in self.optimizers:
            optimizer.step()
            optimizer.zero_grad()
        for teacher, student in zip(self.teachers, self.students, strict=True):
            longhand_ema(teacher, student, step=1, decay=0.999)


@contextmanager
def convolutions(search: bool) -> Iterator[None]:
    """Lets cuDNN work within this context as PyTorch has it when it is imported, but for `search`."""
    cudnn = torch.backends.cudnn
    before = cudnn.benchmark, cudnn.allow_tf32
    cudnn.benchmark, cudnn.allow_tf32 = search, True
    try:
        yield
    finally:
        cudnn.benchmark, cudnn.allow_tf32 = before


LONGHAND = ("precision=fp32", "channels_last=0")


def step_of(kind: str, device: torch.device, *settings: str) -> Step | LonghandStep:
    """Builds one step: "ours", "longhand", or "searched", the longhand one with cuDNN's search."""
    if kind == "ours":
        return Step(build_learner(device, *settings))
    return LonghandStep(build_learner(device, *settings, *LONGHAND), search=kind == "searched")
