"""The exponential moving average that makes a teacher of a student."""

import torch
from torch import nn


def ema_alpha(step: int, decay: float = 0.999) -> float:
    """alpha = min(1 - 1 / (step + 1), decay); `step` is 1 after the first optimizer step."""
    return min(1 - 1 / (step + 1), decay)


@torch.no_grad()
def update_parameters(teacher: nn.Module, student: nn.Module, alpha: float) -> None:
    """teacher = alpha * teacher + (1 - alpha) * student, for parameters alone: batch statistics stay the teacher's."""
    torch._foreach_lerp_(list(teacher.parameters()), list(student.parameters()), 1 - alpha)


@torch.no_grad()
def update_buffers(teacher: nn.Module, student: nn.Module, alpha: float) -> None:
    """The same average over the running statistics; counters are copied."""
    pairs = list(zip(teacher.buffers(), student.buffers(), strict=True))
    floats = [(ours, theirs) for ours, theirs in pairs if ours.is_floating_point()]
    torch._foreach_lerp_([ours for ours, _ in floats], [theirs for _, theirs in floats], 1 - alpha)
    for ours, theirs in pairs:
        if not ours.is_floating_point():
            ours.copy_(theirs)
