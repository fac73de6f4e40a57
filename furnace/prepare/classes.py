"""Reads a classes file, which gives the names of one's own classes and what stands for them in masks."""

import csv
from io import StringIO
from pathlib import Path
from typing import TypeVar

from furnace.data.datasets import MOST_CLASSES, Colour, voc_palette
from furnace.errors import InputError
from furnace.labels import IGNORE
from furnace.prepare.masks import MaskCode

IGNORED = "ignored"  # pixels of this name belong to no class
COLOUR = ("red", "green", "blue")
COLUMNS = ("name", "value", *COLOUR)
MOST_VALUE = 65535  # the largest that a mask with 16 bits holds
Key = TypeVar("Key", int, Colour)


def read_classes(path: Path, ignored: tuple[int, ...]) -> tuple[tuple[str, ...], tuple[Colour, ...], MaskCode]:
    """Reads a classes file, which has one name on each line, or is a table.

    The first line of a table names its columns, in any order. `name` is the name of the class. `value` is the value of
    its pixels in masks; without this column, the lines are numbered from 0. `red`, `green` and `blue` are the colour of
    the class in pictures, and in masks that are RGB images. Lines with the same name describe the same class, and
    the name `ignored` is no class.

    Args:
        ignored: further values of masks that are ignored, unless the file gives them to a class.

    Returns:
        The names of the classes, their colours, and what the values and colours of masks stand for.

    Raises:
        InputError: the file is missing, is no such table, or gives one value or colour two meanings.
    """
    rows = _rows(path)
    names = tuple(dict.fromkeys(row["name"] for row in rows if row["name"] != IGNORED))
    if not 1 <= len(names) <= MOST_CLASSES:
        raise InputError(
            f"classes file not understood: {path}: expected 1 to {MOST_CLASSES} classes, found {len(names)}; "
            "write one a line"
        )
    index_of = {**{name: index for index, name in enumerate(names)}, IGNORED: IGNORE}
    has_values, has_colours = "value" in rows[0], "red" in rows[0]
    values: dict[int, int] = {}
    colours: dict[Colour, int] = {}
    palette = list(voc_palette(len(names)))
    for number, row in enumerate(rows):
        index = index_of[row["name"]]
        _enter(values, _whole(row["value"], MOST_VALUE, path) if has_values else number, index, path)
        if has_colours:
            red, green, blue = (_whole(row[part], 255, path) for part in COLOUR)
            colour = (red, green, blue)
            if index != IGNORE and index not in colours.values():
                palette[index] = colour
            _enter(colours, colour, index, path)
    code = MaskCode({**dict.fromkeys(ignored, IGNORE), **values}, colours, has_colours and not has_values)
    return names, tuple(palette), code


def _enter(table: dict[Key, int], key: Key, index: int, path: Path) -> None:
    """Adds what `key` stands for; raises InputError if it stands for something else already."""
    if table.setdefault(key, index) != index:
        raise InputError(
            f"classes file not understood: {path}: expected one class for each value and colour, found two for {key}; "
            "mend one of the lines"
        )


def _rows(path: Path) -> list[dict[str, str]]:
    """Returns the lines of the file that are not blank, each by the names of its columns."""
    try:
        text = path.read_text(encoding="utf-8-sig")
        separator = next((sign for sign in ";\t" if sign in text.partition("\n")[0]), ",")
        cells = [[cell.strip() for cell in line] for line in csv.reader(StringIO(text), delimiter=separator)]
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        reason = getattr(error, "strerror", None) or error
        raise InputError(f"classes file not readable: {path}: {reason}; name a UTF-8 text file") from None
    lines = [line for line in cells if any(line)]
    header = [cell.lower() for cell in lines[0]] if lines else []
    if "name" in header:
        lines = lines[1:]
    else:
        header = ["name"]
    if unknown := [column for column in header if column not in COLUMNS or header.count(column) > 1]:
        problem = f"{unknown[0]!r}" if unknown[0] not in COLUMNS else f"{unknown[0]!r} twice"
    elif sum(part in header for part in COLOUR) not in (0, 3):
        problem = "not all three of red, green, blue"
    elif odd := [line for line in lines if len(line) != len(header) or not _is_name(line[header.index("name")])]:
        problem = f"the line {separator.join(odd[0])[:60]!r}"
    else:
        return [dict(zip(header, line, strict=True)) for line in lines]
    raise InputError(
        f"classes file not understood: {path}: expected one name a line, or a table whose first line is "
        f"{','.join(COLUMNS)} (or some of these), found {problem}; mend it"
    )


def _is_name(text: str) -> bool:
    return bool(text) and all(ord(sign) >= ord(" ") for sign in text)


def _whole(text: str, most: int, path: Path) -> int:
    if not (text.isascii() and text.isdecimal() and len(text) <= len(str(most)) and int(text) <= most):
        raise InputError(
            f"classes file not understood: {path}: expected a whole number from 0 to {most}, found {text[:20]!r}; "
            "mend it"
        )
    return int(text)
