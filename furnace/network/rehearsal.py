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
NO_GRADIENT = (
    "expected logits that a gradient goes back from in training mode, found some that need none; "
    "compute them of trained parameters, without torch.no_grad and detach"
)
CHANGES_IMAGES = (
    "expected a network that leaves its images as they are, found one that changes them, which others look at too; "
    "do it in a copy, such as x.clamp(0) in place of x.clamp_(0), or nn.ReLU() without inplace"
)
DRAWS = (
    "expected a network that draws no random numbers in evaluation mode, found one that does, so that no two "
    "evaluations are equal; draw only while self.training, as F.dropout(x, p, self.training)"
)


@dataclass(frozen=True)
class Rehearsal:
    """What was seen of a network."""

    # Names of parameters that want a gradient and get none: nothing that the loss is made of is computed with them. An
    # encoder has such where a decoder leaves out its last stages, a vision transformer often has a last norm.
    unreached: tuple[str, ...] = ()
    draws: bool = False  # whether it draws random numbers in training mode, as dropout and stochastic depth do
    fault: str | None = None  # what it does that no network may do, and what helps


def rehearse(network: nn.Module, size: int) -> Rehearsal:
    """Tries a copy of a network on images of `size` pixels, forward and back, and tells what was seen.

    The copy is on torch's meta device, where tensors have sizes but no values, so that this takes a moment and no
    memory. A network that looks at values cannot run there. Then a copy runs on the CPU, with small images if it takes
    them, and so does one that seems to have a fault. If that fails too, the answer is the careful one: all parameters
    are reached, and random numbers are drawn.

    The network itself and torch's generators stay as they are.

    Args:
        network: maps images (B, 3, S, S) to one tensor. The published network is known, and is not tried.
        size: S.
    """
    if type(network) is DeepLabV3Plus:
        return Rehearsal()
    found = Rehearsal(draws=True)
    for device, side in (("meta", size), ("cpu", min(size, SMALL)), ("cpu", size)):
        try:
            with torch.random.fork_rng(devices=()):
                found = _seen_of(_copy_on(network, torch.device(device)), side, torch.device(device))
        except Exception:  # a network of the user's own may do anything
            continue
        if found.fault is None or device == "cpu":
            break
    return found


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
    images = torch.zeros(IMAGES, 3, size, size, dtype=dtype, device=device)
    network.train()
    with _Watching() as learning:
        logits: Tensor = network(images)
    if not logits.requires_grad:
        return Rehearsal(fault=NO_GRADIENT)
    logits.sum().backward()  # type: ignore[no-untyped-call]  # torch does not annotate it
    # Stochastic depth may have left out a block in that pass. In evaluation mode nothing is left out.
    network.eval()
    state = torch.get_rng_state()
    with _Watching() as labelling:
        logits = network(images[:1])
    logits.sum().backward()  # type: ignore[no-untyped-call]
    # Some operators that may draw do not do so when they are told not to, which only the generator shows.
    drawn = labelling.drawn if device.type == "meta" else not torch.equal(torch.get_rng_state(), state)
    named = network.named_parameters()
    unreached = tuple(name for name, each in named if each.requires_grad and each.grad is None)
    changed = images._version > 0  # by an operator that works in place, also on a part of them
    return Rehearsal(unreached, learning.drawn, CHANGES_IMAGES if changed else DRAWS if drawn else None)


class _Watching(TorchDispatchMode):  # type: ignore[no-untyped-call]  # torch does not annotate it
    """Watches whether any operator draws random numbers, whatever module calls it."""

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]  # torch does not annotate it
        self.drawn = False

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        self.drawn = self.drawn or torch.Tag.nondeterministic_seeded in func.tags
        return func(*args, **(kwargs or {}))
