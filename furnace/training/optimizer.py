"""Stochastic gradient descent with the published parameter groups, and its schedule."""

import torch
from torch import nn

MOMENTUM = 0.9
POWER = 0.9


def parameter_groups(network: nn.Module, weight_decay: float) -> list[dict]:
    """Returns six groups: backbone, head and classifier, each with decay (convolutions) and without (norms, biases)."""
    groups = []
    for name in ("backbone", "head", "classifier"):
        part = network.get_submodule(name)
        decayed = [parameter for parameter in part.parameters() if parameter.ndim > 1]
        kept = [parameter for parameter in part.parameters() if parameter.ndim == 1]
        groups += [{"params": decayed, "weight_decay": weight_decay}, {"params": kept, "weight_decay": 0.0}]
    return groups


def build_optimizer(network: nn.Module, learning_rate: float, weight_decay: float) -> torch.optim.SGD:
    """Returns one student's optimizer: SGD with momentum 0.9, fused into one pass over its tensors."""
    groups = parameter_groups(network, weight_decay)
    optimizer = torch.optim.SGD(groups, lr=learning_rate, momentum=MOMENTUM, fused=True)
    # SGD would allocate its momentum buffers in the first step and fill them there. If that step were skipped because
    # it is not finite, they would keep whatever the memory held. So they are made here, of zeros.
    for parameter in network.parameters():
        optimizer.state[parameter]["momentum_buffer"] = torch.zeros_like(parameter)
    return optimizer


def restore_optimizer(optimizer: torch.optim.Optimizer, saved: dict) -> None:
    """Puts back what `optimizer.state_dict()` returned; the weight decay stays as it is set now.

    Momentum takes the memory layout of its parameter, which may be another than when it was saved. A fused optimizer
    goes through both in the order of memory, and does not look whether that is the same.
    """
    decays = [group["weight_decay"] for group in optimizer.param_groups]
    optimizer.load_state_dict(saved)
    for group, decay in zip(optimizer.param_groups, decays, strict=True):
        group["weight_decay"] = decay
    for parameter, state in optimizer.state.items():
        state["momentum_buffer"] = torch.zeros_like(parameter).copy_(state["momentum_buffer"])


def set_learning_rate(optimizer: torch.optim.Optimizer, learning_rate: float) -> None:
    """Gives every parameter group the same rate."""
    for group in optimizer.param_groups:
        group["lr"] = learning_rate


def polynomial_rate(base: float, iteration: int, total: int, warmup: int = 0, power: float = POWER) -> float:
    """The rate `base * (1 - iteration / total)^power`, for an iteration counted from 0.

    Args:
        warmup: so many iterations come first, in which the rate rises linearly from 0 to `base`.
    """
    if iteration < warmup:
        return base * iteration / warmup
    return base * (1 - iteration / total) ** power


def ramp(iteration: int, total: int, start: float, end: float) -> float:
    """0 until the fraction `start` of training, then linearly to 1 at the fraction `end`, and 1 from there on."""
    progress = iteration / total
    if progress < start:
        return 0.0
    return 1.0 if progress >= end else (progress - start) / (end - start)
