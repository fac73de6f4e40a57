"""Turns masks that name their classes by any values or colours into class indices."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

import cv2
import numpy as np

from furnace.data.datasets import Colour
from furnace.data.decoding import decode_mask
from furnace.data.images import values_in, without_channels
from furnace.data.kinds import lossy_hint, png_colour
from furnace.data.remarks import say_once
from furnace.errors import InputError
from furnace.labels import IGNORE

PNG_WITH_ALPHA = (4, 6)  # colour types
MOST_OF_A_MASK = 128  # different values or colours without a meaning; a photograph has more


@dataclass(frozen=True)
class MaskCode:
    """What the values and colours of masks stand for.

    Attributes:
        values: the class index, or 255 for ignored pixels, of each value of a mask with one channel.
        colours: the same of each colour of an RGB mask.
        by_palette: whether a palette image counts as an RGB image. It does where only colours were declared, because
            its indices may then be in any order.
    """

    values: Mapping[int, int]
    colours: Mapping[Colour, int] = field(default_factory=dict)
    by_palette: bool = False

    def indices(self, content: bytes, name: str) -> np.ndarray:
        """Decodes a mask file and returns its class indices and 255 as (H, W) uint8.

        Args:
            content: the bytes of the file.
            name: what an error calls the file.

        Raises:
            InputError: the file is no mask, or it holds a value or colour that stands for nothing.
        """
        mask, hint = decode_mask(np.frombuffer(content, dtype=np.uint8), name, self.by_palette), lossy_hint(content)
        if hint:
            say_once(name, f"labels may be wrong{hint}")
            name += hint
        if mask.ndim == 3 and not self.colours:
            mask = without_channels(mask)
        indices = self._by_colour(mask, name) if mask.ndim == 3 else self.translate(mask, name)
        if png_colour(np.frombuffer(content[:32], dtype=np.uint8)) in PNG_WITH_ALPHA:
            _require_visible(content, mask, name)
        return indices

    def _by_colour(self, mask: np.ndarray, name: str) -> np.ndarray:
        """Does the same for the colours of a mask (H, W, 3) that is decoded already."""
        wide = mask.astype(np.int32)
        packed = wide[..., 0] << 16 | wide[..., 1] << 8 | wide[..., 2]  # (H, W)
        if not self.colours:
            if len(values_in(packed)) > MOST_OF_A_MASK:
                raise _photograph(name)
            raise InputError(
                f"mask is a colour image: {name}: expected one channel, found RGB; give its colours in a classes file "
                "with the columns name,red,green,blue"
            )
        codes = {red << 16 | green << 8 | blue: index for (red, green, blue), index in self.colours.items()}
        return _translated(packed, codes, name, lambda code: f"the colour {code >> 16, code >> 8 & 255, code & 255}")

    def translate(self, mask: np.ndarray, name: str) -> np.ndarray:
        """Does the same for the values of a mask (H, W) of whole numbers that is decoded already."""
        return _translated(mask, self.values, name, lambda value: f"the value {value}")


def _translated(mask: np.ndarray, codes: Mapping[int, int], name: str, describe: Callable[[int], str]) -> np.ndarray:
    """Returns what `codes` gives for each number of a mask (H, W), as uint8; `describe` words a number for an error."""
    present = values_in(mask)
    unknown = [value for value in present if value not in codes]
    if len(unknown) > MOST_OF_A_MASK:
        raise _photograph(name)
    if unknown:
        raise InputError(
            f"mask holds what is no class: {name} has {', '.join(map(describe, unknown[:5]))}; "
            "mend the mask, or give it a line in the classes file (the name `ignored` for no class)"
        )
    if mask.dtype == np.uint8:
        table = np.array([codes.get(value, IGNORE) for value in range(256)], dtype=np.uint8)
        return table[mask]
    targets = np.array([codes[value] for value in present], dtype=np.uint8)
    return targets[np.searchsorted(present, mask)]


def _photograph(name: str) -> InputError:
    return InputError(
        f"mask looks like a photograph: {name}: expected a value or colour for each class, found hundreds; "
        "are --images and --masks swapped? If not, save masks without smooth edges, as PNG"
    )


def _require_visible(content: bytes, mask: np.ndarray, name: str) -> None:
    """Raises InputError if a mask is of one colour, and what is drawn stands in its transparency."""
    decoded = cv2.imdecode(np.frombuffer(content, dtype=np.uint8), cv2.IMREAD_UNCHANGED)
    assert decoded is not None  # as the mask was decoded before
    alpha = decoded[..., -1]  # (H, W)
    if (mask == mask[0, 0]).all() and (alpha != alpha[0, 0]).any():
        raise InputError(
            f"mask is transparent: {name}: expected a value or colour for each class, found one colour, and a drawing "
            "in the alpha channel; export masks without transparency"
        )
