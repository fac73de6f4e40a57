"""Weights of encoders that are not this program's own, in the naming of the encoder itself or of its authors.

timm splits some encoders where their features are asked for: it joins the first two parts of a name, and wrappers add
`model.` in front. A tensor that an encoder's file calls `stages.0.norm.weight` may then be `model.stages_0.norm.weight`
in the network. Both count as the same name here, which is the one in the file.
"""

import re
import sys
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from torch import Tensor, nn

from furnace.errors import InputError
from furnace.network.fit import without_values
from furnace.network.hub import hub_file
from furnace.network.library import TIMM
from furnace.network.recognize import STUDENT
from furnace.network.tensors import COUNTER, name_some, require_fit
from furnace.network.weight_files import HUB, TORCHVISION, tensors_in, weights_path

# What stands in a name for the modules that timm and the library put around an encoder.
WRAPPERS = r"(model\.(body\.)?)+"


def unwrapped(name: str) -> str:
    """Returns a tensor's name without those of wrappers, and with the newer names of DenseNet's layers."""
    name = re.sub(f"^{WRAPPERS}", "", name)
    return re.sub(r"(\bdenselayer\d+\.(?:norm|conv))\.(?=\d)", r"\1", name)  # the older ones are like `norm.1`


@dataclass(frozen=True)
class Found:
    """An encoder's weights.

    Attributes:
        path: the file that holds them.
        state: tensors by the names of the encoder's state.
        left_out: what else was there and is of no use here, such as `2 of classifier`; empty if there was nothing.
    """

    path: Path
    state: dict[str, Tensor]
    left_out: str


class Encoder:
    """An encoder that is to be filled.

    Args:
        module: the encoder itself; its tensors need no values where it is only looked at.
        name: its name in segmentation_models_pytorch, or whatever a user's own backbone is called.
    """

    def __init__(self, module: nn.Module, name: str) -> None:
        self.module, self.name = module, name
        self.expected = {self.plain(full): tensor for full, tensor in module.state_dict().items()}

    def plain(self, name: str) -> str:
        """Returns the name that a tensor has in the encoder's own file: `stages.0.w` for `model.stages_0.w`."""
        name = unwrapped(name)
        return name if name in self._whole else self._joined.get(name, name)

    def fill(self, pretrained: str) -> str:
        """Copies the weights of a source into the encoder, and returns their description for users.

        Raises:
            InputError: the file is missing or damaged, or its weights do not fit; the message names the key.
        """
        found = self.weights(pretrained)
        # Some encoders of segmentation_models_pytorch have a `load_state_dict` of their own, which takes no `strict`
        # and renames tensors that have their final names here. Only counters can be missing.
        nn.Module.load_state_dict(self.module, found.state, strict=False)
        source = f"{pretrained} ({found.path.name})" if pretrained.startswith((TORCHVISION, HUB)) else found.path.name
        return f"{source}: {self.name}" + f"; left out: {found.left_out}" * bool(found.left_out)

    def weights(self, pretrained: str, lazily: bool = True) -> Found:
        """Returns the weights of a source, by the names of the encoder's state.

        Args:
            pretrained: a source of weights, but not "none".
            lazily: whether tensors are read only when they are used, without a look at their checksums.

        Raises:
            InputError: the file is missing or damaged, or its weights do not fit; the message names the key.
        """
        path = hub_file(self.name) if pretrained == HUB else weights_path(pretrained)
        tensors, beside = tensors_in(path, lazily)
        prefix = self._prefix(tensors, path)
        own = {
            self.plain(name.removeprefix(prefix)): value for name, value in tensors.items() if name.startswith(prefix)
        }
        if any(name not in own and not name.endswith(COUNTER) for name in self.expected):
            own = self._renamed(own)
        state = {name: value for name, value in own.items() if name in self.expected or self._is_unknown(name)}
        require_fit(self.expected, state, path)
        foreign = [name for name in tensors if not name.startswith(prefix)] + [
            name for name in own if name not in state
        ]
        counts = Counter(name.partition(".")[0] for name in foreign)
        left_out = [f"{count} of {part}" for part, count in counts.items()] + beside
        by_own_name = {full: state[name] for full in self.module.state_dict() if (name := self.plain(full)) in state}
        return Found(path, by_own_name, ", ".join(left_out))

    def _prefix(self, tensors: Mapping[str, Any], path: Path) -> str:
        """Returns what stands before the encoder's names in a file, such as `module.`; the most frequent one."""
        found: Counter[str] = Counter()
        for name in tensors:
            starts = [0, *(place.end() for place in re.finditer(r"\.", name))]
            prefixes = (name[:start] for start in starts if self.plain(name[start:]) in self.expected)
            found.update({re.sub(f"{WRAPPERS}$", "", prefix) for prefix in prefixes})  # `plain` takes wrappers away
        most = [prefix for prefix, count in found.items() if count == max(found.values())]
        if STUDENT in most:
            return STUDENT
        if len(most) > 1 and 2 * found[most[0]] < len(self.expected):
            return ""  # a few names in common are no encoder: what is missing says more
        if len(most) > 1:
            several = name_some([", ".join(most[:2]), *most[2:]])
            raise InputError(
                f"weights not recognised: {path} holds several encoders ({several}): expected one; save that one alone"
            )
        return most[0] if most else ""

    def _is_unknown(self, name: str) -> bool:
        """Whether a name stands for a part that such an encoder has, but within it for something that it has not."""
        return name not in self._whole and name.partition(".")[0] in {known.partition(".")[0] for known in self._whole}

    @cached_property
    def _whole(self) -> set[str]:
        """The names in the state of the whole encoder, of which a decoder may use the first stages alone."""
        return {unwrapped(name) for name in (self._original or self.module).state_dict()}

    @cached_property
    def _joined(self) -> dict[str, str]:
        """The names in the state of the whole encoder by those that they have once timm has split it."""
        return {name.replace(".", "_", 1): name for name in self._whole}

    @cached_property
    def _original(self) -> nn.Module | None:
        """The model of timm that the encoder is made of, with its classifier; None for other encoders."""
        if not self.name.startswith(TIMM):
            return None
        import timm

        if not timm.is_model(self.name.removeprefix(TIMM)):  # a user's own backbone may be called anything
            return None
        return without_values(lambda: timm.create_model(self.name.removeprefix(TIMM)))

    def _renamed(self, own: dict[str, Any]) -> dict[str, Any]:
        """Returns the tensors by timm's names if they have those that the encoder's authors gave them."""
        if self._original is None:
            return own
        renamed = getattr(sys.modules[type(self._original).__module__], "checkpoint_filter_fn", None)
        try:
            return {self.plain(name): value for name, value in renamed(own, self._original).items()} if renamed else own
        except Exception:  # it is none of those files that timm knows
            return own
