"""Fills the backbone of a network with the weights that it starts from: of a file, of torchvision, or of the hub.

A source of weights is what the setting `pretrained_model` holds: the path of a file, `torchvision://resnet50` with or
without `@IMAGENET1K_V2` behind it, `hub` for an encoder of segmentation_models_pytorch, or `none` for a random start.
"""

import re
from contextlib import suppress
from dataclasses import replace
from pathlib import Path

from torch import nn

from furnace.errors import CommonInputError, InputError
from furnace.network.encoder_weights import Encoder
from furnace.network.recognize import Weights, recognize
from furnace.network.resnet import BACKBONES, ResNet, stage_channels
from furnace.network.tensors import fill, require_fit
from furnace.network.weight_files import HUB, NONE, TORCHVISION, tensors_in, weights_path


def network_of(pretrained: str) -> tuple[str | None, float]:
    """Returns the backbone and the width that a source of weights holds.

    Where there is no file, or none that can be read, the name decides: `resnet50*.pth` is taken for a v1c backbone of
    width 1, as in the published code. The backbone is None if the name tells nothing.
    """
    if pretrained.startswith(TORCHVISION):
        name = pretrained.removeprefix(TORCHVISION).partition("@")[0]
        return (name if name in BACKBONES else None), 1.0
    if Path(pretrained).is_file():
        with suppress(InputError):  # training says what is wrong with the file; evaluation does not need it
            weights = read_weights(pretrained)
            return weights.backbone, weights.width
    found = re.search(r"resnet(18|34|50|101)(?!\d)", pretrained.rsplit("/", 1)[-1])
    return (f"{found[0]}_v1c" if found else None), 1.0


def check_weights(network: nn.Module, pretrained: str, backbone: str, width: float) -> None:
    """Makes sure that the weights are there and fit this network, without touching a device.

    They are downloaded if they are not there yet.

    Args:
        network: whose backbone will be filled. Its tensors need no values.
        pretrained: a source of weights.
        backbone: the backbone's name.
        width: the factor of its channel counts.

    Raises:
        InputError: they are missing, damaged, not recognised, or of another backbone or width.
    """
    if pretrained == NONE:
        return
    part = _backbone_of(network, pretrained)
    if not isinstance(part, ResNet):
        Encoder(part, backbone).weights(pretrained, lazily=False)
    elif backbone in BACKBONES:
        check_published_weights(pretrained, backbone, width)
    else:  # within a network of a user's own
        require_fit(part.state_dict(), read_weights(pretrained, lazily=False).state, pretrained)


def check_published_weights(pretrained: str, backbone: str, width: float) -> None:
    """Does the same for a ResNet of this program by its name alone, which takes no network."""
    if pretrained == NONE:
        return
    weights = read_weights(pretrained, lazily=False)  # the whole file, so that damage is found before training
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


def _backbone_of(network: nn.Module, pretrained: str) -> nn.Module:
    part = getattr(network, "backbone", None)
    if not isinstance(part, nn.Module):
        raise InputError(
            f"pretrained_model: {pretrained} could fill a part of the network that is called backbone, but "
            f"{type(network).__name__} has none; set pretrained_model=none"
        )
    return part


def load_backbone(network: nn.Module, pretrained: str, backbone: str) -> str:
    """Fills a network's backbone from a source of weights, or leaves it as it is for "none".

    Returns:
        A description of the weights, for users.

    Raises:
        InputError: the file is missing or damaged, or its weights do not fit or are NaN; the message names the key.
    """
    if pretrained == NONE:
        return "none (random start)"
    part = _backbone_of(network, pretrained)
    if not isinstance(part, ResNet):
        description = Encoder(part, backbone).fill(pretrained)
        _require_numbers(part, pretrained)
        return description
    weights = read_weights(pretrained)
    fill(part, weights.state, pretrained)
    _require_numbers(part, pretrained)
    file = weights_path(pretrained).name
    source = f"{pretrained} ({file})" if pretrained.startswith(TORCHVISION) else file
    return f"{source}: {weights.words}" + f"; left out: {weights.left_out}" * bool(weights.left_out)


def _require_numbers(part: nn.Module, pretrained: str) -> None:
    """Raises InputError if a tensor of a filled backbone holds NaN; masks may well hold -inf."""
    for name, tensor in (*part.named_parameters(), *part.named_buffers()):
        if tensor.isnan().any():
            raise CommonInputError(
                f"pretrained_model: {pretrained}: expected numbers, found NaN in {name}; name another file"
            )


def read_weights(pretrained: str, lazily: bool = True) -> Weights:
    """Reads the backbone's weights from a file or from torchvision's weights.

    Args:
        pretrained: a source of weights, but not "none".
        lazily: whether tensors are read only when they are used, without a look at their checksums.

    Raises:
        InputError: the file is missing or damaged, or no backbone is recognised in it.
    """
    if pretrained == HUB:
        raise InputError(
            "pretrained_model: hub has weights for encoders of segmentation_models_pytorch, which go with a decoder "
            "such as UPerNet; with decoder=published set a file, torchvision://resnet50 or none"
        )
    path = weights_path(pretrained)
    state, beside = tensors_in(path, lazily)
    found = recognize(state, path)
    return replace(found, left_out=", ".join(filter(None, [found.left_out, *beside])))
