"""The promise that all seven predictors label on this device as they do on a CPU."""

import copy
from collections.abc import Mapping

import torch
from torch import nn

from furnace.config.experiment import Experiment
from furnace.evaluation.sliding_window import SlidingWindow
from furnace.evaluation.validation import for_windows, ready_networks, sliding_window
from furnace.proof.ground import Ground
from furnace.proof.one_step import CPU, FP32
from furnace.proof.outcome import require
from furnace.semi.ensemble import PREDICTORS, predict, predicted_labels

GAP = 1e-3  # logits; where the best two classes are nearer than this, rounding may choose either
IMAGES, STEPS = 2, 10


def label_as_on_a_cpu(ground: Ground) -> str:
    """Wherever the best class wins by more than GAP in float64 on the CPU, the device names the same class."""
    trial = ground.trial({**FP32, "learning_rate": "0.02"})
    trial.steps(trial.batches(STEPS))  # or all scores would be alike
    experiment, networks = trial.experiment, trial.learner.ensemble.networks()
    exact = _in_float64(experiment, networks)
    here = sliding_window(experiment, ready_networks(experiment, ground.device, networks), ground.device)
    clear, different, pixels = 0, dict.fromkeys(PREDICTORS, 0), 0
    images = [torch.from_numpy(experiment.split("val").image(number)) for number in range(IMAGES)]
    for image, found in zip(images, here.scores_of(images), strict=True):
        scores = exact.scores(image)
        for code, labels in zip(PREDICTORS, predicted_labels(found, list(PREDICTORS)).cpu(), strict=True):
            best, second = predict(scores, code).topk(2, dim=0).values
            expected, wins = predict(scores, code).argmax(dim=0), best - second > GAP
            different[code] += int((wins & (labels != expected)).sum())
            clear, pixels = clear + int(wins.sum()), pixels + wins.numel()
    wrong = [f"{code} {count}" for code, count in different.items() if count]
    require(not wrong, f"pixels with another label: {', '.join(wrong)}", "none")
    require(clear > pixels / 2, f"{clear / pixels:.0%} of pixels where one class wins clearly", "most of them")
    return f"{IMAGES} images in windows; one class wins clearly at {clear / pixels:.0%} of the pixels"


def _in_float64(experiment: Experiment, networks: Mapping[str, nn.Module]) -> SlidingWindow:
    """Returns the sliding window of copies of the networks that compute in float64 on the CPU."""
    settings = experiment.settings
    doubled = {
        # `dtype` is that of autocast, which leaves fp32 and float64 alone.
        name: for_windows(copy.deepcopy(network).cpu().double(), CPU.device, torch.float32, settings.channels_last)
        for name, network in networks.items()
    }
    return SlidingWindow(
        doubled,
        experiment.dataset.num_classes,
        settings.image_size,
        scales=settings.eval_scales,
        flip=settings.eval_flip,
        dtype=torch.float64,
    )
