"""The promise that all seven predictors label on this device as they do on a CPU."""

import copy
from collections.abc import Mapping

import torch
from torch import nn

from furnace.config.experiment import Experiment
from furnace.evaluation.sliding_window import SlidingWindow
from furnace.evaluation.validation import for_windows, ready_networks, sliding_window
from furnace.proof.ground import Ground
from furnace.proof.one_step import FP32, ON_THE_CPU
from furnace.proof.outcome import largest, require, within
from furnace.semi.ensemble import PREDICTORS, predict, predicted_labels

# A share of the largest logit. Scores may differ by so much, and where the best two classes are nearer, rounding may
# choose either. fp32 differs by a tenth of that at most, TF32 by more than three times as much.
GAP = 1e-4
IMAGES, STEPS = 2, 10


def label_as_on_a_cpu(ground: Ground) -> str:
    """Scores are those of float64 on the CPU, and so are labels wherever one class wins clearly there."""
    trial = ground.trial({**FP32, "learning_rate": "0.02"})
    trial.steps(trial.batches(STEPS))  # or all scores would be alike
    experiment, networks = trial.experiment, trial.learner.ensemble.networks()
    exact = _in_float64(experiment, networks)
    here = sliding_window(experiment, ready_networks(experiment, ground.device, networks), ground.device)
    images = [torch.from_numpy(experiment.split("val").image(number)) for number in range(IMAGES)]
    different, clear, pixels, off = dict.fromkeys(PREDICTORS, 0), 0, 0, []
    for image, found in zip(images, here.scores_of(images), strict=True):
        scores = exact.scores(image)
        gap = GAP * max(values.abs().max().item() for values in scores.values())
        for name, values in scores.items():
            size = values.abs().max().item()
            off.append((found[name].double().cpu() - values).abs().max().item() / size)
        for code, labels in zip(PREDICTORS, predicted_labels(found, list(PREDICTORS)).cpu(), strict=True):
            best, second = predict(scores, code).topk(2, dim=0).values
            wins = best - second > gap
            different[code] += int((wins & (labels != predict(scores, code).argmax(dim=0))).sum())
            clear, pixels = clear + int(wins.sum()), pixels + wins.numel()
    wrong = [f"{code} {count}" for code, count in different.items() if count]
    require(not wrong, f"pixels with another label: {', '.join(wrong)}", "none")
    require(clear > pixels / 2, f"{clear / pixels:.0%} of pixels where one class wins clearly", "most of them")
    scores_are_near = within({"scores": (largest(off), GAP)})
    return f"{scores_are_near}; the same labels where one class wins clearly, {clear / pixels:.1%}"


def _in_float64(experiment: Experiment, networks: Mapping[str, nn.Module]) -> SlidingWindow:
    """Returns the sliding window of copies of the networks that compute in float64 on the CPU."""
    channels_last = experiment.settings.channels_last
    doubled = {
        # The type given here is autocast's, which leaves networks of fp32 and of float64 alone.
        name: for_windows(copy.deepcopy(network).cpu().double(), ON_THE_CPU.device, torch.float32, channels_last)
        for name, network in networks.items()
    }
    return sliding_window(experiment, doubled, ON_THE_CPU.device, torch.float64)
