"""One training step against the longhand one: time, memory, use of the machine; the EMA against a copy; variants.

    python -m tests.bench.step                  # a CPU: ResNet-50, batch 4, fp32, crop 128; memory at crop 192
    python -m tests.bench.step --device cuda    # a GPU: the VOC recipe, ResNet-50, batch 8, crop 512, bf16
    python -m tests.bench.step --device cuda --rows longhand compile=1      # only these, beside the step

The longhand step (tests/longhand.py) is what one writes first: all forwards, one backward of the whole loss, contiguous
tensors, plain convolutions, averages tensor by tensor, fp32, and PyTorch as it comes: TF32 in cuDNN, no search for
kernels. `--rows searched` gives it that search, in a process without `longhand`. All steps take one random batch, and
what is compared runs in turn in one process. Memory is the peak above weights, gradients and momentum; on a CPU in a
fresh process each. Rows are printed as they become known, a variant that fails is a row, and on a GPU a row's turns end
after ten seconds. The last line is one JSON object, also where SIGTERM ends it: `step_time` and `step_memory` are
ratios to the longhand step, `utilisation` is the step's FLOP/s over those of a large matrix product in the same
precision, `ema_over_copy` the averages of both teachers over a copy of the same tensors.
"""

import argparse
import json
import os
import subprocess
import sys
from collections.abc import Callable
from functools import partial

import torch
from torch.utils.flop_counter import FlopCounterMode

from tests.bench.measure import MEGABYTE, REPOSITORY, Times, in_turn, launch_seconds
from tests.bench.peaks import Built, Memory, built
from tests.bench.place import Place
from tests.bench.report import Report
from tests.bench.steps import SETUPS, Setup, Step, step_of

LAUNCHES = 5  # turns of the time until all is launched


class StepRows:
    """The table's rows. Training's own step is built once, and stays for all comparisons.

    Args:
        turns: of each comparison, at most.
    """

    def __init__(self, report: Report, place: Place, setup: Setup, turns: int) -> None:
        self.report, self.place, self.setup, self.turns = report, place, setup, turns
        self.ours = self._built("ours")
        self.step = self.ours.step
        self.precision = str(self.step.learner.dtype).removeprefix("torch.")
        self.longhand_memory: Memory | None = None
        self.as_on_gpu = setup.memory_crop is None  # memory in this process, and first steps of the full size

    def alone(self) -> None:
        """The step by itself: its first time, its time, and when the last of it has been launched."""
        times = self._in_turn(step=self.step)["step"]
        if not self.as_on_gpu:
            self.report.row(f"step, {self.precision}", times, "", "")
        else:
            self.report.row(f"step, {self.precision}; its first one", times, f"{self.ours.first:.3g} s", "")
            self.report.figure("first_seconds", self.ours.first)
            launched = Times.over([launch_seconds(self.step, self.place.finish) for _ in range(LAUNCHES)])
            self._row("until its last kernel is launched, beside its end", launched, times)
        self.report.figure("seconds", times.median)

    def add(self, row: str) -> None:
        """Adds a row by its name, or a variant by its setting NAME=VALUE."""
        if row == "memory":
            self._memory()
        elif row == "ema":
            self._ema()
        elif row in NAMES:
            self._beside_longhand(row)
        else:
            self._variant(row)

    def _beside_longhand(self, kind: str) -> None:
        """The step beside the longhand one and a large matrix product."""
        longhand, side = self._built(kind), self.setup.matrix
        self.longhand_memory = longhand.memory
        matrix = torch.randn(side, side, device=self.place.device, dtype=self.step.learner.dtype)
        times = self._in_turn(step=self.step, longhand=longhand.step, matrix=lambda: matrix @ matrix)
        ratio = self._row(f"step, {self.precision}, beside {NAMES[kind]}", times["step"], times["longhand"])
        self.report.figure("step_time" if kind == "longhand" else "step_time_searched", ratio)
        speed, matrix_speed = flop_of(self.step) / times["step"].median, 2 * side**3 / times["matrix"].median
        cells = [f"{each / 1e12:.3g}" for each in (speed, matrix_speed)]
        self.report.row("its TFLOP/s, beside a matrix product's", *cells, f"{speed / matrix_speed:.2f}")
        self.report.figure("utilisation", speed / matrix_speed)

    def _memory(self) -> None:
        """The peak of a step beside that of the longhand one."""
        if not self.as_on_gpu:
            ours, longhand = memory_in_fresh_process("ours"), memory_in_fresh_process("longhand")
        else:
            ours, longhand = self.ours.memory, self.longhand_memory or self._built("longhand").memory
        crop = "" if self.as_on_gpu else f", crop {self.setup.memory_crop}"
        name = f"peak memory above weights, gradients, momentum{crop}"
        self.report.figure("step_memory", self._memory_row(name, ours.above, longhand.above))
        self._memory_row("peak memory in all", ours.in_all, longhand.in_all)
        if self.place.is_gpu:
            self._memory_row("reserved, with what the first step takes", ours.reserved, longhand.reserved)

    def _ema(self) -> None:
        """Both averages, over a copy of both teachers' parameters."""
        ensemble = self.step.learner.ensemble
        parameters = [parameter.data for teacher in ensemble.teachers for parameter in teacher.parameters()]
        copies = [parameter.clone() for parameter in parameters]
        times = self._in_turn(
            ema=lambda: ensemble.update_teachers(1, 0.999, with_statistics=False),
            copy=lambda: torch._foreach_copy_(copies, parameters),
        )
        millions = sum(parameter.numel() for parameter in parameters) / 2e6
        name = f"EMA of {millions:.0f} million parameters, twice, beside a copy"
        self.report.figure("ema_over_copy", self._row(name, *times.values()))

    def _variant(self, setting: str) -> None:
        """The step with another setting, beside the step without."""
        other = self._built("ours", setting)
        times = self._in_turn(variant=other.step, step=self.step)
        captured = os.environ.get("TORCHINDUCTOR_CUDAGRAPHS") == "1" and setting == "compile=1"
        name = f"step with {setting}{' and captured graphs' if captured else ''}"
        ratio = self._row(f"{name}, beside the step without", times["variant"], times["step"])
        self.report.figure(name, ratio)
        self.report.figure(f"{name}: seconds", times["variant"].median)
        if self.as_on_gpu:
            first = [f"{each.first:.3g} s" for each in (other, self.ours)]
            self.report.row(f"{name}: the first one", *first, "")
            self._memory_row(f"{name}: peak memory above weights", other.memory.above, self.ours.memory.above)

    def _built(self, kind: str, *settings: str) -> Built:
        build = partial(step_of, kind, self.place.device, *self.setup.settings, *settings)
        return built(self.place, build, small_first=not self.place.is_gpu)

    def _in_turn(self, **works: Callable[[], object]) -> dict[str, Times]:
        return in_turn(works, self.turns, self.place.finish, self.setup.at_most)

    def _row(self, name: str, ours: Times, other: Times) -> float:
        ratio = ours.median / other.median
        self.report.row(name, ours, other, f"{ratio:.2f}")
        return ratio

    def _memory_row(self, name: str, ours: int, other: int) -> float:
        ratio = ours / (other or 1)  # a tiny process may need no more than before
        self.report.row(name, *(f"{each / MEGABYTE:,.0f} MB" for each in (ours, other)), f"{ratio:.2f}")
        return ratio


NAMES = {"longhand": "the longhand step", "searched": "the longhand step with a search for kernels"}


def flop_of(step: Step) -> int:
    """Floating-point operations of one step's convolutions, forward and backward."""
    with FlopCounterMode(display=False) as counter:
        step()
    return counter.get_total_flops()


def memory_in_fresh_process(kind: str) -> Memory:
    """A step's memory on a CPU."""
    # Memory that is given back leaves the process at once, so that its size is what is in use.
    environment = {**os.environ, "MALLOC_MMAP_THRESHOLD_": str(1 << 18), "MALLOC_TRIM_THRESHOLD_": "0"}
    command = [sys.executable, "-m", "tests.bench.step", "--memory-of", kind]
    output = subprocess.run(command, cwd=REPOSITORY, env=environment, check=True, stdout=subprocess.PIPE).stdout
    return Memory(*json.loads(output))


def memory_here(kind: str) -> Memory:
    """The same in this process."""
    place, setup = Place("cpu"), SETUPS["cpu"]
    settings = (*setup.settings, f"image_size={setup.memory_crop}")
    return built(place, partial(step_of, kind, place.device, *settings), small_first=True).memory


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--device", choices=("cpu", "cuda"), default="cpu")
    parser.add_argument("--turns", type=int, default=5)
    parser.add_argument("--rows", nargs="+", metavar="ROW", help="longhand, searched, memory, ema, or NAME=VALUE")
    parser.add_argument("--tiny", action="store_true", help="a network and a crop that rehearse all this in seconds")
    parser.add_argument("--memory-of", choices=("ours", "longhand"), help="this alone, in bytes, on a CPU")
    options = parser.parse_args()
    if options.memory_of:
        print(json.dumps(memory_here(options.memory_of)))
        return 0
    place, setup = Place(options.device), SETUPS["tiny" if options.tiny else options.device]
    if options.tiny:  # a real compiler takes minutes
        torch.compile = partial(torch.compile, backend="aot_eager")
    print(place.name(), flush=True)
    with Report("what", "here", "beside", "ratio") as report:
        rows = StepRows(report, place, setup, options.turns)
        rows.alone()
        for row in options.rows or setup.rows:
            with report.attempt(row):
                rows.add(row)
    return report.status


if __name__ == "__main__":
    sys.exit(main())
