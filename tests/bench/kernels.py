"""Where the time of a training step goes on a GPU: kernels by kind, the longest ones, and the time in which none runs.

    python -m tests.bench.kernels                       # the VOC recipe, ResNet-50, batch 8, crop 512, bf16
    python -m tests.bench.kernels precision=fp32 compile=1

Takes settings as the experiments do. On a CPU, where there are no kernels, it counts PyTorch's operators, of which some
lie within others. The last line is one JSON object: milliseconds of a step by kind, and the share of idle time.
"""

import argparse
import json
import re
import tempfile
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import torch
from torch.profiler import ProfilerActivity, profile

from tests.bench.measure import markdown
from tests.bench.step import SETUPS, Step, build_learner

STEPS, WARM_UP, LONGEST = 3, 5, 15
KINDS = {  # the first whose pattern is in a kernel's name
    "batch norm": r"batch_?norm|\bbn_|_bn_",
    "optimizer, average, norms of gradients": r"multi_tensor|foreach|fused_sgd|lpnorm",
    "resize": r"upsample|interpolate",
    "loss": r"softmax|nll_loss|cross_entropy",
    "convolution": r"conv|cudnn|xmma|cutlass|gemm|wgrad|dgrad|fprop|nvjet",
    "copy": r"memcpy|memset|copy|nchwToNhwc|nhwcToNchw|fill",
}


class Kernel(NamedTuple):
    """One run of a kernel; times in microseconds."""

    name: str
    begin: float
    duration: float

    @property
    def kind(self) -> str:
        found = (kind for kind, pattern in KINDS.items() if re.search(pattern, self.name, re.IGNORECASE))
        return next(found, "element by element, sums, others")


def kernels_of(step: Step, device: torch.device, steps: int) -> list[Kernel]:
    """All kernels of `steps` steps, in the order of their beginnings."""
    for _ in range(WARM_UP if device.type == "cuda" else 1):
        step()
    cuda = device.type == "cuda"
    with profile(activities=[ProfilerActivity.CUDA if cuda else ProfilerActivity.CPU]) as profiler:
        for _ in range(steps):
            step()
        if cuda:
            torch.cuda.synchronize()
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "trace.json")
        profiler.export_chrome_trace(str(path))
        events = json.loads(path.read_text(encoding="utf-8", errors="replace"))["traceEvents"]
    categories = {"kernel", "gpu_memcpy", "gpu_memset"} if cuda else {"cpu_op"}
    kernels = [Kernel(event["name"], event["ts"], event["dur"]) for event in events if event.get("cat") in categories]
    return sorted(kernels, key=lambda kernel: kernel.begin)


def busy_and_span(kernels: Sequence[Kernel]) -> tuple[float, float]:
    """Microseconds in which at least one kernel runs, and from the first's beginning to the last's end."""
    busy, reached = 0.0, kernels[0].begin
    for kernel in kernels:
        end = kernel.begin + kernel.duration
        busy += max(0.0, end - max(reached, kernel.begin))
        reached = max(reached, end)
    return busy, reached - kernels[0].begin


def table(kernels: Sequence[Kernel], steps: int, group: str) -> tuple[str, dict[str, float]]:
    """A row for each `group` ("kind" or "name"), and its milliseconds a step; the longest first."""
    times: Counter[str] = Counter()
    counts: Counter[str] = Counter()
    for kernel in kernels:
        times[getattr(kernel, group)] += kernel.duration / 1000 / steps
        counts[getattr(kernel, group)] += 1
    total = sum(times.values())
    rows = [
        [re.sub(r"\s+|\|", " ", name)[:110], round(counts[name] / steps), f"{ms:.2f}", f"{100 * ms / total:.1f} %"]
        for name, ms in times.most_common(LONGEST)
    ]
    return markdown([group, "runs a step", "ms a step", "share"], rows), dict(times)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--device", choices=SETUPS, default="cuda" if torch.cuda.is_available() else "cpu")
    parser.add_argument("--steps", type=int, default=STEPS)
    parser.add_argument("settings", nargs="*", metavar="NAME=VALUE")
    options = parser.parse_args()
    device, setup = torch.device(options.device), SETUPS[options.device]
    size = (f"batch_size={setup.batch_size}", f"image_size={setup.crop}")
    kernels = kernels_of(Step(build_learner(device, *size, *options.settings)), device, options.steps)
    busy, span = busy_and_span(kernels)
    by_kind, times = table(kernels, options.steps, "kind")
    by_name, _ = table(kernels, options.steps, "name")
    print(by_kind, by_name, sep="\n\n")
    print(
        f"\n{len(kernels) / options.steps:.0f} kernels a step; none runs in {100 * (1 - busy / span):.1f} % of the time"
    )
    found = {kind: round(ms, 2) for kind, ms in times.items()}
    print(json.dumps(found | {"step": round(span / 1000 / options.steps, 2), "idle": round(1 - busy / span, 4)}))


if __name__ == "__main__":
    main()
