"""Scores single images in the way that an evaluation does.

N is the number of classes; H and W are an image's size.
"""

import copy
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from furnace.engine.backend import memory_failure, prepare_backends
from furnace.engine.gpus import take_device
from furnace.errors import InputError
from furnace.evaluation.room import Room
from furnace.evaluation.sliding_window import SlidingWindow
from furnace.evaluation.validation import evaluation_networks, sliding_window
from furnace.prediction.inputs import Picture
from furnace.prediction.outputs import Prediction
from furnace.prediction.trained import Trained
from furnace.semi.ensemble import (
    NETWORKS,
    PREDICTORS,
    STUDENTS,
    count_different,
    predict,
    predicted_labels,
    predictors_of,
)

# Bytes for each pixel of an image that are held beside its scores: itself, two that are read ahead, and pictures.
BESIDE = 16
REMEDY = (
    "cut it up, lower image_size, take one network (--ensemble v1), or leave --probabilities and --disagreement out"
)


class Predictor:
    """A trained run's networks on the first GPU, or on the CPU where there is none or NGPUS is 0.

    Args:
        trained: the run and its predictor.
        probabilities: whether a prediction comes with the probabilities of all classes.
        disagreement: whether a prediction comes with the number of different classes that the networks of the run
            name. This takes all networks of the run, also those that the predictor does without.
    """

    def __init__(self, trained: Trained, probabilities: bool, disagreement: bool) -> None:
        experiment, settings = trained.experiment, trained.experiment.settings
        prepare_backends(settings.deterministic)
        device = take_device(0 if settings.NGPUS == 0 else torch.cuda.device_count())
        there = NETWORKS if trained.snapshots.has_teachers(trained.epoch) else STUDENTS
        singles = [code for code in predictors_of(there) if len(PREDICTORS[code]) == 1]
        self.predictors = [trained.predictor, *(singles if disagreement else ())]
        networks = evaluation_networks(experiment, device, trained.snapshots, trained.epoch, self.predictors)
        self.window = sliding_window(experiment, networks, device)
        self.visits = _counting(self.window) if probabilities else None
        classes = experiment.dataset.num_classes
        behind = len(self.predictors) + (10 * classes + 4) * probabilities + 12 * len(singles) * disagreement
        self.room = Room(experiment, self.window, behind, BESIDE + 2 * classes * probabilities, REMEDY)

    def require_room(self, picture: Picture) -> None:
        """Raises InputError if the image needs more memory than is free."""
        self.room.require(picture.path, picture.height, picture.width)

    def predict(self, picture: Picture) -> Prediction:
        """Labels an image.

        Raises:
            InputError: the image cannot be read, or is too large for the memory.
        """
        name, image = picture.name, picture.read()
        with _enough_memory(name, image, self.window.device):
            pixels = torch.from_numpy(image)
            scores = self.window.scores(pixels)
            label, *singles = predicted_labels(scores, self.predictors)
            probability = None
            if self.visits is not None:
                visits = self.visits.scores(pixels)["visits"]  # (1, H, W)
                probability = self._probability(scores, visits).cpu().numpy()
            different = count_different(torch.stack(singles)).cpu().numpy() if singles else None
            return Prediction(name, image, label.cpu().numpy(), probability, different)

    def _probability(self, scores: Mapping[str, Tensor], visits: Tensor) -> Tensor:
        """Returns the predictor's probabilities (N, H, W) float16.

        Scores are sums over the windows that see a pixel. The networks were trained to give logits of one window, so
        that the softmax is taken of the mean.
        """
        mean = predict(scores, self.predictors[0]) / visits
        return mean.softmax(dim=0).half()


def _counting(window: SlidingWindow) -> SlidingWindow:
    """Returns the same windows, scales and mirroring, with how often a pixel is seen as its score."""
    counting = copy.copy(window)
    counting.networks = {"visits": lambda windows: windows.new_ones(len(windows), 1, *windows.shape[2:])}
    counting.num_classes = 1
    return counting


@contextmanager
def _enough_memory(name: Path, image: np.ndarray, device: torch.device) -> Iterator[None]:
    """Turns an error about too little memory into an InputError that names the image."""
    try:
        yield
    except (MemoryError, RuntimeError) as error:
        if memory_failure(error) is None:
            raise
        height, width = image.shape[:2]
        raise InputError(
            f"image too large: {name}: no memory left on {device} for {height} x {width} pixels (height x width); "
            "cut it up"
        ) from None
