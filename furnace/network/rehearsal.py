"""What one pass through a network, forward and back, tells of it before it is trained.

In the shapes below, B is the number of images, S is the side of their square crop.
"""

import copy
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode

from furnace.network.deeplabv3plus import DeepLabV3Plus

SMALL = 64  # pixels of the side of images that are tried with values, where the network takes them
IMAGES = 2  # at least so many images: batch norms refuse a single number for each channel


@dataclass(frozen=True)
class Rehearsal:
    """What was seen of a network in training mode."""

    # Names of parameters that want a gradient and get none: nothing that the loss is made of is computed with them. An
    # encoder has such where a decoder leaves out its last stages, a vision transformer often has a last norm.
    unreached: tuple[str, ...] = ()
    draws: bool = False  # whether it draws random numbers, as dropout and stochastic depth do


def rehearse(network: nn.Module, size: int) -> Rehearsal:
    """Tries a copy of a network on images of `size` pixels, forward and back, and tells what was seen.

    The copy is on torch's meta device, where tensors have sizes but no values, so that this takes a moment and no
    memory. A network that looks at values cannot run there. Then a copy runs on the CPU, with small images if it takes
    them. If that fails too, the answer is the careful one: all parameters are reached, and random numbers are drawn.

    The network itself and torch's generators stay as they are.

    Args:
        network: maps images (B, 3, S, S) to one tensor. The published network is known, and is not tried.
        size: S.
    """
    if type(network) is DeepLabV3Plus:
        return Rehearsal()
    for device, side in (("meta", size), ("cpu", min(size, SMALL)), ("cpu", size)):
        try:
            with torch.random.fork_rng(devices=()):
                return _seen_of(_copy_on(network, torch.device(device)), side, torch.device(device))
        except Exception:  # a network of the user's own may do anything
            continue
    return Rehearsal(draws=True)


def copy_with(network: nn.Module, replaced: Callable[[Tensor], Tensor]) -> nn.Module:
    """Returns a copy of a network that holds `replaced(tensor)` in the place of every parameter and buffer."""
    made: dict[int, Any] = {}  # what `deepcopy` takes in the place of a tensor, by the tensor's identity
    for tensor in (*network.parameters(), *network.buffers()):
        other = replaced(tensor)
        made[id(tensor)] = nn.Parameter(other, tensor.requires_grad) if isinstance(tensor, nn.Parameter) else other
    return copy.deepcopy(network, made)


def _copy_on(network: nn.Module, device: torch.device) -> nn.Module:
    """Returns a copy whose parameters and buffers are on a device; on the meta device, their values are not copied."""
    if device.type == "meta":
        return copy_with(network, lambda tensor: torch.empty_like(tensor, device=device))
    return copy_with(network, lambda tensor: tensor.detach().to(device).clone())


def _seen_of(network: nn.Module, size: int, device: torch.device) -> Rehearsal:
    """Runs a network forward and back, in training and in evaluation mode, and returns what was seen."""
    dtype = next((parameter.dtype for parameter in network.parameters()), torch.float32)
    with _Watching() as watching:
        logits: Tensor = network.train()(torch.zeros(IMAGES, 3, size, size, dtype=dtype, device=device))
    logits.sum().backward()  # type: ignore[no-untyped-call]  # torch does not annotate it
    # Stochastic depth may have left out a block in that pass. In evaluation mode nothing is left out.
    network.eval()(torch.zeros(1, 3, size, size, dtype=dtype, device=device)).sum().backward()
    named = network.named_parameters()
    unreached = tuple(name for name, each in named if each.requires_grad and each.grad is None)
    return Rehearsal(unreached, watching.drawn)


class _Watching(TorchDispatchMode):  # type: ignore[no-untyped-call]  # torch does not annotate it
    """Watches whether any operator draws random numbers, whatever module calls it."""

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]  # torch does not annotate it
        self.drawn = False

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        self.drawn = self.drawn or torch.Tag.nondeterministic_seeded in func.tags
        return func(*args, **(kwargs or {}))
