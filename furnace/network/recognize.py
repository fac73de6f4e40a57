"""Recognises which backbone a dictionary of weights holds, by its keys and shapes, whatever the file is called.

The weights of a ResNet come in three namings: the published one (its v1c stem starts with `conv1.0.weight`),
torchvision's (its 7x7 stem is `conv1.weight`) and OpenMMLab's (its v1c stem starts with `stem.0.weight`). All of them
name layer1 to layer4 alike.
"""

import re
from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from torch import Tensor

from furnace.errors import InputError
from furnace.network.resnet import DEPTHS, V1C_STEMS, scaled, stage_channels

Shapes = Mapping[str, tuple[int, ...]]  # of tensors by name; () for what is no tensor

BLOCK = re.compile(r"(|.*?\.)layer[1-4]\.\d+\..*")  # before it stands the prefix that a backbone has in a file
STUDENT = "branch1.backbone."  # of the two students in a snapshot, this one is taken
WRAPPER = re.compile(r"(module\.|_orig_mod\.)+")  # of DataParallel and of torch.compile
IMAGENET_CLASSIFIER = "fc."
OWN_HEAD = "head.aspp."  # tells a network of this program from others
# The depth by the numbers of blocks in layer1 to layer4, and by whether the blocks have a conv3.
DEPTH_OF = {(blocks, depth >= 50): depth for depth, blocks in DEPTHS.items()}


@dataclass(frozen=True)
class Weights:
    """The weights of a backbone.

    Attributes:
        words: a description for users, such as `ResNet-50 v1c in the published naming`.
        backbone: the name in furnace.network.resnet.BACKBONES of the backbone that they belong to.
        width: the factor that gives their channel counts.
        state: the weights by the names of furnace.network.resnet.ResNet, without a classifier. It is not checked
            here that every key is there and has the right shape: `furnace.network.tensors.fill` does that.
        left_out: what else was there and is of no use here, such as `2 of fc`; empty if there was nothing.
    """

    words: str
    backbone: str
    width: float
    state: dict[str, Any]
    left_out: str


def recognize(state: Mapping[str, Any], source: str | Path) -> Weights:
    """Finds the backbone among named tensors, whatever the prefix and the naming that it has there.

    Args:
        state: tensors by name.
        source: where they come from, for messages.

    Raises:
        InputError: there is no ResNet of a known depth, or there are several. The message names `source`, what the
            tensors look like, and the first of their names.
    """
    if all(WRAPPER.match(name) for name in state):
        state = {WRAPPER.sub("", name, count=1): value for name, value in state.items()}
    prefix = _prefix(state, source)
    own = _backbone_part(state, prefix, source)
    shapes = {name: tuple(value.shape) if isinstance(value, Tensor) else () for name, value in own.items()}
    blocks = _blocks(shapes)
    depth = DEPTH_OF.get((blocks, any(".conv3." in name for name in shapes)))
    other = _other_network(shapes, blocks, depth)
    if other:
        raise InputError(
            f"weights not recognised: {source} is {other}: expected a ResNet-18, -34, -50 or -101, "
            f"found {', '.join(list(state)[:3]) or 'no key'}; name another file"
        )
    width = _width(shapes)
    stem = _stem(shapes, width)
    words = f"ResNet-{depth}{_words(stem, width)}{_origin(state, prefix, stem)}"
    foreign = [name.removeprefix(prefix) for name in state if not _is_backbones(name, prefix)]
    left_out = Counter(name.partition(".")[0] for name in foreign)
    others = ", ".join(f"{count} of {part}" for part, count in left_out.items())
    return Weights(words, f"resnet{depth}_{stem}".removesuffix("_"), width, own, others)


def _prefix(state: Mapping[str, Any], source: str | Path) -> str:
    """Returns what stands before the names of the backbone; empty where there is none, which is refused later.

    Raises:
        InputError: there are several backbones, and nothing says which one is meant.
    """
    found = list(dict.fromkeys(match[1] for name in state if (match := BLOCK.fullmatch(name))))
    if STUDENT in found:
        return STUDENT
    if len(found) > 1:
        names = ", ".join(f"{name}layer1" for name in found)
        raise InputError(
            f"weights not recognised: {source} holds several backbones ({names}): expected one; save that one alone"
        )
    return found[0] if found else ""


def _is_backbones(name: str, prefix: str) -> bool:
    """Whether an entry belongs to the backbone, not to what stands beside or behind it."""
    return name.startswith(prefix) and not name.startswith(prefix + IMAGENET_CLASSIFIER)


def _backbone_part(state: Mapping[str, Any], prefix: str, source: str | Path) -> dict[str, Any]:
    """Returns the backbone's entries by the names of furnace.network.resnet.ResNet.

    Without a prefix, nothing but ImageNet's classifier is left out, so that `fill` refuses what it does not know.
    """
    own: dict[str, Any] = {}
    for name, value in state.items():
        if not _is_backbones(name, prefix):
            continue
        own_name = name.removeprefix(prefix)
        own_name = re.sub(r"^stem\.", "conv1.", re.sub(r"^stem\.7\.", "bn1.", own_name))
        if own_name in own:
            raise InputError(f"weights do not fit: {source}: two entries for {own_name}; name another file")
        own[own_name] = value
    return own


def _blocks(shapes: Shapes) -> tuple[int, ...]:
    """Returns the numbers of blocks in layer1 to layer4."""
    numbers = [re.findall(rf"^layer{stage}\.(\d+)\.", "\n".join(shapes), re.MULTILINE) for stage in (1, 2, 3, 4)]
    return tuple(len(set(stage)) for stage in numbers)


def _width(shapes: Shapes) -> float:
    """Returns the width factor that explains the channel counts of most stages, so that one odd tensor does not decide.

    Among factors that explain equally many, the first counts: layer1's, then layer4's with as few digits as will do.
    """
    counts = [_first_outputs(shapes, rf"layer{stage}\.\d+\.conv1\.weight") for stage in (1, 2, 3, 4)]
    rounded = (round(counts[3] / 512, digits) for digits in range(1, 7))
    factors = [counts[0] / 64, *rounded, counts[3] / 512]
    return max(factors, key=lambda width: _agreements(stage_channels(width), counts))


def _stem(shapes: Shapes, width: float) -> str:
    """Returns a name of V1C_STEMS, or an empty text for the 7x7 stem."""
    if not any(re.match(r"conv1\.\d", name) for name in shapes):
        return ""
    counts = [_first_outputs(shapes, rf"conv1\.{number}\.weight") for number in (0, 3, 6)]
    return max(V1C_STEMS, key=lambda stem: _agreements([scaled(count, width) for count in V1C_STEMS[stem]], counts))


def _first_outputs(shapes: Shapes, pattern: str) -> int:
    """Returns the output channels of the first tensor whose name matches, or 0 if none does."""
    return next((shape[0] for name, shape in shapes.items() if shape and re.fullmatch(pattern, name)), 0)


def _agreements(expected: list[int], found: list[int]) -> int:
    """Returns at how many places two lists hold the same number."""
    return sum(one == other for one, other in zip(expected, found, strict=True))


def _words(stem: str, width: float) -> str:
    """Describes stem and width, to stand behind `ResNet-50`."""
    size = "" if width == 1 else f" of width {width:g}"
    if not stem:
        return f"{size} with a 7x7 stem"
    return f" v1c{size}" + ("" if stem == "v1c" else f" with a stem of {scaled(V1C_STEMS[stem][0], width)} channels")


def _origin(state: Mapping[str, Any], prefix: str, stem: str) -> str:
    """Describes where the weights come from, to stand behind `_words`."""
    if prefix == STUDENT:
        return ", student 1 of a snapshot"
    if any(name.startswith(OWN_HEAD) for name in state):
        return ", one network of a run"
    if any(name.startswith(f"{prefix}stem.") for name in state):
        return " in OpenMMLab's naming"
    return " in the published naming" if stem else " in torchvision's naming"


def _other_network(shapes: Shapes, blocks: tuple[int, ...], depth: int | None) -> str | None:
    """Says what the weights are if they are not those of a ResNet of a known depth; None if they are."""
    if {"digests", "optimizers"} <= shapes.keys():
        return "this program's resume.pth (the networks lie beside it in snapshot)"
    if {"state", "param_groups"} <= shapes.keys():
        return "an optimizer's state"
    if not any(blocks):
        attention = any(re.search(r"\battn\b|attention", name) for name in shapes)
        return "a transformer" if attention else "no ResNet"
    if not _first_outputs(shapes, r"layer\d\.\d+\.conv1\.weight"):
        return "a ResNet's names without its convolutions"
    if _every(shapes, "conv2", lambda outputs, inputs: inputs < outputs):
        return "a ResNeXt (grouped convolutions)"
    if _every(shapes, "conv3", lambda outputs, inputs: outputs != 4 * inputs):
        return "a wide ResNet"
    if any(name.endswith("downsample.1.weight") and len(shape) == 4 for name, shape in shapes.items()):
        return "a ResNet-v1d (average pooling in its shortcuts)"
    if blocks == (3, 8, 36, 3):
        return "a ResNet-152"
    return None if depth else f"a ResNet of {', '.join(map(str, blocks))} blocks"


def _every(shapes: Shapes, convolution: str, holds: Callable[[int, int], bool]) -> bool:
    """Says whether the blocks have a convolution so named, and `holds(outputs, inputs)` is true for every one.

    `inputs` is the second side of the kernel's shape: the input channels of one group.
    """
    pattern = re.compile(rf"layer\d\.\d+\.{convolution}\.weight")
    found = [shape for name, shape in shapes.items() if len(shape) == 4 and pattern.fullmatch(name)]
    return bool(found) and all(holds(outputs, inputs) for outputs, inputs, *_ in found)
