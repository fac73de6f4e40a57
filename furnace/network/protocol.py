"""What this program asks of a network, and of the function in an experiment's network.py that builds it.

Whatever fulfils this can be trained, evaluated and exported; docs/own_network.md has an example.
"""

import inspect
from typing import Any, Protocol

from torch import Tensor, nn


class SegmentationNetwork(Protocol):
    """A network of a student or a teacher: an `nn.Module` that gives logits as large as the images.

    It needs nothing but this. Two things are understood where they are there:

    - A submodule called `backbone` takes the weights of `pretrained_model`, the learning rate times
      `backbone_rate_factor`, and what `backbone_norm` says of its norms.
    - An attribute `multiple`, an int, says that the sides of images must be multiples of it.
    """

    def __call__(self, image: Tensor) -> Tensor:
        """Maps normalised images (B, 3, H, W) to logits (B, N, H, W), of B images and N classes."""
        ...


class BuildNetwork(Protocol):
    """`build_network` in network.py: it returns a network with random weights.

    It is called by the names of its arguments, and takes those of the following that it wants:

    - `num_classes`: N, an int.
    - `decoder`, `backbone`, `width`, `atrous_rates`: the settings; student 2 has those that end in `_2` where they are
      set. `atrous_rates` is None where the decoder's own are meant.
    - `image_size`: the side of the square crops in pixels, which are all that a network sees.
    """

    def __call__(self, **arguments: Any) -> nn.Module:
        """Returns a network."""
        ...


ARGUMENTS = ("num_classes", "decoder", "backbone", "width", "atrous_rates", "image_size")


def takes(build_network: BuildNetwork, name: str) -> bool:
    """Whether a build_network has an argument of this name, which is one of ARGUMENTS."""
    if not callable(build_network):  # that it is none is said when it is called
        return False
    parameters = inspect.signature(build_network).parameters
    return name in parameters or any(each.kind is each.VAR_KEYWORD for each in parameters.values())


def unknown_arguments(build_network: BuildNetwork) -> list[str]:
    """Returns the arguments that a build_network cannot do without, and that are none of ARGUMENTS."""
    if not callable(build_network):
        return []
    return [
        each.name
        for each in inspect.signature(build_network).parameters.values()
        if each.default is each.empty and each.kind not in (each.VAR_POSITIONAL, each.VAR_KEYWORD)
        if each.name not in ARGUMENTS
    ]
