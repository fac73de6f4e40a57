"""The exponential moving average (EMA) that makes a teacher of a student."""

import torch
from torch import Tensor, nn


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
    """Takes the same average of the running statistics, and copies all other buffers, such as counters of batches.

    Running statistics are buffers of floats whose names begin with `running_`. Others may hold masks of -inf, of which
    there is no average.
    """
    running: list[tuple[Tensor, Tensor]] = []
    others: list[tuple[Tensor, Tensor]] = []
    for (name, ours), theirs in zip(teacher.named_buffers(), student.buffers(), strict=True):
        is_running = name.rpartition(".")[2].startswith("running_") and ours.is_floating_point()
        (running if is_running else others).append((ours, theirs))
    if running:  # networks of layer norms have none
        torch._foreach_lerp_([ours for ours, _ in running], [theirs for _, theirs in running], 1 - alpha)
    if others:
        torch._foreach_copy_([ours for ours, _ in others], [theirs for _, theirs in others])
