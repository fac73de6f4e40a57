"""A Learner whose steps are over in a moment, also in float64, to be compared with what is written longhand."""

from pathlib import Path

from repository import REPOSITORY

from furnace.config.experiment import read_experiment
from furnace.engine.distributed import World
from furnace.training.learner import Learner

ITERATIONS = 4


def small_learner(folder: Path, texts: dict[str, str]) -> Learner:
    small = {"pretrained_model": "none", "backbone": "resnet18_v1c", "width": "0.0625", "dataset_path": str(folder)}
    experiment = read_experiment(REPOSITORY / "exp.voc/ensemble_teacher+cutmix", small | texts)
    return Learner(experiment, World(), ITERATIONS)


def in_float64(learner: Learner) -> Learner:
    """Turns networks, and what optimizers remember of their weights, into float64."""
    learner.ensemble.map(lambda network: network.double())
    for optimizer in learner.optimizers:
        for remembered in optimizer.state.values():
            remembered.update({name: tensor.double() for name, tensor in remembered.items() if name != "step"})
    return learner
