"""Where the time of a training step goes on a GPU: kernels by kind, the longest ones, and the time in which none runs.

    python -m tests.bench.kernels                       # the VOC recipe, ResNet-50, batch 8, crop 512, bf16
    python -m tests.bench.kernels precision=fp32 compile=1

Takes settings as the experiments do. The step is timed before the profiler comes, because launches stay dearer in a
process after it: how long Python takes to launch a step, and how long the step takes. The last table tells what Python
spends in the CUDA runtime, launches among it. On a CPU, where there are no kernels, PyTorch's operators are counted, of
which some lie within others. The last line is one JSON object: milliseconds of a step by kind, the step's, and the
share of time in which no kernel runs.
"""

import argparse
import json
import re
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path
from statistics import median
from typing import NamedTuple

import torch
from torch.profiler import ProfilerActivity, profile

from tests.bench.measure import Times, in_turn, launch_seconds
from tests.bench.peaks import built
from tests.bench.place import Place
from tests.bench.report import Report
from tests.bench.steps import SETUPS, Step, build_learner

STEPS, LONGEST, TURNS = 3, 15, 10
KINDS = {  # the first whose pattern is in a kernel's name
    "fused by torch.compile": r"^triton_",
    "batch norm": r"batch_?norm|\bbn_|_bn_",
    "optimizer, average, norms of gradients": r"multi_tensor|foreach|fused_sgd|lpnorm",
    "resize": r"upsample|interpolate",
    "loss": r"softmax|nll_loss|cross_entropy",
    "convolution": r"conv|cudnn|xmma|cutlass|gemm|wgrad|dgrad|fprop|nvjet",
    "copy": r"memcpy|memset|copy|nchwToNhwc|nhwcToNchw|fill",
}


class Kernel(NamedTuple):
    """One run of a kernel, or one call; times in microseconds."""

    name: str
    begin: float
    duration: float

    @property
    def kind(self) -> str:
        found = (kind for kind, pattern in KINDS.items() if re.search(pattern, self.name, re.IGNORECASE))
        return next(found, "element by element, sums, others")


def traced(step: Step, place: Place, steps: int) -> tuple[list[Kernel], list[Kernel]]:
    """All kernels of `steps` steps, in the order of their beginnings, and all calls of the CUDA runtime."""
    place.finish()
    with profile(activities=[ProfilerActivity.CUDA if place.is_gpu else ProfilerActivity.CPU]) as profiler:
        for _ in range(steps):
            step()
        place.finish()
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "trace.json")
        profiler.export_chrome_trace(str(path))
        events = json.loads(path.read_text(encoding="utf-8", errors="replace"))["traceEvents"]

    def of(*categories: str) -> list[Kernel]:
        found = (event for event in events if event.get("cat") in categories)
        kernels = [Kernel(event["name"], event["ts"], event.get("dur", 0.0)) for event in found]
        return sorted(kernels, key=lambda kernel: kernel.begin)

    ran = of("kernel", "gpu_memcpy", "gpu_memset") if place.is_gpu else of("cpu_op")
    return ran, of("cuda_runtime", "cuda_driver")


def busy_and_span(kernels: Sequence[Kernel]) -> tuple[float, float]:
    """Microseconds in which at least one kernel runs, and from the first's beginning to the last's end."""
    busy, reached = 0.0, kernels[0].begin
    for kernel in kernels:
        end = kernel.begin + kernel.duration
        busy += max(0.0, end - max(reached, kernel.begin))
        reached = max(reached, end)
    return busy, reached - kernels[0].begin


def add_table(report: Report, kernels: Sequence[Kernel], steps: int, group: str) -> dict[str, float]:
    """Adds a table with a row for each `group`, "kind" or "name", the longest first; returns milliseconds a step."""
    report.table(group, "runs a step", "ms a step", "share", "median µs of one")
    durations: dict[str, list[float]] = {}  # microseconds
    for kernel in kernels:
        durations.setdefault(getattr(kernel, group), []).append(kernel.duration)
    times = {name: sum(each) / 1000 / steps for name, each in durations.items()}
    longest = sorted(times, key=times.__getitem__, reverse=True)
    for name in longest[:LONGEST]:
        share = 100 * times[name] / sum(times.values())
        runs, words = len(durations[name]) / steps, re.sub(r"\s+|\|", " ", name)[:110]
        report.row(words, f"{runs:.0f}", f"{times[name]:.2f}", f"{share:.1f} %", f"{median(durations[name]):.1f}")
    return times


def add_times(report: Report, step: Step, place: Place, first: float) -> None:
    """Adds what a step takes before the profiler comes."""
    turns = TURNS if place.is_gpu else 3
    times = in_turn({"step": step}, turns, place.finish, warm_up=False)["step"]
    launched = Times.over([launch_seconds(step, place.finish) for _ in range(turns)])
    report.row("first step", f"{first:.3g} s")
    report.row("step", times)
    report.row("until its last kernel is launched", launched)
    report.figure("step_before_profiler", 1000 * times.median)
    report.figure("launched_before_profiler", 1000 * launched.median)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--device", choices=("cpu", "cuda"), default="cuda" if torch.cuda.is_available() else "cpu")
    parser.add_argument("--steps", type=int, default=STEPS)
    parser.add_argument("--tiny", action="store_true", help="a network and a crop that rehearse all this in seconds")
    parser.add_argument("settings", nargs="*", metavar="NAME=VALUE")
    options = parser.parse_args()
    place, setup = Place(options.device), SETUPS["tiny" if options.tiny else options.device]
    print(place.name(), flush=True)
    with Report("before the profiler", "time") as report:
        ready = built(place, lambda: Step(build_learner(place.device, *setup.settings, *options.settings)))
        add_times(report, ready.step, place, ready.first)
        kernels, calls = traced(ready.step, place, options.steps)
        busy, span = busy_and_span(kernels)
        for kind, milliseconds in add_table(report, kernels, options.steps, "kind").items():
            report.figure(kind, milliseconds)
        report.figure("step", span / 1000 / options.steps)
        report.figure("idle", 1 - busy / span)
        add_table(report, kernels, options.steps, "name")
        if calls:
            add_table(report, calls, options.steps, "name")
        idle = f"none runs in {100 * (1 - busy / span):.1f} % of the time"
        print(f"\n{len(kernels) / options.steps:.0f} kernels a step under the profiler; {idle}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
