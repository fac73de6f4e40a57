"""What each recipe's step takes: time and memory.

    python -m tests.bench.recipes                 # CPU, fp32: five minutes on two cores
    python -m tests.bench.recipes --device cuda   # bf16 of all recipes, then fp16, then fp32

Ensemble Teacher with ResNet-50 as the experiments set it, on a GPU with DINOv3 and DPT too, on a random batch; on a CPU
in a fresh process for each, on a GPU, whose memory is counted to the byte, in one. On a GPU "in all" is what tensors
take, "reserved" what PyTorch took from the GPU for them, the first step with cuDNN's search included. Rows are printed
as they become known; one that fails is a row. The last line is one JSON object, also where SIGTERM ends it: seconds a
step and megabytes in all by recipe and precision.
"""

import argparse
import json
import subprocess
import sys
from typing import NamedTuple

from tests.bench.measure import MEGABYTE, REPOSITORY, Times, in_turn
from tests.bench.peaks import Memory, built
from tests.bench.place import Place
from tests.bench.report import Report
from tests.bench.steps import TINY, Step, build_learner

RECIPES = {name: f"{name}/ensemble_teacher+cutmix" for name in ("exp.voc", "exp.city", "exp.camvid")}
# Those of a foundation encoder, three times as much work: on a GPU alone, and in its own precision.
LARGE = {f"{name} dinov3": f"{name}/ensemble_teacher+dinov3" for name in ("exp.voc", "exp.city")}
PRECISIONS = {"cpu": ("fp32",), "cuda": ("bf16", "fp16", "fp32"), "tiny": ("bf16", "fp32")}
STEPS = {"cpu": 1, "cuda": 20, "tiny": 3}
AT_MOST = 5.0  # seconds of steps, but for three that are always taken


class Cost(NamedTuple):
    """What one recipe takes in one precision."""

    batch: int
    crop: int
    first: float  # seconds of the first step
    times: Times
    memory: Memory


def cost(kind: str, device: str, recipe: str, precision: str) -> Cost:
    place = Place(device)
    settings = [f"precision={precision}", *(["backbone=resnet50_v1c"] if recipe in RECIPES else [])]
    settings += TINY if kind == "tiny" else ()

    def build() -> Step:
        return Step(build_learner(place.device, *settings, experiment=(RECIPES | LARGE)[recipe]))

    step, first, memory = built(place, build, small_first=kind == "cpu")
    times = in_turn({"step": step}, STEPS[kind], place.finish, AT_MOST, warm_up=False)["step"]
    chosen = step.learner.settings
    return Cost(chosen.batch_size, chosen.image_size, first, times, memory)


def in_fresh_process(recipe: str, precision: str) -> Cost:
    command = [sys.executable, "-m", "tests.bench.recipes", "--recipe", recipe, precision]
    output = subprocess.run(command, cwd=REPOSITORY, check=True, stdout=subprocess.PIPE).stdout
    *sizes, times, memory = json.loads(output)
    return Cost(*sizes, Times(*times), Memory(*memory))


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--device", choices=("cpu", "cuda"), default="cpu")
    parser.add_argument("--tiny", action="store_true", help="networks and crops that rehearse all this in seconds")
    parser.add_argument("--recipe", nargs=2, metavar=("RECIPE", "PRECISION"), help="one of them alone, as JSON")
    options = parser.parse_args()
    kind = "tiny" if options.tiny else options.device
    if options.recipe:
        print(json.dumps(cost(kind, options.device, *options.recipe)))
        return 0
    print(Place(options.device).name(), flush=True)
    columns = ("recipe", "batch", "precision", "a step", "its first one", "above weights", "in all", "reserved")
    with Report(*columns) as report:
        for precision in PRECISIONS[kind]:
            for recipe in (*RECIPES, *(LARGE if kind == "cuda" and precision == "bf16" else ())):
                with report.attempt(f"{recipe} {precision}"):
                    if kind == "cpu":
                        found = in_fresh_process(recipe, precision)
                    else:
                        found = cost(kind, options.device, recipe, precision)
                    first = "" if kind == "cpu" else f"{found.first:.3g} s"  # a small one there
                    memory = [f"{each / MEGABYTE:,.0f} MB" for each in found.memory]
                    report.row(recipe, f"{found.batch} of {found.crop}", precision, found.times, first, *memory)
                    in_all = round(found.memory.in_all / MEGABYTE)
                    report.figures[f"{recipe} {precision}"] = [round(found.times.median, 4), in_all]
    return report.status


if __name__ == "__main__":
    sys.exit(main())
