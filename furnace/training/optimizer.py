"""The optimizers of students: which parameters decay, which have a rate of their own, and how rates change."""

import re

import torch
from torch import Tensor, nn
from torch.optim import SGD, AdamW, Optimizer

from furnace.errors import CommonInputError

MOMENTUM = 0.9
POWER = 0.9
NORM = re.compile(r"Norm(Act)?\d?d?$")  # BatchNorm2d, LayerNorm, RMSNorm, and timm's LayerNorm2d, BatchNormAct2d


def parameter_groups(network: nn.Module, weight_decay: float, backbone_rate_factor: float = 1.0) -> list[dict]:
    """Returns two groups for each part of the network, one with weight decay and one without; none of them is empty.

    A part is a module that the network holds directly. For the published network these are backbone, head and
    classifier, and the six groups are the published ones. Parameters that the network holds itself are a part as well.
    A parameter that is not trained (`requires_grad` is False) is in no group. One that several modules share is in the
    group of the first, but all that the `backbone` holds are its own, also where an inner module is called so again.

    Args:
        backbone_rate_factor: the `rate_factor` of the part that is called `backbone`, if there is one. That of all
            others is 1. `set_learning_rate` reads it.
    """
    groups: dict[tuple[str, bool], dict] = {}
    seen: set[Tensor] = set()
    backbone = getattr(network, "backbone", None)
    of_backbone = set(backbone.parameters()) if isinstance(backbone, nn.Module) else set()
    for path, module in network.named_modules():
        first = path.partition(".")[0]
        for name, parameter in module.named_parameters(recurse=False):
            if parameter in seen or not parameter.requires_grad:
                continue
            seen.add(parameter)
            part = "backbone" if parameter in of_backbone else first
            decays = is_decayed(module, name, parameter)
            factor = backbone_rate_factor if part == "backbone" else 1.0
            new = {"params": [], "weight_decay": weight_decay if decays else 0.0, "rate_factor": factor}
            groups.setdefault((part, decays), new)["params"].append(parameter)
    return list(groups.values())


def is_decayed(module: nn.Module, name: str, parameter: Tensor) -> bool:
    """Whether weight decay is for this parameter, which `module` itself holds as `name`.

    It is for the weights of convolutions, linear layers and attention. It is for nothing that adds to a feature or
    scales it channel by channel: norms, biases, layer scales, position embeddings, tables of relative positions, class
    and register tokens.
    """
    if isinstance(module, nn.Embedding) or any(NORM.search(kind.__name__) for kind in type(module).__mro__):
        return False
    return parameter.ndim > 1 and name.endswith("weight")  # nn.MultiheadAttention's is called in_proj_weight


def build_optimizer(
    network: nn.Module, learning_rate: float, weight_decay: float, name: str = "sgd", backbone_rate_factor: float = 1.0
) -> Optimizer:
    """Returns one student's optimizer, fused into one pass over the tensors of a group.

    Args:
        name: `sgd`, with momentum 0.9, or `adamw`, with torch's betas (0.9 and 0.999) and epsilon (1e-8).
    """
    groups = parameter_groups(network, weight_decay, backbone_rate_factor)
    optimizer: Optimizer
    if name == "adamw":
        optimizer = AdamW(groups, lr=learning_rate, fused=True)
    else:
        optimizer = SGD(groups, lr=learning_rate, momentum=MOMENTUM, fused=True)
    # SGD would allocate its momentum buffers in the first step and fill them there. If that step were skipped because
    # it is not finite, they would keep whatever the memory held. So what an optimizer remembers is made here, of zeros.
    for group in optimizer.param_groups:
        for parameter in group["params"]:
            optimizer.state[parameter] = _nothing_remembered(name, parameter)
    set_learning_rate(optimizer, learning_rate)
    return optimizer


def _nothing_remembered(name: str, parameter: Tensor) -> dict[str, Tensor]:
    """What the optimizer remembers of a parameter before the first step, as torch itself would name and place it."""
    if name == "adamw":
        return {
            "step": torch.zeros((), dtype=torch.float32, device=parameter.device),
            "exp_avg": torch.zeros_like(parameter),
            "exp_avg_sq": torch.zeros_like(parameter),
        }
    return {"momentum_buffer": torch.zeros_like(parameter)}


def restore_optimizer(optimizer: Optimizer, saved: dict) -> bool:
    """Puts back what `optimizer.state_dict()` returned; weight decay and factors of rates stay as they are set now.

    What is remembered of a parameter takes its memory layout, which may be another than when it was saved. A fused
    optimizer goes through both in the order of memory, and does not look whether that is the same.

    Returns:
        False if this was saved by an optimizer of another kind. Then nothing is changed.

    Raises:
        CommonInputError: it was saved by an optimizer of other parameters.
    """
    if _remembered(saved["state"]) != _remembered(optimizer.state):
        return False
    set_now = [{name: group[name] for name in ("weight_decay", "rate_factor")} for group in optimizer.param_groups]
    try:
        optimizer.load_state_dict(saved)
    except ValueError as error:
        raise CommonInputError(
            f"resume.pth was saved while other parameters were trained, or decayed: {error}; "
            "choose another OUTPUT_PATH, or train the same ones"
        ) from None
    for group, kept in zip(optimizer.param_groups, set_now, strict=True):
        group.update(kept)
    for parameter, state in optimizer.state.items():
        for name, tensor in state.items():
            state[name] = tensor.clone() if name == "step" else torch.zeros_like(parameter).copy_(tensor)
    return True


def _remembered(state: dict) -> set[str]:
    """Returns the names of what an optimizer remembers of a parameter, by which its kind is known."""
    return set().union(*state.values())


def set_learning_rate(optimizer: Optimizer, learning_rate: float) -> None:
    """Gives every parameter group this rate times its own factor."""
    for group in optimizer.param_groups:
        group["lr"] = learning_rate * group["rate_factor"]


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
