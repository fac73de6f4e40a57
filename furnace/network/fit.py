"""Whether a network takes images of a size, found out before there is a device, and as a rule without any values."""

from collections.abc import Callable
from difflib import get_close_matches

import torch
from torch import nn
from torch.nn.parameter import is_lazy

from furnace.errors import InputError, in_short
from furnace.network.choice import build_network
from furnace.network.library import PairError, encoders
from furnace.network.rehearsal import rehearse

FAR = 16  # steps that are taken from a size that does not fit, to find one that does
FAMILIAR = ("UPerNet", "DPT", "FPN", "Unet", "Segformer")  # decoders that are tried for an encoder that another refuses


def without_values(build: Callable[[], nn.Module]) -> nn.Module:
    """Returns what `build` makes, on the meta device; where that needs values, it is made and moved there."""
    # Operators of the meta device import it. So do torchvision and timm, but torch 2.6 cannot do so on that device.
    import torch._dynamo

    with torch.random.fork_rng(devices=()):
        try:
            with torch.device("meta"):
                return build()
        except Exception:  # of whatever kind: some networks compute with values while they are built
            return build().to("meta")


def fault_at(network: nn.Module, size: int, num_classes: int) -> str | None:
    """Says why a network does not take square images of a size, on the device it is on; None if it does.

    It is tried as in training, with two images, and as in evaluation, with one, and stays in evaluation mode.
    """
    multiple = getattr(network, "multiple", 1)
    if not isinstance(multiple, int) or multiple < 1:
        return f"its attribute multiple is {multiple!r}, not a whole number of at least 1"
    if size % multiple:
        return f"it takes multiples of {multiple}"
    device = next((tensor.device for tensor in network.parameters()), torch.device("cpu"))
    for training in (True, False):
        number = 2 if training else 1  # batch norm refuses a single number for each channel while it trains
        network.train(training)
        try:
            with torch.no_grad():
                logits = network(torch.zeros(number, 3, size, size, device=device))
        except Exception as error:  # whatever a library, or a user's file, raises
            return in_short(error)[:80]
        if not isinstance(logits, torch.Tensor):
            return f"it returns a {type(logits).__name__}, not a tensor"
        expected = (number, num_classes, size, size)
        if tuple(logits.shape) != expected:
            return f"its logits are {tuple(logits.shape)}, not {expected}"
    return None


def fault_of_own(network: nn.Module, size: int, num_classes: int) -> str | None:
    """Says why a network of a user's own cannot be trained on square images of a size, and what helps.

    Args:
        network: the network as it was built, before any image has gone through it. A network that looks at values is
            only known not to be at fault if it has them.
        size: the side of the images in pixels.
        num_classes: the number of classes that it has to tell apart.

    Returns:
        None if nothing was found.
    """
    tensors = (*network.named_parameters(), *network.named_buffers())
    if lazy := next((name for name, tensor in tensors if is_lazy(tensor)), None):
        return f"expected parameters of known sizes, found {lazy} without one; name its number of input channels"
    if not any(parameter.requires_grad for parameter in network.parameters()):
        return "expected parameters that are trained, found none; leave requires_grad of some as it is"
    for name, value in network.state_dict().items():
        if not isinstance(value, torch.Tensor):
            kind = type(value).__name__
            return f"expected a state of tensors alone, found {name}, a {kind}; keep what it holds in a buffer"
    if fault := fault_at(network, size, num_classes):
        return (
            f"expected logits of {num_classes} classes, as large as the images, at image_size={size}: {fault}; "
            "mend the file, or set another image_size"
        )
    return rehearse(network, size).fault


def require_size(network: nn.Module, decoder: str, backbone: str, size: int, num_classes: int) -> None:
    """Makes sure that a network of segmentation_models_pytorch takes images of a size.

    Args:
        network: the network, on the meta device.
        decoder: its decoder's name.
        backbone: its encoder's name.
        size: the side of square images in pixels.
        num_classes: the number of classes that it tells apart.

    Raises:
        InputError: it does not. The message names the nearest sizes, or another decoder or encoder that goes with this
            one.
    """
    fault = fault_at(network, size, num_classes)
    if fault is None:
        return
    pair = f"decoder={decoder} and backbone={backbone}"
    if sizes := _nearest_sizes(network, size, num_classes):
        nearest = " or ".join(map(str, sizes))
        raise InputError(
            f"image_size: expected {nearest}, the nearest that {pair} take, found {size}; set image_size={sizes[-1]}"
        )
    step: int = getattr(network, "multiple", 1)
    fault = fault_at(network, max(step, size // step * step), num_classes)  # of a size that should fit
    raise InputError(f"{pair} do not go together at any size near {size} ({fault}){_remedy(decoder, backbone)}")


def explained(error: PairError, decoder: str, backbone: str) -> InputError:
    """Returns the error about a pair that does not go together, with the nearest pair that does."""
    return InputError(f"{error}{_remedy(decoder, backbone)}")


def _nearest_sizes(network: nn.Module, size: int, num_classes: int) -> list[int]:
    """Returns the next smaller size that a network takes and the next larger one, as far as there are such near by."""
    step: int = getattr(network, "multiple", 1)
    below = range(size // step * step, 0, -step)[:FAR]
    above = range((size // step + 1) * step, size + (FAR + 1) * step, step)
    fitting = (
        next((one for one in side if fault_at(network, one, num_classes) is None), None) for side in (below, above)
    )
    return [one for one in fitting if one]


def _remedy(decoder: str, backbone: str) -> str:
    """Returns the end of a line about a pair that does not go together: another decoder or encoder that does."""
    for other in FAMILIAR:
        if other != decoder and _go_together(other, backbone):
            return f"; set decoder={other}, which takes it"
    for other in get_close_matches(backbone, encoders(), n=FAR, cutoff=0.5):
        if other != backbone and _go_together(decoder, other):
            return f"; set backbone={other}, which goes with {decoder}"
    return "; set another decoder, or another backbone"


def _go_together(decoder: str, backbone: str) -> bool:
    try:
        network = without_values(lambda: build_network(decoder, backbone, num_classes=2))
    except InputError:
        return False
    return any(fault_at(network, size, 2) is None for size in (224, 256))
