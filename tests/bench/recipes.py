"""What each recipe's step takes: time and memory, in a fresh process for each.

    python -m tests.bench.recipes                 # CPU, fp32: five minutes on two cores
    python -m tests.bench.recipes --device cuda   # bf16, fp32 and fp16

Ensemble Teacher with ResNet-50 as the experiments set it, on a random batch. The last line is one JSON object: seconds
a step and megabytes by recipe and precision.
"""

import argparse
import json
import os
import subprocess
import sys
from statistics import median

import torch

from tests.bench.measure import MEGABYTE, REPOSITORY, markdown, seconds
from tests.bench.step import Step, build_learner, peak_memory

RECIPES = ("exp.voc", "exp.city", "exp.camvid")
PRECISIONS = {"cpu": ("fp32",), "cuda": ("bf16", "fp32", "fp16")}
STEPS = {"cpu": 1, "cuda": 20}


def cost(device: torch.device, recipe: str, precision: str) -> dict[str, float]:
    """Seconds a step, and bytes."""
    finish = torch.cuda.synchronize if device.type == "cuda" else lambda: None
    settings = (f"precision={precision}", "backbone=resnet50_v1c")
    step = Step(build_learner(device, *settings, experiment=recipe))
    memory = peak_memory(step, device)
    times = [seconds(step, finish) for _ in range(STEPS[device.type])]
    settings = step.learner.settings
    return {"seconds": median(times), "batch": settings.batch_size, "crop": settings.image_size, **memory}


def in_fresh_process(device: str, recipe: str, precision: str) -> dict[str, float]:
    command = [sys.executable, "-m", "tests.bench.recipes", "--device", device, "--recipe", recipe, precision]
    output = subprocess.run(command, cwd=REPOSITORY, env=os.environ, check=True, stdout=subprocess.PIPE).stdout
    return json.loads(output)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--device", choices=PRECISIONS, default="cpu")
    parser.add_argument("--recipe", nargs=2, metavar=("RECIPE", "PRECISION"), help="one of them alone, as JSON")
    options = parser.parse_args()
    if options.recipe:
        print(json.dumps(cost(torch.device(options.device), *options.recipe)))
        return
    rows, found = [], {}
    for recipe in RECIPES:
        for precision in PRECISIONS[options.device]:
            row = in_fresh_process(options.device, recipe, precision)
            found[f"{recipe} {precision}"] = [round(row["seconds"], 4), round(row["in_all"] / MEGABYTE)]
            memory = (f"{row[name] / MEGABYTE:,.0f} MB" for name in ("in_all", "above"))
            rows.append([recipe, f"{row['batch']} of {row['crop']}", precision, f"{row['seconds']:.3g} s", *memory])
    print(markdown(["recipe", "batch", "precision", "a step", "memory in all", "of it activations"], rows))
    print(json.dumps(found))


if __name__ == "__main__":
    main()
