"""What an evaluation costs beside its networks: one pass for all predictors, everything around the networks, memory.

    python -m tests.bench.evaluation                    # a GPU where there is one
    python -m tests.bench.evaluation --device cpu       # ten minutes on two cores

Runs the evaluation's own pass over made-up images (files read, labels and panel written) with random networks. Times of
networks and of everything else are taken in the same pass; ratios are medians over turns. A pass includes the start of
loading workers, which a GPU has, so that passes over few images take longer an image. On a CPU each measure has a
process of its own, whose peak is the memory; a GPU's memory is counted by PyTorch's allocator. Rows are printed as they
become known, a measure that fails is a row, and the last line is one JSON object, also where SIGTERM ends it.
"""

import argparse
import json
import subprocess
import sys
import tempfile
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from statistics import median
from typing import NamedTuple

import numpy as np
import torch

from furnace.evaluation.metrics import confusion_matrix
from furnace.semi.ensemble import PREDICTORS
from tests.bench.measure import MEGABYTE, REPOSITORY, in_turn, three_digits
from tests.bench.passes import Passes, made_up, made_up_experiment
from tests.bench.place import Place
from tests.bench.report import Report

RECIPE = {"backbone": "resnet50_v1c", "width": "1"}
SMALL = {"backbone": "resnet18_v1c", "width": "0.25"}  # the demo's: what is around it weighs most
TINY = {**SMALL, "image_size": "64"}
ALL, ONE = tuple(PREDICTORS), ("v0",)
COPY_TURNS = 51


class Work(NamedTuple):
    """How many images, and how often, on one kind of device."""

    voc_size: tuple[int, int]
    city_size: tuple[int, int]
    recipe: Mapping[str, str]
    small: Mapping[str, str]
    recipe_images: int
    recipe_turns: int
    small_images: int
    small_turns: int
    city_images: int
    city_turns: int
    growth_images: int  # and twice, four and eight times as many
    growth_turns: int


WORKS = {
    "cpu": Work((375, 500), (1024, 2048), RECIPE, SMALL, 1, 3, 8, 5, 1, 2, 2, 3),
    "cuda": Work((375, 500), (1024, 2048), RECIPE, SMALL, 32, 2, 32, 2, 16, 3, 8, 2),
    "tiny": Work((60, 80), (128, 256), TINY, TINY, 2, 2, 4, 2, 2, 2, 1, 2),
}


class Found(NamedTuple):
    """What one measure adds to the table and to the JSON object."""

    rows: list[list[str]]
    figures: dict[str, float]


def all_options(place: Place, folder: Path, size: tuple[int, int], network: Mapping, images: int, turns: int) -> Found:
    """All predictors in one pass over each of them in a pass of its own."""
    passes = Passes(place, made_up_experiment(folder, "voc", size, images, network))
    passes.timed(ALL)  # warms up
    together, apart = [], []
    for _ in range(turns):
        together.append(passes.timed(ALL).total)
        apart.append(sum(passes.timed([code]).total for code in PREDICTORS))
    ratios = [one / seven for one, seven in zip(together, apart, strict=True)]
    what = f"all seven options beside one by one, {images} images of {named(size)}, {network['backbone']}"
    row = [what, spread(together, ".2f") + " s", spread(apart, ".2f") + " s", spread(ratios)]
    return Found([row], {"all_over_seven": median(ratios)})


def around(place: Place, folder: Path, predictors: Sequence[str], work: Work) -> Found:
    """Everything but the networks over the networks, and the peak memory, on street scenes."""
    images = work.city_images
    place.tidy()
    others = place.held_by_others()
    passes = Passes(place, made_up_experiment(folder, "city", work.city_size, images, work.recipe))
    before = place.held() - others
    if images > 1:
        passes.timed(predictors)  # warms up: cuDNN searches
    place.forget_peak()
    costs = [passes.timed(predictors) for _ in range(work.city_turns)]
    peak = place.peak() - others
    codes = "all seven options" if len(predictors) > 1 else predictors[0]
    name = f"{images} images of {named(work.city_size)}, {work.recipe['backbone']}, {codes}"
    inside, outside = [cost.networks for cost in costs], [cost.outside for cost in costs]
    ratios = [other / network for other, network in zip(outside, inside, strict=True)]
    memory = [f"{each / MEGABYTE:,.0f} MB" for each in (peak, before)]
    rows = [
        [f"everything but the network, {name}", spread(outside) + " s", spread(inside) + " s", spread(ratios)],
        ["peak memory of the same, beside the networks loaded", *memory, f"{peak / before:.2f}"],
    ]
    if images > 1:
        undisturbed, timed = passes.as_it_runs(predictors), median(cost.total for cost in costs)
        cells = [f"{three_digits(1e3 * each / images)} ms" for each in (undisturbed, timed)]
        rows.append(["an image of the same, nothing timed inside, beside timed", *cells, f"{undisturbed / timed:.2f}"])
    key = "" if len(predictors) > 1 else "_one_option"
    figures = {f"overhead_over_network{key}": median(ratios), f"peak_memory_mb{key}": peak / MEGABYTE}
    return Found(rows, figures)


def growth(place: Place, folder: Path, work: Work) -> Found:
    """Seconds by number of images: once, twice, four and eight times as many."""
    counts = [factor * work.growth_images for factor in (1, 2, 4, 8)]
    experiments = {
        count: made_up_experiment(folder / str(count), "voc", work.voc_size, count, work.small) for count in counts
    }
    passes = Passes(place, experiments[counts[0]])
    works = {str(count): lambda e=each: passes.timed(["v3"], e) for count, each in experiments.items()}
    times = in_turn(works, work.growth_turns)
    first, name = times[str(counts[0])], f"images of {named(work.voc_size)}, {work.small['backbone']}, v3"
    rows = [
        [f"{count} {name}, beside {counts[0]}", str(each), str(first), f"{each.median / first.median:.2f}"]
        for count, each in times.items()
    ]
    return Found(rows, {"time_8_over_1": times[str(counts[-1])].median / first.median})


def confusion(place: Place, _: Path, work: Work) -> Found:
    """The confusion matrix of a large image, beside copies of its two maps."""
    random, size = np.random.default_rng(0), work.city_size
    _, label = made_up(size, 19, random)
    wrong = (random.random(size) < 0.1) | (label == 255)
    prediction = np.where(wrong, random.integers(0, 19, size), label).astype(np.uint8)
    maps = [torch.from_numpy(array).to(place.device) for array in (prediction, label)]
    works = {
        "matrix": lambda: confusion_matrix(*maps, 19),
        "copy": lambda: [array.clone() if array.is_cuda else array.numpy().copy() for array in maps],
    }
    matrix, copy = in_turn(works, COPY_TURNS, place.finish).values()
    ratio = matrix.median / copy.median
    row = [f"confusion matrix, {named(size)}, 19 classes, beside copies of both maps"]
    return Found([[*row, str(matrix), str(copy), f"{ratio:.1f}"]], {"confusion_over_copy": ratio})


def named(size: tuple[int, int]) -> str:
    return f"{size[1]} x {size[0]}"


def spread(values: Sequence[float], form: str = ".3f") -> str:
    return f"{median(values):{form}} ({min(values):{form}} to {max(values):{form}})"


MEASURES: dict[str, Callable[[Place, Path, Work], Found]] = {  # the most wanted first
    "around_all": lambda place, folder, work: around(place, folder, ALL, work),
    "around_one": lambda place, folder, work: around(place, folder, ONE, work),
    "confusion": confusion,
    "all_recipe": lambda place, folder, work: all_options(
        place, folder, work.voc_size, work.recipe, work.recipe_images, work.recipe_turns
    ),
    "growth": growth,
    "all_small": lambda place, folder, work: all_options(
        place, folder, work.voc_size, work.small, work.small_images, work.small_turns
    ),
}


def measured(name: str, place: Place, kind: str) -> Found:
    with tempfile.TemporaryDirectory() as folder:
        return MEASURES[name](place, Path(folder), WORKS[kind])


def in_fresh_process(name: str) -> Found:
    command = [sys.executable, "-m", "tests.bench.evaluation", "--device", "cpu", name]
    return Found(*json.loads(subprocess.run(command, cwd=REPOSITORY, check=True, stdout=subprocess.PIPE).stdout))


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--device", choices=("cpu", "cuda"), default="cuda" if torch.cuda.is_available() else "cpu")
    parser.add_argument("--tiny", action="store_true", help="networks and images that rehearse all this in seconds")
    parser.add_argument("measure", nargs="?", choices=MEASURES, help="one of them alone, as JSON")
    options = parser.parse_args()
    place, kind = Place(options.device), "tiny" if options.tiny else options.device
    if options.measure:
        print(json.dumps(measured(options.measure, place, kind)))
        return 0
    print(place.name(), flush=True)
    with Report("what", "it", "compared with", "ratio") as report:
        for name in MEASURES:
            with report.attempt(name):
                found = in_fresh_process(name) if kind == "cpu" else measured(name, place, kind)
                for row in found.rows:
                    report.row(*row)
                small = "_small_network" if name == "all_small" else ""
                for figure, value in found.figures.items():
                    report.figure(figure + small, value)
    return report.status


if __name__ == "__main__":
    sys.exit(main())
