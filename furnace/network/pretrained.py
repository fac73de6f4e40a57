"""Weights for a network: from an ImageNet file, from torchvision, from a snapshot; never a key too few.

Tensors are the only thing that is loaded: `weights_only` refuses files that would run code.
"""

import pickle
import re
import zipfile
from collections.abc import Mapping
from contextlib import suppress
from http.client import HTTPException
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from furnace.errors import InputError
from furnace.network.recognize import Weights, recognize
from furnace.network.resnet import BACKBONES, DEPTHS, stage_channels

TORCHVISION = "torchvision://"
COUNTER = "num_batches_tracked"  # older files have none


def network_of(pretrained: str) -> tuple[str | None, float]:
    """Backbone and width that a weight source holds; by its name where there is no file, or none that can be read.

    By their names, `resnet50*.pth`, files are v1c, as in the published code. A name that tells nothing gives None.
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
    """Makes sure, without touching a device, that the weights are there and of this network; downloads torchvision's.

    Raises:
        InputError: they are missing, damaged, not recognised, or of another backbone or width.
    """
    if pretrained == "none":
        return
    weights = read_weights(pretrained, lazily=False)  # all of it once, so that damage is found before training
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
    """Fills a backbone from a file, from torchvision, or, with "none", not at all; says in words with what.

    Raises:
        InputError: the file is missing or damaged, or its weights do not fit; names the key.
    """
    if pretrained == "none":
        return "none (random start)"
    weights = read_weights(pretrained)
    fill(backbone, weights.state, pretrained)
    file = weights_path(pretrained).name
    return f"{f'{pretrained} ({file})' if pretrained.startswith(TORCHVISION) else file}: {weights.words}"


def read_weights(pretrained: str, lazily: bool = True) -> Weights:
    """What a file or torchvision's weights hold; lazily, only what is then used is read.

    Raises:
        InputError: the file is missing or damaged, or no backbone is recognised in it.
    """
    path = weights_path(pretrained)
    state = read_tensors(path, lazily)
    for nested in ("state_dict", "model"):
        state = require_named(state.get(nested, state), path)
    return recognize(state, path)


def weights_path(pretrained: str) -> Path:
    """The file of a weight source; torchvision's is downloaded if it is not there yet.

    Raises:
        InputError: there is no such file, or torchvision has no such weights, or it cannot be downloaded.
    """
    if pretrained.startswith(TORCHVISION):
        return _torchvision_file(pretrained)
    if Path(pretrained).is_file():
        return Path(pretrained)
    raise InputError(
        f"pretrained_model not found: {pretrained}: expected a file of ImageNet weights; put it there, "
        "or set pretrained_model=torchvision://resnet50 (downloads), or pretrained_model=none (random start)"
    )


def _torchvision_file(pretrained: str) -> Path:
    """Where torchvision keeps these weights. Its own loader would unpickle anything, so it only downloads here."""
    from torchvision.models import get_model_weights

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
    try:
        weights.get_state_dict(progress=True, check_hash=True, weights_only=True, map_location="cpu")
    except (OSError, HTTPException, RuntimeError) as error:  # no network; cut off; another file than expected
        raise InputError(
            f"cannot download {pretrained}: {error}: expected {weights.url}; put {path.name} into {path.parent}, "
            "or set pretrained_model to another file or none"
        ) from None
    return path


def read_tensors(path: Path, lazily: bool = False) -> dict:
    """A `torch.save` file of tensors and plain values, on the CPU; InputError if it is anything else.

    Lazily, a tensor is read when it is used, if the file has the zip format (PyTorch 1.6 and later); its checksum is
    not looked at.
    """
    try:
        zipped = zipfile.is_zipfile(path)
        if zipped and not lazily:
            _require_checksums(path)
        content = torch.load(path, map_location="cpu", weights_only=True, mmap=lazily and zipped)
    except FileNotFoundError:
        raise InputError(f"file not found: {path}: expected a file of weights; name one that exists") from None
    except pickle.UnpicklingError as error:
        found = re.search(r"GLOBAL (\S+)", str(error))  # as in OpenMMLab's training checkpoints
        holding = f" (it holds {found[1]})" if found else ""
        raise InputError(
            f"refused: {path} is not a file of plain tensors{holding}; expected a state_dict alone, saved by torch.save"
        ) from None
    except Exception as error:  # the unpickler raises whatever the damage leads it to: IndexError, struct.error, ...
        reason = str(error).splitlines()[0][:120] if str(error) else type(error).__name__
        raise InputError(f"damaged file: {path}: {reason}; replace it") from None
    if not isinstance(content, dict):
        raise InputError(
            f"{path} holds a {type(content).__name__}, expected a dictionary of tensors; name another file"
        )
    return content


def _require_checksums(path: Path) -> None:
    """BadZipFile if a tensor's bytes are not those that were written: torch.load itself does not look."""
    with zipfile.ZipFile(path) as file:
        if bad := file.testzip():
            raise zipfile.BadZipFile(f"the checksum of {bad} differs")


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
