"""Stochastic gradient descent with the published parameter groups, and its schedule."""

import torch
from torch import nn

MOMENTUM = 0.9
POWER = 0.9


def parameter_groups(network: nn.Module, weight_decay: float) -> list[dict]:
    """Six groups: backbone, head and classifier, each with decay (convolutions) and without (norms, biases)."""
    groups = []
    for part in (network.backbone, network.head, network.classifier):
        decayed = [parameter for parameter in part.parameters() if parameter.ndim > 1]
        kept = [parameter for parameter in part.parameters() if parameter.ndim == 1]
        groups += [{"params": decayed, "weight_decay": weight_decay}, {"params": kept, "weight_decay": 0.0}]
    return groups


def build_optimizer(network: nn.Module, learning_rate: float, weight_decay: float) -> torch.optim.SGD:
    """One student's optimizer: SGD with momentum 0.9, in one pass over its tensors."""
    groups = parameter_groups(network, weight_decay)
    optimizer = torch.optim.SGD(groups, lr=learning_rate, momentum=MOMENTUM, fused=True)
    for parameter in network.parameters():  # else the first step makes them, with anything in them if it is left out
        optimizer.state[parameter]["momentum_buffer"] = torch.zeros_like(parameter)
    return optimizer


def set_learning_rate(optimizer: torch.optim.Optimizer, learning_rate: float) -> None:
    for group in optimizer.param_groups:
        group["lr"] = learning_rate


def polynomial_rate(base: float, iteration: int, total: int, warmup: int = 0, power: float = POWER) -> float:
    """base * (1 - iteration / total)^power; a linear start over the first `warmup` iterations, counted from 0."""
    if iteration < warmup:
        return base * iteration / warmup
    return base * (1 - iteration / total) ** power


def ramp(iteration: int, total: int, start: float, end: float) -> float:
    """0 until the fraction `start` of training, then linearly to 1 at the fraction `end`, 1 from there on."""
    progress = iteration / total
    if progress < start:
        return 0.0
    return 1.0 if progress >= end else (progress - start) / (end - start)
