"""What the values, or the colours, of somebody's masks mean."""

import csv
from collections.abc import Mapping
from dataclasses import dataclass, field
from io import StringIO
from pathlib import Path

import numpy as np

from furnace.data.datasets import Colour, voc_palette
from furnace.data.images import decode_mask, values_in, without_channels
from furnace.errors import InputError
from furnace.labels import IGNORE

IGNORED = "ignored"  # the name that stands for no class in a classes file
COLUMNS = ("name", "value", "red", "green", "blue")


@dataclass(frozen=True)
class MaskCode:
    """Class indices, or 255, by the value of a one-channel mask, and by the colour of an RGB one."""

    values: Mapping[int, int]
    colours: Mapping[Colour, int] = field(default_factory=dict)

    def indices(self, content: bytes, name: str) -> np.ndarray:
        """A mask file as (H, W) uint8 of class indices and 255; InputError names a file with any other value."""
        mask = decode_mask(np.frombuffer(content, dtype=np.uint8), name)
        if mask.ndim == 3 and self.colours:
            wide = mask.astype(np.int32)
            packed = wide[..., 0] << 16 | wide[..., 1] << 8 | wide[..., 2]  # (H, W)
            codes = {red << 16 | green << 8 | blue: index for (red, green, blue), index in self.colours.items()}
            return _translated(
                packed, codes, name, lambda code: f"the colour {code >> 16, code >> 8 & 255, code & 255}"
            )
        mask = without_channels(mask)
        if mask.ndim == 3:
            raise InputError(
                f"mask is a colour image: {name}: expected one channel, found RGB; give its colours in a classes file "
                "with the columns name,red,green,blue"
            )
        return self.check(mask, name)

    def check(self, mask: np.ndarray, name: str) -> np.ndarray:
        """The same for a mask (H, W) of whole numbers that is decoded already."""
        return _translated(mask, self.values, name, lambda value: f"the value {value}")


def read_classes(path: Path, ignored: tuple[int, ...]) -> tuple[tuple[str, ...], tuple[Colour, ...], MaskCode]:
    """Names, palette and code of a classes file: one name a line, or a table.

    The table's first line names its columns: `name`; `value`, that of the mask's pixels (without it they count from 0);
    `red,green,blue`, the colour of the class, also in masks that are RGB images. Lines of one name are one class, and
    the name `ignored` is none.

    Args:
        ignored: further values that are ignored, unless a class has them.
    """
    rows = _rows(path)
    names = tuple(dict.fromkeys(row["name"] for row in rows if row["name"] != IGNORED))
    if not names:
        raise InputError(f"classes file is empty: {path}: expected one class a line; fill it")
    index_of = {**{name: index for index, name in enumerate(names)}, IGNORED: IGNORE}
    values, colours, palette = dict.fromkeys(ignored, IGNORE), {}, list(voc_palette(len(names)))
    counted = 0
    for row in rows:
        index = index_of[row["name"]]
        if "value" in row:
            values[_whole(row["value"], 65535, path)] = index
        elif row["name"] != IGNORED:
            values[counted], counted = index, counted + 1
        if all(part in row for part in COLUMNS[2:]):
            colour = tuple(_whole(row[part], 255, path) for part in COLUMNS[2:])
            if index != IGNORE and index not in colours.values():
                palette[index] = colour
            colours[colour] = index
    return names, tuple(palette), MaskCode(values, colours)


def _rows(path: Path) -> list[dict[str, str]]:
    try:
        text = path.read_text(encoding="utf-8-sig")
    except (OSError, UnicodeDecodeError) as error:
        raise InputError(f"classes file not readable: {path}: {error}; name a UTF-8 text file") from None
    lines = [[cell.strip() for cell in line] for line in csv.reader(StringIO(text)) if any(map(str.strip, line))]
    if not lines or "name" not in lines[0]:
        return [{"name": ",".join(line)} for line in lines]
    header = lines[0]
    unknown = [column for column in header if column not in COLUMNS]
    if unknown or any(len(line) != len(header) for line in lines):
        problem = f"the column {unknown[0]!r}" if unknown else "lines of another length than the first"
        raise InputError(f"classes file not understood: {path}: expected columns {', '.join(COLUMNS)}, found {problem}")
    return [dict(zip(header, line, strict=True)) for line in lines[1:]]


def _whole(text: str, most: int, path: Path) -> int:
    if not text.isascii() or not text.isdecimal() or int(text) > most:
        raise InputError(f"classes file not understood: {path}: expected a number from 0 to {most}, found {text!r}")
    return int(text)


def _translated(mask: np.ndarray, codes: Mapping[int, int], name: str, describe) -> np.ndarray:
    present = values_in(mask)
    unknown = [value for value in present if value not in codes]
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
