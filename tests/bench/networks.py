"""What other networks than the published one take: a step's time and memory, its FLOP, and the wrapper around them.

    python -m tests.bench.networks                  # CPU, fp32, batch 4, crop 128: four minutes on two cores
    python -m tests.bench.networks --device cuda    # as auto precision has it

A step is one of Ensemble Teacher on a random batch; on a CPU each is taken in a fresh process. FLOP are counted without
values, for the experiments at their own batch and crop too: both students go forward and back over labelled and mixed
images, both teachers forward over both images of each pair, and going back counts as twice going forward. The wrapper
(furnace/network/library.py) is timed beside the library's own model with the same weights, forward and back, in turn in
one process. The last line is one JSON object: seconds and megabytes of a step by network, FLOP of a step by recipe, and
the wrapper's time over the bare model's.
"""

import argparse
import json
import subprocess
import sys
import warnings
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode

from furnace.network.choice import build_network
from furnace.network.fit import without_values
from tests.bench.measure import MEGABYTE, REPOSITORY, Times, in_turn
from tests.bench.peaks import Memory, built
from tests.bench.place import Place
from tests.bench.report import Report
from tests.bench.steps import Step, build_learner

NETWORKS = (  # decoder and backbone
    ("published", "resnet50_v1c"),
    ("DeepLabV3Plus", "tu-tf_efficientnet_lite0"),
    ("DPT", "tu-vit_small_patch16_dinov3.lvd1689m"),
)
DINOV3 = ("DPT", "tu-vit_base_patch16_dinov3.lvd1689m")
RECIPES = (  # experiment, network, classes, batch and crop
    ("exp.voc cutmix", NETWORKS[0], 21, 8, 512),
    ("exp.voc dinov3", DINOV3, 21, 8, 512),
    ("exp.city cutmix", NETWORKS[0], 19, 4, 800),
    ("exp.city dinov3", DINOV3, 19, 4, 800),
)
BATCH, CROP, TURNS = 4, 128, 5


def flop_of_step(network: tuple[str, str], classes: int, batch: int, crop: int) -> float:
    """Counts the floating point operations of a step of Ensemble Teacher, multiplications and additions each as one."""
    model = without_values(lambda: build_network(*network, classes)).eval()
    with FlopCounterMode(display=False) as counter, torch.no_grad():
        model(torch.empty(1, 3, crop, crop, device="meta"))
    forward = counter.get_total_flops()
    students, teachers = 2 * 2 * batch * 3 * forward, 2 * 2 * batch * forward
    return students + teachers


def cost(device: str, decoder: str, backbone: str) -> tuple[Times, Memory]:
    place = Place(device)
    settings = (f"decoder={decoder}", f"backbone={backbone}", f"batch_size={BATCH}", f"image_size={CROP}")

    def build() -> Step:
        return Step(build_learner(place.device, *settings))

    step, _, memory = built(place, build, small_first=not place.is_gpu)
    return in_turn({"step": step}, TURNS, place.finish)["step"], memory


def in_fresh_process(decoder: str, backbone: str) -> tuple[Times, Memory]:
    command = [sys.executable, "-m", "tests.bench.networks", "--network", decoder, backbone]
    times, memory = json.loads(subprocess.run(command, cwd=REPOSITORY, check=True, stdout=subprocess.PIPE).stdout)
    return Times(*times), Memory(*memory)


def wrapped_and_bare(place: Place, decoder: str, backbone: str) -> dict[str, Any]:
    """Returns what takes both through a pass forward and back: the wrapped network, and the library's own model."""
    import segmentation_models_pytorch as smp

    options = {"num_classes": 0, "dynamic_img_size": True} if decoder == "DPT" else {}
    with warnings.catch_warnings(action="ignore"):
        bare = smp.create_model(decoder, backbone, encoder_weights=None, classes=21, **options).to(place.device)
    wrapped = build_network(decoder, backbone, 21).to(place.device)
    names = (("encoder", "backbone"), ("decoder", "head"), ("segmentation_head", "classifier"))
    for theirs, ours in names:
        getattr(wrapped, ours).load_state_dict(getattr(bare, theirs).state_dict())
    image = torch.randn(BATCH, 3, CROP, CROP, device=place.device)

    def work(network: nn.Module, image: Tensor) -> None:
        network(image).square().mean().backward()
        network.zero_grad()

    return {"wrapped": partial(work, wrapped, image), "bare": partial(work, bare, image)}


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--device", choices=("cpu", "cuda"), default="cpu")
    parser.add_argument("--turns", type=int, default=25, help="of the wrapper and the bare model")
    parser.add_argument("--network", nargs=2, metavar=("DECODER", "BACKBONE"), help="one of them alone, as JSON")
    options = parser.parse_args()
    if options.network:
        print(json.dumps(cost(options.device, *options.network)))
        return 0
    place = Place(options.device)
    print(place.name(), flush=True)
    with Report("what", "batch", "a step", "memory in all", "TFLOP") as report:
        for network in NETWORKS:
            name = " ".join(network)
            with report.attempt(name):
                times, memory = cost(options.device, *network) if place.is_gpu else in_fresh_process(*network)
                flop = flop_of_step(network, 21, BATCH, CROP)
                in_all = f"{memory.in_all / MEGABYTE:,.0f} MB"
                report.row(name, f"{BATCH} of {CROP}", times, in_all, f"{flop / 1e12:.3g}")
                report.figures[name] = [round(times.median, 4), round(memory.in_all / MEGABYTE)]
        for recipe, network, classes, batch, crop in RECIPES:
            with report.attempt(recipe):
                flop = flop_of_step(network, classes, batch, crop)
                report.row(f"{recipe}, {' '.join(network)}", f"{batch} of {crop}", "", "", f"{flop / 1e12:.3g}")
                report.figures[f"{recipe} TFLOP"] = round(flop / 1e12, 3)
        for network in NETWORKS[1:]:
            with report.attempt(f"wrapper of {network[0]}"):
                times = in_turn(wrapped_and_bare(place, *network), options.turns, place.finish)
                ratio = times["wrapped"].median / times["bare"].median
                report.row(f"{' '.join(network)}, wrapped beside bare: {ratio:.3f}", "", times["wrapped"], "", "")
                report.figures[f"wrapper of {network[0]}"] = round(ratio, 4)
    return report.status


if __name__ == "__main__":
    sys.exit(main())
