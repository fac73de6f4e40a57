"""Where the weights come from that a network starts with: an ImageNet file, torchvision, or a snapshot.

A source of weights is what the setting `pretrained_model` holds: the path of a file, `torchvision://resnet50` with or
without `@IMAGENET1K_V2` behind it, or `none` for a random start.
"""

import errno
import re
import socket
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import replace
from http.client import HTTPException
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from furnace.errors import InputError, perhaps
from furnace.network.recognize import Weights, recognize
from furnace.network.resnet import BACKBONES, DEPTHS, stage_channels
from furnace.network.tensors import fill, read_tensors, require_named

TORCHVISION = "torchvision://"
STALLED = 60  # seconds without a byte, after which a download ends


def network_of(pretrained: str) -> tuple[str | None, float]:
    """Returns the backbone and the width that a source of weights holds.

    Where there is no file, or none that can be read, the name decides: `resnet50*.pth` is taken for a v1c backbone of
    width 1, as in the published code. The backbone is None if the name tells nothing.
    """
    if pretrained.startswith(TORCHVISION):
        name = pretrained.removeprefix(TORCHVISION).partition("@")[0]
        return (name if name in BACKBONES else None), 1.0
    if pretrained != "none" and Path(pretrained).is_file():
        with suppress(InputError):  # training says what is wrong with the file; evaluation does not need it
            weights = read_weights(pretrained)
            return weights.backbone, weights.width
    found = re.search(r"resnet(18|34|50|101)(?!\d)", pretrained.rsplit("/", 1)[-1])
    return (f"{found[0]}_v1c" if found else None), 1.0


def check_weights(pretrained: str, backbone: str, width: float) -> None:
    """Makes sure that the weights are there and fit this network, without touching a device.

    torchvision's weights are downloaded if they are not there yet.

    Raises:
        InputError: they are missing, damaged, not recognised, or of another backbone or width.
    """
    if pretrained == "none":
        return
    weights = read_weights(pretrained, lazily=False)  # reads the whole file, so that damage is found before training
    wrong = {}
    if weights.backbone != backbone:
        wrong["backbone"] = (backbone, weights.backbone)
    if stage_channels(weights.width) != stage_channels(width):
        wrong["width"] = (f"{width:g}", f"{weights.width:g}")
    if wrong:
        asked = " and ".join(f"{name} is {value}" for name, (value, _) in wrong.items())
        right = " ".join(f"{name}={value}" for name, (_, value) in wrong.items())
        remedy = f"set {right} or leave {'it' if len(wrong) == 1 else 'them'} unset"
        raise InputError(f"pretrained_model: {pretrained} is {weights.words}; {asked}; {remedy}")


def load_backbone(backbone: nn.Module, pretrained: str) -> str:
    """Fills a backbone from a file or from torchvision, or leaves it as it is for "none".

    Returns:
        A description of the weights, for users.

    Raises:
        InputError: the file is missing or damaged, or its weights do not fit; the message names the key.
    """
    if pretrained == "none":
        return "none (random start)"
    weights = read_weights(pretrained)
    fill(backbone, weights.state, pretrained)
    file = weights_path(pretrained).name
    source = f"{pretrained} ({file})" if pretrained.startswith(TORCHVISION) else file
    return f"{source}: {weights.words}" + f"; left out: {weights.left_out}" * bool(weights.left_out)


def read_weights(pretrained: str, lazily: bool = True) -> Weights:
    """Reads the backbone's weights from a file or from torchvision's weights.

    Args:
        pretrained: a source of weights, but not "none".
        lazily: whether tensors are read only when they are used, without a look at their checksums.

    Raises:
        InputError: the file is missing or damaged, or no backbone is recognised in it.
    """
    path = weights_path(pretrained)
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
    found = recognize(require_named(state[networks[0]], path) if networks else state, path)
    return replace(found, left_out=", ".join(filter(None, [found.left_out, *beside])))


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
