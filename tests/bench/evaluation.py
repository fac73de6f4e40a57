"""What an evaluation costs beside its networks: one pass for all predictors, everything around the networks, memory.

    python -m tests.bench.evaluation

Runs the evaluation's own pass over made-up images (files read, labels and panel written) with random networks, on a GPU
where there is one. Times of networks and of everything else are taken in the same pass; ratios are medians over turns.
Each measure has a process of its own; together they take about ten minutes on two cores. The last line is one JSON
object.
"""

import argparse
import json
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from statistics import median
from typing import NamedTuple

import cv2
import numpy as np
import torch
from torch import Tensor

from furnace.config.experiment import Experiment, read_experiment
from furnace.engine.backend import evaluation_dtype
from furnace.engine.distributed import World
from furnace.evaluation.evaluate import saved_predictor
from furnace.evaluation.metrics import confusion_matrix
from furnace.evaluation.pictures import EvaluationPictures
from furnace.evaluation.sliding_window import Network
from furnace.evaluation.validation import count_confusions, for_windows
from furnace.semi.ensemble import NETWORKS, PREDICTORS
from tests.bench.measure import MEGABYTE, REPOSITORY, in_turn, markdown, process_bytes

VOC_SIZE, CITY_SIZE = (375, 500), (1024, 2048)
RECIPE = {"backbone": "resnet50_v1c", "width": "1"}
SMALL = {"backbone": "resnet18_v1c", "width": "0.25"}  # the demo's: what is around it weighs most
DEVICE = torch.device("cuda" if torch.cuda.is_available() else "cpu")
COPY_TURNS = 51


def made_up(size: tuple[int, int], classes: int, random: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    """An image (H, W, 3) and a label (H, W) of patches, with noise; a tenth of the label is ignored."""
    height, width = size
    coarse = random.integers(0, classes, (height // 64, width // 64), dtype=np.uint8)
    label = cv2.resize(coarse, (width, height), interpolation=cv2.INTER_NEAREST)
    image = 12 * label[..., None] + random.integers(0, 25, (height, width, 3), dtype=np.uint8)
    label[random.random(size) < 0.1] = 255
    return image, label


def made_up_experiment(folder: Path, name: str, size: tuple[int, int], images: int, network: Mapping) -> Experiment:
    """The experiment exp.`name` on made-up images below `folder`."""
    list_path, line = {
        "voc": ("val.txt", "{0}\n"),
        "city": ("config_new/val.txt", "/images/val/{0}.png\t/segmentation/val/{0}_gtFine.png\n"),
    }[name]
    (folder / list_path).parent.mkdir(parents=True, exist_ok=True)
    (folder / list_path).write_text("".join(line.format(number) for number in range(images)))
    texts = {"dataset_path": str(folder), "OUTPUT_PATH": str(folder / "output"), "pretrained_model": "none", **network}
    experiment = read_experiment(REPOSITORY / f"exp.{name}/ensemble_teacher+cutmix", texts)
    split, random = experiment.split("val"), np.random.default_rng(0)
    for part in ("images/val", "segmentation/val"):
        (folder / part).mkdir(parents=True, exist_ok=True)
    for number in range(images):
        image, label = made_up(size, experiment.dataset.num_classes, random)
        for path, picture in ((split.image_path(number), image), (split.label_path(number), label)):
            path.parent.mkdir(parents=True, exist_ok=True)
            cv2.imwrite(str(path), picture)
    return experiment


class Timed:
    """A network that adds up the seconds it takes."""

    def __init__(self, network: Network) -> None:
        self.network = network
        self.seconds = 0.0

    def __call__(self, windows: Tensor) -> Tensor:
        begin = now()
        scores = self.network(windows)
        self.seconds += now() - begin
        return scores


def now() -> float:
    if DEVICE.type == "cuda":
        torch.cuda.synchronize()
    return time.perf_counter()


class Cost(NamedTuple):
    """Seconds of one pass, and those of them in networks."""

    total: float
    networks: float

    @property
    def around(self) -> float:
        """Everything else over the networks."""
        return (self.total - self.networks) / self.networks


def random_networks(experiment: Experiment) -> dict[str, Network]:
    settings = experiment.settings
    dtype = evaluation_dtype(settings.precision, DEVICE)
    return {name: for_windows(experiment.network(), DEVICE, dtype, settings.channels_last) for name in NETWORKS}


def one_pass(experiment: Experiment, networks: Mapping[str, Network], predictors: Sequence[str]) -> Cost:
    """What `furnace eval` does between loading a snapshot and writing its scores."""
    timed = {name: Timed(networks[name]) for name in NETWORKS if any(name in PREDICTORS[code] for code in predictors)}
    split, saved = experiment.split("val"), saved_predictor("auto", tuple(predictors))
    begin = now()
    with EvaluationPictures(experiment.settings.OUTPUT_PATH, split, predictors, saved) as pictures:
        count_confusions(experiment, World(device=DEVICE), split, timed, predictors, [pictures.add], title="bench")
        pictures.write_panel()
    return Cost(now() - begin, sum(network.seconds for network in timed.values()))


def all_options(folder: Path, network: Mapping[str, str], images: int, turns: int) -> dict:
    """All predictors in one pass over each of them in a pass of its own."""
    experiment = made_up_experiment(folder, "voc", VOC_SIZE, images, network)
    networks = random_networks(experiment)
    one_pass(experiment, networks, ["v4"])  # warms up
    together, apart = [], []
    for _ in range(turns):
        together.append(one_pass(experiment, networks, tuple(PREDICTORS)).total)
        apart.append(sum(one_pass(experiment, networks, [code]).total for code in PREDICTORS))
    ratios = [one / seven for one, seven in zip(together, apart, strict=True)]
    return {"images": images, "together": together, "apart": apart, "ratios": ratios}


def around(folder: Path, predictors: Sequence[str], images: int, turns: int) -> dict:
    """Everything but the networks over the networks, and this process's peak memory, on street scenes."""
    experiment = made_up_experiment(folder, "city", CITY_SIZE, images, RECIPE)
    networks = random_networks(experiment)
    cuda = DEVICE.type == "cuda"
    before = torch.cuda.memory_allocated() if cuda else process_bytes("VmRSS")
    costs = [one_pass(experiment, networks, predictors) for _ in range(turns)]
    peak = torch.cuda.max_memory_allocated() if cuda else process_bytes("VmHWM")
    return {"costs": costs, "ratios": [cost.around for cost in costs], "before": before, "peak": peak}


def growth(folder: Path, images: int, turns: int) -> dict:
    """Seconds by number of images: once, twice, four and eight times `images`."""
    counts = [factor * images for factor in (1, 2, 4, 8)]
    experiments = {count: made_up_experiment(folder / str(count), "voc", VOC_SIZE, count, SMALL) for count in counts}
    networks = random_networks(experiments[images])
    works = {
        str(count): lambda e=experiment: one_pass(e, networks, ["v3"]) for count, experiment in experiments.items()
    }
    return in_turn(works, turns)


def confusion(_: Path) -> dict:
    """The confusion matrix of a large image, and copies of its two maps."""
    random = np.random.default_rng(0)
    _, label = made_up(CITY_SIZE, 19, random)
    wrong = (random.random(CITY_SIZE) < 0.1) | (label == 255)
    prediction = np.where(wrong, random.integers(0, 19, CITY_SIZE), label).astype(np.uint8)
    maps = [torch.from_numpy(array).to(DEVICE) for array in (prediction, label)]
    works = {
        "matrix": lambda: confusion_matrix(*maps, 19),
        "copy": lambda: [array.clone() if array.is_cuda else array.numpy().copy() for array in maps],
    }
    return in_turn(works, COPY_TURNS, finish=now)


MEASURES: dict[str, Callable[[Path], dict]] = {
    "all_recipe": lambda folder: all_options(folder, RECIPE, images=1, turns=3),
    "all_small": lambda folder: all_options(folder, SMALL, images=8, turns=5),
    "around_all": lambda folder: around(folder, tuple(PREDICTORS), images=1, turns=2),
    "around_one": lambda folder: around(folder, ["v0"], images=1, turns=2),
    "growth": lambda folder: growth(folder, images=2, turns=3),
    "confusion": confusion,
}


def in_fresh_process(name: str) -> dict:
    command = [sys.executable, "-m", "tests.bench.evaluation", name]
    return json.loads(subprocess.run(command, cwd=REPOSITORY, check=True, stdout=subprocess.PIPE).stdout)


def spread(values: Sequence[float], form: str = ".3f") -> str:
    return f"{median(values):{form}} ({min(values):{form}} to {max(values):{form}})"


def table(found: Mapping[str, dict]) -> str:
    rows = []
    for name, network in (("all_recipe", "ResNet-50"), ("all_small", "ResNet-18 of quarter width")):
        row = found[name]
        what = f"all seven options, {row['images']} images of 500 x 375, crop 512, {network}"
        rows.append(
            [what, spread(row["together"], ".2f") + " s", spread(row["apart"], ".2f") + " s", spread(row["ratios"])]
        )
    for name, what in (("around_all", "all seven options"), ("around_one", "v0")):
        row = found[name]
        inside = [networks for _, networks in row["costs"]]
        outside = [total - networks for total, networks in row["costs"]]
        what = f"everything but the network, one image of 2048 x 1024, crop 800, ResNet-50, {what}"
        rows.append([what, spread(outside, ".2f") + " s", spread(inside, ".1f") + " s", spread(row["ratios"])])
        memory = [f"{row[key] / MEGABYTE:.0f} MB" for key in ("peak", "before")]
        rows.append(
            [
                "peak memory of the same, over that with the networks loaded",
                *memory,
                f"{row['peak'] / row['before']:.2f}",
            ]
        )
    for count, times in found["growth"].items():
        first = next(iter(found["growth"].values()))
        cells = [spread(values, ".2f") + " s" for values in (times, first)]
        rows.append(
            [f"{count} images of 500 x 375, ResNet-18 of quarter width, v3", *cells, f"{times[0] / first[0]:.2f}"]
        )
    matrix, copy = found["confusion"]["matrix"], found["confusion"]["copy"]
    cells = [spread([1e3 * value for value in values], ".2f") + " ms" for values in (matrix, copy)]
    rows.append(
        ["confusion matrix, 2048 x 1024, 19 classes, over copying both maps", *cells, f"{matrix[0] / copy[0]:.1f}"]
    )
    return markdown(["what", "it", "compared with", "ratio"], rows)


def ratios(found: Mapping[str, dict]) -> dict[str, float]:
    times = list(found["growth"].values())
    values = {
        "all_over_seven": median(found["all_recipe"]["ratios"]),
        "all_over_seven_small_network": median(found["all_small"]["ratios"]),
        "overhead_over_network": median(found["around_all"]["ratios"]),
        "overhead_over_network_one_option": median(found["around_one"]["ratios"]),
        "peak_memory_mb": found["around_all"]["peak"] / MEGABYTE,
        "time_8_over_1": times[-1][0] / times[0][0],
        "confusion_over_copy": found["confusion"]["matrix"][0] / found["confusion"]["copy"][0],
    }
    return {name: round(value, 4) for name, value in values.items()}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("measure", nargs="?", choices=MEASURES, help="one of them alone, printed as JSON")
    options = parser.parse_args()
    if options.measure:
        with tempfile.TemporaryDirectory() as folder:
            print(json.dumps(MEASURES[options.measure](Path(folder))))
        return
    found = {name: in_fresh_process(name) for name in MEASURES}
    print(table(found))
    print(json.dumps(ratios(found)))


if __name__ == "__main__":
    main()
