"""What the benchmark of evaluation runs: the evaluation's own pass, over made-up images, with random networks."""

import io
import time
from collections.abc import Mapping, Sequence
from contextlib import redirect_stderr
from pathlib import Path
from typing import NamedTuple

import cv2
import numpy as np
from torch import Tensor

from furnace.config.experiment import Experiment, read_experiment
from furnace.engine.backend import evaluation_dtype, prepare_backends
from furnace.engine.distributed import World
from furnace.evaluation.evaluate import saved_predictor
from furnace.evaluation.pictures import EvaluationPictures
from furnace.evaluation.sliding_window import Network
from furnace.evaluation.validation import count_confusions, for_windows
from furnace.semi.ensemble import NETWORKS, PREDICTORS
from tests.bench.measure import REPOSITORY
from tests.bench.place import Place


def made_up(size: tuple[int, int], classes: int, random: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    """An image (H, W, 3) and a label (H, W) of patches, with noise; a tenth of the label is ignored."""
    height, width = size
    coarse = random.integers(0, classes, (max(1, height // 64), max(1, width // 64)), dtype=np.uint8)
    label = cv2.resize(coarse, (width, height), interpolation=cv2.INTER_NEAREST)
    image = 12 * label[..., None] + random.integers(0, 25, (height, width, 3), dtype=np.uint8)
    label[random.random(size) < 0.1] = 255
    return image, label


def made_up_experiment(
    folder: Path, name: str, size: tuple[int, int], images: int, settings: Mapping[str, str]
) -> Experiment:
    """The experiment exp.`name` on made-up images below `folder`, and ready backends."""
    list_path, line = {
        "voc": ("val.txt", "{0}\n"),
        "city": ("config_new/val.txt", "/images/val/{0}.png\t/segmentation/val/{0}_gtFine.png\n"),
    }[name]
    (folder / list_path).parent.mkdir(parents=True, exist_ok=True)
    (folder / list_path).write_text("".join(line.format(number) for number in range(images)))
    texts = {"dataset_path": str(folder), "OUTPUT_PATH": str(folder / "output"), "pretrained_model": "none", **settings}
    experiment = read_experiment(REPOSITORY / f"exp.{name}/ensemble_teacher+cutmix", texts)
    split, random = experiment.split("val"), np.random.default_rng(0)
    for part in ("images/val", "segmentation/val"):
        (folder / part).mkdir(parents=True, exist_ok=True)
    for number in range(images):
        image, label = made_up(size, experiment.dataset.num_classes, random)
        for path, picture in ((split.image_path(number), image), (split.label_path(number), label)):
            path.parent.mkdir(parents=True, exist_ok=True)
            cv2.imwrite(str(path), picture)
    prepare_backends(experiment.settings.deterministic)
    return experiment


class Timed:
    """A network that adds up the seconds it takes."""

    def __init__(self, network: Network, place: Place) -> None:
        self.network, self.place = network, place
        self.seconds = 0.0

    def __call__(self, windows: Tensor) -> Tensor:
        begin = now(self.place)
        scores = self.network(windows)
        self.seconds += now(self.place) - begin
        return scores


def now(place: Place) -> float:
    """The clock, once the device has done all that it was told."""
    place.finish()
    return time.perf_counter()


class Cost(NamedTuple):
    """Seconds of one pass, and those of them in networks."""

    total: float
    networks: float

    @property
    def outside(self) -> float:
        """Seconds of everything else."""
        return self.total - self.networks


class Passes:
    """One experiment and its four random networks, over which any number of passes are made."""

    def __init__(self, place: Place, experiment: Experiment) -> None:
        settings = experiment.settings
        dtype = evaluation_dtype(settings.precision, place.device)
        self.place, self.experiment = place, experiment
        self.networks = {
            name: for_windows(experiment.network(), place.device, dtype, settings.channels_last) for name in NETWORKS
        }

    def timed(self, predictors: Sequence[str], experiment: Experiment | None = None) -> Cost:
        """One pass in which the networks are timed. On a GPU that waits for each of them."""
        timed = {name: Timed(network, self.place) for name, network in self._needed(predictors).items()}
        total = self._seconds(timed, predictors, experiment or self.experiment)
        return Cost(total, sum(network.seconds for network in timed.values()))

    def as_it_runs(self, predictors: Sequence[str]) -> float:
        """Seconds of one pass that nothing disturbs."""
        return self._seconds(self._needed(predictors), predictors, self.experiment)

    def _needed(self, predictors: Sequence[str]) -> dict[str, Network]:
        return {
            name: network
            for name, network in self.networks.items()
            if any(name in PREDICTORS[code] for code in predictors)
        }

    def _seconds(self, networks: Mapping[str, Network], predictors: Sequence[str], experiment: Experiment) -> float:
        """Does what `furnace eval` does between loading a snapshot and writing its scores."""
        split, saved = experiment.split("val"), saved_predictor("auto", tuple(predictors))
        world, output = World(device=self.place.device), experiment.settings.OUTPUT_PATH
        begin = now(self.place)
        # Progress bars are drawn as ever, but would fill a log.
        with redirect_stderr(io.StringIO()), EvaluationPictures(output, split, predictors, saved) as pictures:
            count_confusions(experiment, world, split, networks, predictors, [pictures.add], title="bench")
            pictures.write_panel()
        return now(self.place) - begin
