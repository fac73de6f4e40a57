"""The networks of a run: built, filled with the weights that they start from, and put on the device."""

import torch
from torch import nn

from furnace.config.experiment import Experiment
from furnace.engine.distributed import World
from furnace.network.pretrained import load_backbone
from furnace.semi.ensemble import Ensemble


def build_ensemble(experiment: Experiment, world: World) -> tuple[Ensemble, str]:
    """Returns the networks, each in its mode on this process's device, and in words what weights they start from.

    The seed alone decides the random weights, so that they are the same in every process.
    """
    settings = experiment.settings
    torch.manual_seed(settings.seed)
    weights = ""

    def build() -> nn.Module:
        nonlocal weights
        network = experiment.network()
        weights = load_backbone(network.get_submodule("backbone"), settings.pretrained_model)
        return network

    def place(network: nn.Module) -> nn.Module:
        layout = torch.channels_last if settings.channels_last else torch.contiguous_format
        return world.synchronized(network.to(world.device).to(memory_format=layout))

    ensemble = Ensemble(build, with_teachers=experiment.method.labellers == "teachers")
    ensemble.map(place)
    for student in ensemble.students:
        student.train()
    for teacher in ensemble.teachers:
        teacher.train(settings.teacher_norm == "batch")
    return ensemble, weights
