"""The exponential moving average (EMA) that makes a teacher of a student."""

import torch
from torch import nn


def ema_alpha(step: int, decay: float = 0.999) -> float:
    """Returns alpha = min(1 - 1 / (step + 1), decay); `step` is 1 after the first optimizer step."""
    return min(1 - 1 / (step + 1), decay)


@torch.no_grad()
def update_parameters(teacher: nn.Module, student: nn.Module, alpha: float) -> None:
    """Sets teacher = alpha * teacher + (1 - alpha) * student for the parameters.

    Buffers stay as they are: the teacher keeps the running statistics of the images that it saw itself.
    """
    torch._foreach_lerp_(list(teacher.parameters()), list(student.parameters()), 1 - alpha)


@torch.no_grad()
def update_buffers(teacher: nn.Module, student: nn.Module, alpha: float) -> None:
    """Takes the same average of the running statistics, and copies the student's counters of batches."""
    pairs = list(zip(teacher.buffers(), student.buffers(), strict=True))
    floats = [pair for pair in pairs if pair[0].is_floating_point()]
    counters = [pair for pair in pairs if not pair[0].is_floating_point()]
    if floats:  # networks of layer norms have none
        torch._foreach_lerp_([ours for ours, _ in floats], [theirs for _, theirs in floats], 1 - alpha)
    if counters:
        torch._foreach_copy_([ours for ours, _ in counters], [theirs for _, theirs in counters])
