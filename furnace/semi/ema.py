"""The exponential moving average (EMA) that makes a teacher of a student."""

import torch
from torch import Tensor, nn

from furnace.semi.modes import keeps_statistics


def ema_alpha(step: int, decay: float = 0.999) -> float:
    """Returns alpha = min(1 - 1 / (step + 1), decay); `step` is 1 after the first optimizer step."""
    return min(1 - 1 / (step + 1), decay)


@torch.no_grad()
def update_parameters(teacher: nn.Module, student: nn.Module, alpha: float) -> None:
    """Sets teacher = alpha * teacher + (1 - alpha) * student for the parameters; buffers stay as they are."""
    torch._foreach_lerp_(list(teacher.parameters()), list(student.parameters()), 1 - alpha)


def has_other_buffers(network: nn.Module) -> bool:
    """Returns whether modules that keep no statistics hold buffers, as those of the published networks do not."""
    return any(list(each.buffers(recurse=False)) and not keeps_statistics(each) for each in network.modules())


@torch.no_grad()
def update_buffers(teacher: nn.Module, student: nn.Module, alpha: float, with_statistics: bool) -> None:
    """Takes the same average of the running statistics, and copies all other buffers, such as counters of batches.

    Running statistics are buffers of floats whose names begin with `running_`. Others may hold masks of -inf, of which
    there is no average.

    Args:
        with_statistics: whether this is for the buffers of modules that keep statistics, too. Without it a teacher
            keeps the statistics of the images that it saw itself. All other modules of a teacher are in eval mode, in
            which they change nothing themselves, such as the vectors of a spectral norm.
    """
    running: dict[Tensor, Tensor] = {}  # the teacher's buffers, and the student's
    others: dict[Tensor, Tensor] = {}
    for ours, theirs in zip(teacher.modules(), student.modules(), strict=True):
        if keeps_statistics(ours) and not with_statistics:
            continue
        own, targets = ours.named_buffers(recurse=False), theirs.buffers(recurse=False)
        for (name, buffer), target in zip(own, targets, strict=True):
            is_running = name.startswith("running_") and buffer.is_floating_point()
            (running if is_running else others)[buffer] = target
    if running:  # networks of layer norms have none
        torch._foreach_lerp_(list(running), list(running.values()), 1 - alpha)
    if others:
        torch._foreach_copy_(list(others), list(others.values()))
