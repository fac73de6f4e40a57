"""One training step against the longhand one: time, memory, use of the machine; the EMA against a copy.

    python -m tests.bench.step                  # a CPU: ResNet-50, batch 4, fp32, crop 128; memory at crop 192
    python -m tests.bench.step --device cuda    # a GPU: the VOC recipe, ResNet-50, batch 8, crop 512, bf16

The longhand step (tests/longhand.py) is what one writes first: all forwards, one backward of the whole loss, contiguous
tensors, plain convolutions, averages tensor by tensor, fp32. Both take one random batch, in turn in one process. Memory
is the peak above weights, gradients and momentum, in a fresh process each. The last line is one JSON object:
`step_time` and `step_memory` are ratios to the longhand step, `utilisation` is the step's FLOP/s over those of a large
matrix product in the same precision, `ema_over_copy` the averages of both teachers over a copy of the same tensors.
"""

import argparse
import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode

from furnace.config.experiment import read_experiment
from furnace.engine.backend import prepare_backends
from furnace.engine.distributed import World
from furnace.network.resnet import AtrousConv2d
from furnace.semi.batch import Batch
from furnace.semi.cutmix import cutmix_masks
from furnace.training.learner import Learner
from tests.bench.measure import MEGABYTE, REPOSITORY, Times, in_turn, markdown, process_bytes
from tests.longhand import longhand_ema, longhand_step

RUN_LENGTH = 1000  # iterations: one step's rate is as good as another's
SMALL_CROP = 64  # of the step that warms up and makes momentum, before memory is looked at


class Setup(NamedTuple):
    """What is measured on one kind of device."""

    batch_size: int
    crop: int
    memory_crop: int
    matrix: int  # side of the matrix product
    variants: tuple[str, ...]


SETUPS = {
    "cpu": Setup(4, 128, 192, 2048, ("channels_last=0", "precision=bf16", "compile=1")),
    "cuda": Setup(8, 512, 512, 8192, ("channels_last=0", "precision=fp32", "precision=fp16", "compile=1")),
}


def build_learner(device: torch.device, *settings: str, experiment: str = "exp.voc") -> Learner:
    """What training uses, at its start, with random weights."""
    with tempfile.TemporaryDirectory() as folder:  # in place of a data set
        texts = dict(pair.split("=") for pair in ("pretrained_model=none", f"dataset_path={folder}", *settings))
        described = read_experiment(REPOSITORY / experiment / "ensemble_teacher+cutmix", texts)
    prepare_backends(deterministic=False, precision=described.settings.precision)
    return Learner(described, World(device=device), RUN_LENGTH)


def random_batch(learner: Learner, crop: int | None = None) -> Batch:
    """Noise in a learner's size, layout and number of classes; `crop` in place of its own."""
    settings, device = learner.settings, learner.world.device
    count, side, random = settings.batch_size, crop or settings.image_size, torch.Generator().manual_seed(0)
    classes = learner.ensemble.students[0].classifier.out_channels
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
        self.small = random_batch(learner, SMALL_CROP)

    def __call__(self) -> None:
        self.learner.step(self.batch, iteration=0)

    def warm_up(self) -> None:
        """Makes momentum, and what libraries keep, with little memory for anything else."""
        self.learner.step(self.small, iteration=0)


class LonghandStep:
    """The same networks and the same step, written down without a thought for time or memory.

    Like every program that does not say otherwise, it lets cuDNN round to TF32.

    Args:
        learner: in fp32 and contiguous memory.
    """

    def __init__(self, learner: Learner) -> None:
        torch.backends.cudnn.allow_tf32 = True
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
        longhand_step(self.students, self.teachers, batch, "strong", 1.0, supervised)
        for optimizer in self.optimizers:
            optimizer.step()
            optimizer.zero_grad()
        for teacher, student in zip(self.teachers, self.students, strict=True):
            longhand_ema(teacher, student, step=1, decay=0.999)


LONGHAND = ("precision=fp32", "channels_last=0")


def steps(
    device: torch.device, setup: Setup, crop: int, *settings: str
) -> dict[str, Callable[[], "Step | LonghandStep"]]:
    """How both are built, by name."""
    size = (f"batch_size={setup.batch_size}", f"image_size={crop}")
    return {
        "ours": lambda: Step(build_learner(device, *size, *settings)),
        "longhand": lambda: LonghandStep(build_learner(device, *size, *LONGHAND)),
    }


def flop_of(step: Step) -> int:
    """Floating-point operations of one step's convolutions, forward and backward."""
    with FlopCounterMode(display=False) as counter:
        step()
    return counter.get_total_flops()


def time_rows(device: torch.device, setup: Setup, turns: int) -> tuple[list[list[str]], dict[str, float]]:
    """The step, the longhand one and a matrix product in turn, then every variant beside the step."""
    finish = torch.cuda.synchronize if device.type == "cuda" else lambda: None
    step, longhand = (build() for build in steps(device, setup, setup.crop).values())
    matrix = torch.randn(setup.matrix, setup.matrix, device=device, dtype=step.learner.dtype)
    works = {"step": step, "longhand": longhand, "matrix": lambda: matrix @ matrix}
    times = in_turn(works, turns, finish)
    speed = flop_of(step) / times["step"].median
    matrix_speed = 2 * setup.matrix**3 / times["matrix"].median
    ratios = {"step_time": times["step"].median / times["longhand"].median, "utilisation": speed / matrix_speed}
    precision = str(step.learner.dtype).removeprefix("torch.")
    rows = [
        _row(f"step, crop {setup.crop}, {precision}", times["step"], times["longhand"], ratios["step_time"]),
        [
            "TFLOP/s, beside a matrix product's",
            f"{speed / 1e12:.3g}",
            f"{matrix_speed / 1e12:.3g}",
            f"{ratios['utilisation']:.2f}",
        ],
    ]
    del longhand, works
    for variant in setup.variants:
        other = steps(device, setup, setup.crop, variant)["ours"]()
        times = in_turn({"variant": other, "step": step}, turns, finish)
        name = f"step with {variant}, beside the step without"
        rows.append(_row(name, times["variant"], times["step"], times["variant"].median / times["step"].median))
    return rows, ratios


def _row(name: str, ours: Times, other: Times, ratio: float) -> list[str]:
    return [name, str(ours), str(other), f"{ratio:.2f}"]


def ema_row(device: torch.device, turns: int) -> tuple[list[str], float]:
    """Both averages, over a copy of both teachers' parameters."""
    finish = torch.cuda.synchronize if device.type == "cuda" else lambda: None
    ensemble = build_learner(device).ensemble
    parameters = [parameter.data for teacher in ensemble.teachers for parameter in teacher.parameters()]
    copies = [parameter.clone() for parameter in parameters]
    works = {
        "ema": lambda: ensemble.update_teachers(1, 0.999, with_buffers=False),
        "copy": lambda: torch._foreach_copy_(copies, parameters),
    }
    times = in_turn(works, 4 * turns, finish)
    millions = sum(parameter.numel() for parameter in parameters) / 2e6
    ratio = times["ema"].median / times["copy"].median
    return _row(f"EMA of {millions:.0f} million parameters, twice, beside a copy", *times.values(), ratio), ratio


def peak_memory(step: "Step | LonghandStep", device: torch.device) -> dict[str, int]:
    """Bytes above weights, gradients and momentum at the worst moment of a step; and of the whole process."""
    step.warm_up()
    if device.type == "cuda":
        step()  # cuDNN's search for the fastest kernels takes room that no later step takes
    networks = step.learner.ensemble.students if isinstance(step, Step) else step.students
    gradients = sum(4 * parameter.numel() for network in networks for parameter in network.parameters())
    if device.type == "cuda":
        in_all = torch.cuda.max_memory_reserved()  # with that search
        before = torch.cuda.memory_allocated()
        torch.cuda.reset_peak_memory_stats()
        step()
        return {"above": torch.cuda.max_memory_allocated() - before - gradients, "in_all": in_all}
    before = process_bytes("VmRSS")
    Path("/proc/self/clear_refs").write_text("5")  # the peak counts from here
    step()
    peak = process_bytes("VmHWM")
    return {"above": peak - before - gradients, "in_all": peak}


def memory_in_fresh_process(device: str, kind: str, *settings: str) -> dict[str, int]:
    # Memory that is given back leaves the process at once, so that its size is what is in use.
    environment = {**os.environ, "MALLOC_MMAP_THRESHOLD_": str(1 << 18), "MALLOC_TRIM_THRESHOLD_": "0"}
    command = [sys.executable, "-m", "tests.bench.step", "--device", device, "--memory-of", kind, *settings]
    return json.loads(
        subprocess.run(command, cwd=REPOSITORY, env=environment, check=True, stdout=subprocess.PIPE).stdout
    )


def memory_rows(device: str, setup: Setup) -> tuple[list[list[str]], float]:
    ours, longhand = (memory_in_fresh_process(device, kind) for kind in ("ours", "longhand"))
    ratio = ours["above"] / longhand["above"]
    cells = [f"{memory['above'] / MEGABYTE:,.0f} MB" for memory in (ours, longhand)]
    rows = [[f"peak memory above weights, gradients, momentum, crop {setup.memory_crop}", *cells, f"{ratio:.2f}"]]
    if device == "cuda":
        single = memory_in_fresh_process(device, "ours", "precision=fp32")
        for name, memory in {"bf16": ours, "fp32": single}.items():
            cells = [f"{found['in_all'] / MEGABYTE:,.0f} MB" for found in (memory, longhand)]
            rows.append([f"peak memory in all, {name}", *cells, f"{memory['in_all'] / longhand['in_all']:.2f}"])
    return rows, ratio


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--device", choices=SETUPS, default="cpu")
    parser.add_argument("--turns", type=int, default=5)
    parser.add_argument("--memory-of", choices=("ours", "longhand"), help="this alone, in bytes, as JSON")
    parser.add_argument("settings", nargs="*", metavar="NAME=VALUE")
    options = parser.parse_args()
    device, setup = torch.device(options.device), SETUPS[options.device]
    if options.memory_of:
        build = steps(device, setup, setup.memory_crop, *options.settings)[options.memory_of]
        print(json.dumps(peak_memory(build(), device)))
        return
    memory, memory_ratio = memory_rows(options.device, setup)
    ema, ema_ratio = ema_row(device, options.turns)
    times, ratios = time_rows(device, setup, options.turns)
    print(markdown(["what", "here", "beside", "ratio"], [times[0], *memory, *times[1:], ema]))
    ratios |= {"step_memory": memory_ratio, "ema_over_copy": ema_ratio}
    print(json.dumps({name: round(ratio, 3) for name, ratio in ratios.items()}))


if __name__ == "__main__":
    main()
