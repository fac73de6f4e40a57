"""Reads a classes file, which gives the names of one's own classes and what stands for them in masks.

Labelling programs and public data sets write such files in several forms, each of which becomes the same rows here.
"""

import csv
import json
import re
from collections.abc import Iterable, Sequence
from io import StringIO
from pathlib import Path
from typing import Any, NamedTuple, TypeVar

from furnace.data.datasets import MOST_CLASSES, Colour, voc_palette
from furnace.errors import InputError
from furnace.labels import IGNORE
from furnace.prepare.masks import MaskCode
from furnace.prepare.sources import File

IGNORED = ("ignored", "__ignore__")  # pixels of these names, in any case, belong to no class; the second is labelme's
COLOUR = ("red", "green", "blue")
COLUMNS = ("name", "value", *COLOUR)
ALIASES = {  # of columns, where there are several
    **dict.fromkeys(("class", "class name", "class_name", "label", "title"), "name"),
    **dict.fromkeys(("pixel value", "pixel_value", "index", "id"), "value"),
    **{"r": "red", "g": "green", "b": "blue"},
}
OTHER_FORM = re.compile(r"[{}<>\[\]]|:$|^- |^//|^(['\"]).*\1$")  # as in YAML, XML, .pbtxt, Python
BEHIND = re.compile(r"(.*?[^\s\d:=])\s*([\s:=])\s*\d+")  # a value behind its name
CVAT = re.compile(r"([^:]+):(\d+),(\d+),(\d+):[^:]*:[^:]*")  # label:color_rgb:parts:actions
MOST_VALUE = 65535  # the largest that a mask with 16 bits holds
# Where a classes file is looked for, if none is named: at the top of the source, or up to two folders below it.
FILE_NAMES = (
    *("classes.csv", "classes.txt", "class_dict.csv", "labelmap.txt", "class_names.txt", "labels.txt", "_classes.csv"),
    *("obj_class_to_machine_color.json", "meta.json"),
)
NAMES = "names in their order"
Row = dict[str, str]
Key = TypeVar("Key", int, Colour)


class Classes(NamedTuple):
    """What a classes file says.

    Attributes:
        palette: the colour of each class in pictures.
        code: what the values and colours of masks stand for.
        meaning: what the file was taken for, in words.
        only_names: whether the order of the names is all that is known, and nothing says what 255 means.
    """

    names: tuple[str, ...]
    palette: tuple[Colour, ...]
    code: MaskCode
    meaning: str
    only_names: bool


def read_classes(file: Path | File | tuple[str, ...], ignored: tuple[int, ...] | None) -> Classes:
    """Reads a classes file, which has one name on each line, or is a table, or what another program writes.

    The first line of a table names its columns, in any order. `name` is the name of the class. `value` is the value of
    its pixels in masks; without this column, the lines are numbered from 0. `red`, `green` and `blue` are the colour of
    the class in pictures, and in masks that are RGB images. Lines with the same name describe the same class, and
    the names `ignored` and `__ignore__`, in any case, are no class. Lines that begin with `#` are comments.

    Args:
        file: the file, or the names themselves.
        ignored: values of masks that are no class; None for 255, unless the file gives it to a class.

    Raises:
        InputError: the file is missing, is in no known form, gives one value or colour two meanings, or gives a value
            to a class that shall be ignored.
    """
    rows, form = _rows(file)
    what = str(file) if isinstance(file, Path | File) else "--classes"
    names = tuple(dict.fromkeys(row["name"] for row in rows if row["name"].lower() not in IGNORED))
    if not 1 <= len(names) <= MOST_CLASSES:
        raise _not_understood(what, f"1 to {MOST_CLASSES} classes", str(len(names)), "write one a line")
    index_of = {name: index for index, name in enumerate(names)}
    has_values, has_colours = any("value" in row for row in rows), any("red" in row for row in rows)
    values: dict[int, int] = {}
    colours: dict[Colour, int] = {}
    palette = list(voc_palette(len(names)))
    for number, row in enumerate(rows):
        index = index_of.get(row["name"], IGNORE)
        _enter(values, _whole(row["value"], MOST_VALUE, what) if has_values else number, index, what)
        if has_colours:
            red, green, blue = (_whole(row[part], 255, what) for part in COLOUR)
            colour = (red, green, blue)
            if index != IGNORE and index not in colours.values():
                palette[index] = colour
            _enter(colours, colour, index, what)
    for value in ignored or ():
        if values.get(value, IGNORE) != IGNORE:
            raise InputError(
                f"--ignore {value}: expected a value of no class, but {what} gives it to {names[values[value]]!r}; "
                "leave it out, or call it `ignored` there"
            )
    known = {**dict.fromkeys((IGNORE,) if ignored is None else ignored, IGNORE), **values}
    by = ", by value" if has_values else ", by colour" if has_colours else ", from 0"
    return Classes(
        names,
        tuple(palette),
        MaskCode(known, colours, has_colours and not has_values),
        f"{len(names)} classes of {what} ({form}{by}): {', '.join(names[:5])}{', ...' if len(names) > 5 else ''}",
        form == NAMES,
    )


def _enter(table: dict[Key, int], key: Key, index: int, what: str) -> None:
    """Adds what `key` stands for; raises InputError if it stands for something else already."""
    if table.setdefault(key, index) != index:
        raise _not_understood(what, "one class for each value and colour", f"two for {key}", "mend one of the lines")


def _rows(file: Path | File | tuple[str, ...]) -> tuple[list[Row], str]:
    """Returns one row for each line of the file that says something, and the name of the file's form."""
    if not isinstance(file, Path | File):
        return _listed([[name] for name in file], "--classes"), NAMES
    text = _text(file)
    if text.lstrip()[:1] in ("{", "["):
        return _json_rows(text, str(file))
    lines = [line for part in re.split(r"[\r\n]+", text) if (line := part.strip()) and not line.startswith("#")]
    if lines and all(matches := [CVAT.fullmatch(line) for line in lines]):
        return [dict(zip(("name", *COLOUR), match.groups(), strict=True)) for match in matches if match], "CVAT's"
    separator = next((sign for sign in ";\t" if lines and sign in lines[0]), ",")
    try:
        cells = [
            [cell.strip() for cell in line] for line in csv.reader(StringIO("\n".join(lines)), delimiter=separator)
        ]
    except csv.Error as error:
        raise InputError(f"classes file not readable: {file}: {error}; name a UTF-8 text file") from None
    cells = [line for line in cells if any(line)]
    header = [cell.lower() for cell in cells[0]] if cells else []
    if len(header) > 1:
        header = [ALIASES.get(cell, cell) for cell in header]
    if "name" in header:
        return _table(header, cells[1:], separator, str(file)), "a table"
    names = [line for line in cells if [cell.lower() for cell in line] != ["__ignore__"]]
    return _listed(names, str(file)), NAMES if len(names) == len(cells) else "labelme's, where 255 is __ignore__"


def _text(file: Path | File) -> str:
    try:
        content = file.read() if isinstance(file, File) else file.read_bytes()
        return content.decode("utf-8-sig")
    except (OSError, UnicodeDecodeError) as error:
        reason = getattr(error, "strerror", None) or error
        raise InputError(
            f"classes file not readable: {file}: {reason}; name a UTF-8 text file, or the classes: ground,plant"
        ) from None


def _table(header: list[str], lines: list[list[str]], separator: str, what: str) -> list[Row]:
    if unknown := [column for column in header if column not in COLUMNS]:
        raise _no_form(what, f"the column {unknown[0]!r}", "take it out")
    if twice := [column for column in header if header.count(column) > 1]:
        problem = f"{twice[0]!r} twice"
    elif sum(part in header for part in COLOUR) not in (0, 3):
        problem = "not all three of red, green, blue"
    elif odd := [line for line in lines if len(line) != len(header) or not _is_name(line[header.index("name")])]:
        problem = f"the line {separator.join(odd[0])[:60]!r}"
    else:
        return [dict(zip(header, line, strict=True)) for line in lines]
    raise _no_form(what, problem)


def _listed(lines: Sequence[list[str]], what: str) -> list[Row]:
    """Returns the rows of a list of names; labelme's `__ignore__` is none of them, and takes no number."""
    if odd := [line for line in lines if len(line) != 1 or not _is_name(line[0])]:
        raise _no_form(what, f"the line {','.join(odd[0])[:60]!r}")
    if marks := [line[0] for line in lines if OTHER_FORM.search(line[0])]:
        raise _no_form(what, f"the line {marks[0][:60]!r}")
    numbers = [int(match[1]) for line in lines if (match := re.match(r"(\d+)(?:\s*[:=.)]\s*|\s+)\S", line[0]))]
    if len(numbers) == len(lines) > 1 and numbers == list(range(numbers[0], numbers[0] + len(numbers))):
        raise _no_form(what, f"numbers before the names, as in {lines[0][0][:60]!r}")
    behind = [match for line in lines[-2:] if (match := BEHIND.fullmatch(line[0]))]  # the first may be a header
    if len(behind) == 2 and (behind[0][1] != behind[1][1] or any(match[2] in ":=" for match in behind)):
        raise _no_form(what, f"numbers behind the names, as in {behind[1][0][:60]!r}")
    return [{"name": line[0]} for line in lines]


def _json_rows(text: str, what: str) -> tuple[list[Row], str]:
    """Returns the rows of a list of names, of names with values or colours, or of Supervisely's classes."""
    try:
        content: Any = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise InputError(f"classes file not readable: {what}: {error}; mend it") from None
    if _is_list(content, str):
        return _listed([[name] for name in content], what), NAMES
    entries: list[tuple[Any, Any]] = []
    form = "values or colours in JSON"
    if isinstance(content, dict) and _is_list(content.get("classes"), dict):
        entries = [(entry.get("title"), _hexadecimal(entry.get("color"))) for entry in content["classes"]]
        form = "Supervisely's"
    elif isinstance(content, dict) and content and all(key.isdecimal() for key in content):
        entries, form = [(name, int(key)) for key, name in content.items()], "names by values in JSON"
    elif isinstance(content, dict):
        entries = list(content.items())
    rows = [row for name, mark in entries if (row := _json_row(name, mark))]
    if len(rows) < len(entries) or not rows or len({len(row) for row in rows}) > 1:
        raise _no_form(what, "other JSON")
    if "red" in rows[0]:  # as Supervisely writes them, which leaves out what is around everything
        if not any(row["red"] == row["green"] == row["blue"] == "0" for row in rows):
            rows = [{"name": "background", **dict.fromkeys(COLOUR, "0")}, *rows]
        if all(row["red"] == row["green"] == row["blue"] for row in rows):
            rows = [{**row, "value": row["red"]} for row in rows]
    return rows, form


def _json_row(name: Any, mark: Any) -> Row | None:
    """Returns the row of a class with a value or a colour; None if these are none."""
    if not isinstance(name, str) or not _is_name(name):
        return None
    if type(mark) is int:
        return {"name": name, "value": str(mark)}
    is_colour = _is_list(mark, int) and len(mark) == len(COLOUR)
    return {"name": name, **dict(zip(COLOUR, map(str, mark), strict=True))} if is_colour else None


def _hexadecimal(colour: Any) -> list[int]:
    return list(bytes.fromhex(colour[1:7])) if re.fullmatch("#[0-9a-fA-F]{6,8}", str(colour)) else []


def _is_list(content: Any, kind: type) -> bool:
    return isinstance(content, list) and bool(content) and all(type(entry) is kind for entry in content)


def _is_name(text: str) -> bool:
    return bool(text) and all(ord(sign) >= ord(" ") for sign in text)


def _whole(text: str, most: int, what: str) -> int:
    if not (text.isascii() and text.isdecimal() and len(text) <= len(str(most)) and int(text) <= most):
        raise _not_understood(what, f"a whole number from 0 to {most}", repr(text[:20]), "mend it")
    return int(text)


def _no_form(what: str, found: str, remedy: str = "mend it") -> InputError:
    expected = (
        f"one name a line, a table whose first line is {','.join(COLUMNS)} (or some of these), or the file of "
        "labelme, CVAT, Roboflow, Supervisely"
    )
    return _not_understood(what, expected, found, remedy)


def _not_understood(what: str, expected: str, found: str, remedy: str) -> InputError:
    return InputError(f"classes file not understood: {what}: expected {expected}, found {found}; {remedy}")


def find_classes(names: Iterable[str]) -> str | None:
    """Returns the file among `names` that looks most like a classes file; None if there is none."""
    known = {name: FILE_NAMES.index(base) for name in names if (base := name.rsplit("/", 1)[-1]) in FILE_NAMES}
    return min(known, key=lambda name: (name.count("/"), known[name], name), default=None)
