"""The networks of a run: built, filled with the weights that they start from, and put on the device."""

from functools import partial
from typing import NamedTuple

import torch
from torch import nn

from furnace.config.completion import Student
from furnace.config.experiment import Experiment
from furnace.engine.backend import placed
from furnace.engine.distributed import World
from furnace.errors import CommonInputError, say_note
from furnace.network.pretrained import load_backbone
from furnace.network.rehearsal import Rehearsal, rehearse
from furnace.semi.ensemble import Ensemble
from furnace.semi.modes import freeze_backbone_norms, set_to_label


class Networks(NamedTuple):
    """The networks of a run.

    Attributes:
        weights: in words, what weights they start from.
        draws: whether a network draws random numbers while it trains.
    """

    ensemble: Ensemble
    weights: str
    draws: bool


def build_networks(experiment: Experiment, world: World) -> Networks:
    """Builds the networks, each in its mode on this process's device.

    The seed alone decides the random weights, so that they are the same in every process. Parameters that no gradient
    reaches do not want any: processes would wait for their gradients.
    """
    settings = experiment.settings
    torch.manual_seed(settings.seed)
    weights: list[str] = []
    rehearsals: dict[Student, Rehearsal] = {}

    def build(number: int) -> nn.Module:
        student, network = settings.student(number), experiment.network(number)
        if student not in rehearsals:
            rehearsals[student] = rehearse(network, settings.image_size)
        for name in rehearsals[student].unreached:
            network.get_parameter(name).requires_grad_(False)
        weights.append(load_backbone(network, student.pretrained_model, student.backbone))
        return network

    def place(network: nn.Module) -> nn.Module:
        return world.synchronized(placed(network, world.device, settings.channels_last))

    with_teachers = experiment.method.labellers == "teachers"
    try:
        ensemble = Ensemble(partial(build, 1), with_teachers, build_second=partial(build, 2))
    except RuntimeError as error:
        if "deepcopy" not in str(error):
            raise
        raise CommonInputError(
            f"{experiment.code.path('network.py')}: a teacher is a copy of its student, which cannot be copied: "
            f"{str(error).partition('.')[0]}; replace torch.nn.utils.weight_norm by torch.nn.utils.parametrizations"
        ) from error
    if world.is_main and _equal(*ensemble.students):
        say_note(
            f"{experiment.code.path('network.py')}: both students start with equal parameters, so that neither has "
            "anything to teach the other; let build_network draw random ones, and set no seed there"
        )
    ensemble.map(place)
    for student in ensemble.students:
        student.train()
    for teacher in ensemble.teachers:
        set_to_label(teacher, batch_statistics=settings.teacher_norm == "batch")
    if settings.backbone_norm == "frozen":
        frozen = [freeze_backbone_norms(network) for network in ensemble.networks().values()]
        if world.is_main and not all(frozen):
            say_note("backbone_norm has no effect on a network without a backbone whose norms keep statistics")
    first, second = weights
    draws = any(rehearsal.draws for rehearsal in rehearsals.values())
    return Networks(ensemble, first if first == second else f"{first}; student 2: {second}", draws)


def _equal(first: nn.Module, second: nn.Module) -> bool:
    """Returns whether all parameters of two networks are equal; as a rule the first ones differ already."""
    ours, theirs = list(first.parameters()), list(second.parameters())
    return len(ours) == len(theirs) and all(map(torch.equal, ours, theirs))
