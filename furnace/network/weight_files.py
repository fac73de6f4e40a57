"""Files of weights, and the tensors in them: a user's own file, or one that torchvision downloads."""

import errno
import socket
from collections.abc import Mapping
from http.client import HTTPException
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from furnace.errors import InputError, perhaps
from furnace.network.resnet import DEPTHS
from furnace.network.tensors import read_tensors, require_named

TORCHVISION = "torchvision://"
HUB = "hub"  # what segmentation_models_pytorch and timm offer for their encoders
NONE = "none"  # a random start
STALLED = 60  # seconds without a byte, after which a download ends


def tensors_in(path: Path, lazily: bool = True) -> tuple[dict[str, Any], list[str]]:
    """Returns the named tensors of a file, which may lie under `state_dict` or `model`, or in its only dictionary.

    Args:
        path: the file.
        lazily: whether tensors are read only when they are used, without a look at their checksums.

    Returns:
        The tensors, and the names of further dictionaries of tensors beside them, such as an average of the weights.

    Raises:
        InputError: the file is missing or damaged, or holds several dictionaries and nothing says which one is meant.
    """
    state, beside = read_tensors(path, lazily), []
    for nested in ("state_dict", "model"):
        if nested in state:
            beside += [name for name in _networks_in(state) if name != nested]
        state = require_named(state.get(nested, state), path)
    if len(networks := _networks_in(state)) > 1:
        raise InputError(
            f"weights not recognised: {path} holds several dictionaries of tensors, {', '.join(networks)}: "
            "expected one, or one of the name state_dict; save the one that is meant alone"
        )
    return (require_named(state[networks[0]], path) if networks else state), beside


def _networks_in(content: Mapping[Any, Any]) -> list[str]:
    """Returns the names of the dictionaries in a file that hold tensors."""
    return [
        str(name)
        for name, value in content.items()
        if isinstance(value, dict) and any(isinstance(entry, Tensor) for entry in value.values())
    ]


def weights_path(pretrained: str) -> Path:
    """Returns the file of a source of weights; torchvision's is downloaded if it is not there yet.

    Raises:
        InputError: there is no such file, or torchvision has no such weights, or they cannot be downloaded.
    """
    if pretrained.startswith(TORCHVISION):
        return _torchvision_file(pretrained)
    path = Path(pretrained)
    if path.is_file():
        return path
    if path.is_dir():
        raise InputError(
            f"pretrained_model is a folder: {path}: expected a file of weights; name one in it (of a run: snapshot/...)"
        )
    beside = [other.name for other in path.parent.iterdir()] if path.parent.is_dir() else []
    raise InputError(
        f"pretrained_model not found: {path}{perhaps(path.name, beside)}: expected a file of ImageNet weights; put it "
        "there, or set pretrained_model=torchvision://resnet50 (downloads), or pretrained_model=none (random start)"
    )


def _torchvision_file(pretrained: str) -> Path:
    """Returns the file in which torchvision keeps these weights, and lets torchvision download it if it is missing.

    torchvision only downloads here: `read_tensors` reads the file, as it reads all others.
    """
    # Importing torchvision takes seconds, and only these weights need it.
    from torchvision.models import get_model_weights  # type: ignore[import-untyped]  # torchvision ships no types

    name, _, version = pretrained.removeprefix(TORCHVISION).partition("@")
    if name not in [f"resnet{depth}" for depth in DEPTHS]:
        known = ", ".join(f"{TORCHVISION}resnet{depth}" for depth in DEPTHS)
        raise InputError(f"unknown weights: {pretrained}: expected one of {known}; name one of them")
    versions = get_model_weights(name)
    if version and version not in versions.__members__:
        known = " or ".join(f"{TORCHVISION}{name}@{weights.name}" for weights in versions)
        raise InputError(f"unknown weights: {pretrained}: expected {known}; change what stands behind the @")
    weights = versions[version] if version else versions.DEFAULT
    path = Path(torch.hub.get_dir(), "checkpoints", weights.url.rsplit("/", 1)[-1])
    if path.is_file():
        return path
    remedy = f"put {path.name} into {path.parent}, or set pretrained_model to another file or none"
    limit = socket.getdefaulttimeout()
    try:
        if not path.is_absolute():  # "~" is left as it is where the system knows no home
            raise FileNotFoundError(errno.ENOENT, "no home folder is known", str(path))
        path.parent.mkdir(parents=True, exist_ok=True)
        socket.setdefaulttimeout(STALLED)  # without one, a connection that falls silent is waited for without end
        weights.get_state_dict(progress=True, check_hash=True, weights_only=True, map_location="cpu")
    except (OSError, HTTPException, RuntimeError) as error:  # no network; cut off; not the expected file
        # An error of the network has no number, or no file's name.
        if isinstance(error, OSError) and error.errno and (error.filename or error.errno == errno.ENOSPC):
            remedy = f"set TORCH_HOME to a folder that can be written, or {remedy.partition(', or ')[2]}"
        raise InputError(f"cannot download {pretrained}: {error}: expected {weights.url}; {remedy}") from None
    finally:
        socket.setdefaulttimeout(limit)
    return path
