"""Weights for a network: from an ImageNet file, from torchvision, from a snapshot; never a key too few.

Tensors are the only thing that is loaded: `weights_only` refuses files that would run code.
"""

import pickle
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from furnace.errors import InputError

TORCHVISION = "torchvision://"
CLASSIFIER_PREFIX = "fc."  # the ImageNet classifier, of no use here
COUNTER = "num_batches_tracked"  # older files have none


def backbone_of(pretrained: str) -> str | None:
    """The backbone that a weight source's name speaks of, None if it names none.

    Files follow the published naming, `resnet50*.pth`, and hold v1c networks; torchvision's have the 7x7 stem.
    """
    found = re.search(r"resnet(18|34|50|101)(?!\d)", pretrained.rsplit("/", 1)[-1])
    if not found:
        return None
    return found[0] if pretrained.startswith(TORCHVISION) else f"{found[0]}_v1c"


def check_source(pretrained: str) -> None:
    """Raises InputError if `pretrained` names a file that is not there."""
    if pretrained == "none" or pretrained.startswith(TORCHVISION) or Path(pretrained).is_file():
        return
    raise InputError(
        f"pretrained_model not found: {pretrained}: expected a file of ImageNet weights; put it there, "
        "or set pretrained_model=torchvision://resnet50 (downloads), or pretrained_model=none (random start)"
    )


def load_backbone(backbone: nn.Module, pretrained: str) -> None:
    """Fills a backbone from a file, from torchvision, or, with "none", not at all.

    Raises:
        InputError: the file is missing or damaged, or its weights do not fit; names the key.
    """
    if pretrained == "none":
        return
    state = _torchvision_state(pretrained) if pretrained.startswith(TORCHVISION) else read_tensors(Path(pretrained))
    for nested in ("state_dict", "model"):
        state = require_named(state.get(nested, state), pretrained)
    state = {name: value for name, value in state.items() if not name.startswith(CLASSIFIER_PREFIX)}
    fill(backbone, state, pretrained)


def read_tensors(path: Path) -> dict:
    """A `torch.save` file of tensors and plain values, on the CPU; InputError if it is anything else."""
    try:
        content = torch.load(path, map_location="cpu", weights_only=True)
    except FileNotFoundError:
        raise InputError(f"file not found: {path}: expected a file of weights; name one that exists") from None
    except pickle.UnpicklingError:
        raise InputError(f"refused: {path} is not a file of plain tensors; expected one made by torch.save") from None
    except Exception as error:  # the unpickler raises whatever the damage leads it to: IndexError, struct.error, ...
        reason = str(error).splitlines()[0][:120] if str(error) else type(error).__name__
        raise InputError(f"damaged file: {path}: {reason}; replace it") from None
    if not isinstance(content, dict):
        raise InputError(
            f"{path} holds a {type(content).__name__}, expected a dictionary of tensors; name another file"
        )
    return content


def require_named(state: object, source: str | Path) -> dict[str, Any]:
    """`state` itself if it is a dictionary by name, else InputError."""
    if not isinstance(state, dict) or not all(isinstance(name, str) for name in state):
        raise InputError(f"weights do not fit: {source}: expected a dictionary of tensors by name; name another file")
    return state


def fill(network: nn.Module, state: Mapping[str, Tensor], source: str | Path) -> None:
    """Copies `state` into the network, every key of it and no other, or nothing.

    Raises:
        InputError: a key is missing, unknown or of another shape; `source` and the first such key are named.
    """
    expected = network.state_dict()
    missing = [name for name in expected if name not in state and not name.endswith(COUNTER)]
    unknown = [name for name in state if name not in expected]
    remedy = "check backbone, width and the number of classes, or name another file"
    if missing:
        raise InputError(f"weights do not fit: {source}: {name_some(missing)} missing; {remedy}")
    if unknown:
        raise InputError(f"weights do not fit: {source}: {name_some(unknown)} not in the network; {remedy}")
    for name, value in state.items():
        if not isinstance(value, Tensor):
            raise InputError(f"weights do not fit: {source}: {name} is no tensor; {remedy}")
        if value.shape != expected[name].shape:
            raise InputError(
                f"weights do not fit: {source}: {name} has shape {tuple(value.shape)}, "
                f"the network expects {tuple(expected[name].shape)}; {remedy}"
            )
    network.load_state_dict(state, strict=False)  # only counters can be missing here


def name_some(names: list[str]) -> str:
    """`a` or `a and 3 more`."""
    return names[0] if len(names) == 1 else f"{names[0]} and {len(names) - 1} more"


def _torchvision_state(pretrained: str) -> dict[str, Tensor]:
    from torchvision.models import get_model_weights

    name, _, version = pretrained.removeprefix(TORCHVISION).partition("@")
    try:
        weights = get_model_weights(name)
        return (weights[version] if version else weights.DEFAULT).get_state_dict(progress=True)
    except (ValueError, KeyError):
        raise InputError(
            f"unknown weights: {pretrained}: expected torchvision://resnet50 or @IMAGENET1K_V1 behind it"
        ) from None
    except OSError as error:
        raise InputError(
            f"cannot download {pretrained}: {error}; put the file of torchvision's weights into "
            f"{torch.hub.get_dir()}/checkpoints, or set pretrained_model to another file or none"
        ) from None
