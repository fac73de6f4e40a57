"""`dataset.json`: the file in which a user's own data set declares itself. It lies in the data set's folder.

    {
      "name": "field",
      "classes": ["ground", "plant"],
      "palette": [[0, 0, 0], [0, 160, 0]],
      "ignore_value": 255,
      "lists": {"train": "train.txt", "labeled": "labeled_1-{ratio}.txt", "val": "val.txt"},
      "files": {"image": "images/{name}.jpg", "label": "labels/{name}.png"}
    }

Only `classes` must be given. The other fields have defaults: the name of the folder, the colours of PASCAL VOC, the
ignore value 255, lists that are named as above, and for bare names in lists the files `train/image/{name}.jpg` and
`train/label/{name}.png`, or those below `val`.
"""

import json
from pathlib import Path, PurePosixPath
from typing import Any

from furnace.data.datasets import Dataset, voc_palette
from furnace.engine.files import json_text, write_text
from furnace.errors import InputError
from furnace.labels import IGNORE

FILE_NAME = "dataset.json"
LISTS = {
    "train": "train.txt",
    "labeled": "labeled_1-{ratio}.txt",
    "unlabeled": "unlabeled_1-{ratio}.txt",
    "extra": "unlabeled.txt",
    "val": "val.txt",
}
FILES = ("image", "label")  # of a bare name
FIELDS = ("name", "classes", "palette", "ignore_value", "lists", "files")


def read_declaration(folder: Path) -> Dataset:
    """Returns the data set that `folder` declares.

    Raises:
        InputError: the file is missing, is not JSON, or its fields are not those of a data set.
    """
    path = folder / FILE_NAME
    try:
        fields = json.loads(path.read_text(encoding="utf-8-sig"))
    except FileNotFoundError:
        raise InputError(
            f"no declaration: {path}: expected the data set's classes; write it, or let "
            "`python -m furnace prepare folder` do so"
        ) from None
    except (OSError, ValueError, RecursionError) as error:
        raise InputError(f"declaration not readable: {path}: {error}; mend it") from None
    return _dataset(fields, folder.name, path)


def write_declaration(dataset: Dataset, folder: Path) -> None:
    """Writes `dataset.json`, from which `read_declaration` reads an equal data set."""
    fields = {
        "name": dataset.name,
        "classes": list(dataset.classes),
        "palette": [list(colour) for colour in dataset.palette],
        "ignore_value": dataset.ignore_value,
        "lists": {role: getattr(dataset, f"{role}_list") for role in LISTS},
        "files": {kind: getattr(dataset, f"name_{kind}") for kind in FILES},
    }
    write_text(folder / FILE_NAME, json_text(fields))


def _dataset(fields: Any, folder: str, path: Path) -> Dataset:
    def expect(valid: bool, expected: str) -> None:
        if not valid:
            raise InputError(f"declaration not understood: {path}: expected {expected}; mend it")

    expect(isinstance(fields, dict), "an object with classes")
    unknown = [name for name in fields if name not in FIELDS]
    expect(not unknown, f"only {', '.join(FIELDS)}, found {', '.join(unknown)}")
    name, classes = fields.get("name", folder), fields.get("classes")
    expect(isinstance(name, str), "name to be text")
    expect(
        isinstance(classes, list) and bool(classes) and all(isinstance(entry, str) and entry for entry in classes),
        "classes to be a list of names",
    )
    expect(
        all(entry == " ".join(entry.split()) for entry in classes),
        "names of classes without spaces around them or line ends in them",
    )
    expect(len(set(classes)) == len(classes), "every class once")
    palette = fields.get("palette") or voc_palette(len(classes))
    expect(_is_palette(palette), "palette to be a list of [red, green, blue], each 0 to 255")
    ignore_value = fields.get("ignore_value", IGNORE)
    expect(type(ignore_value) is int, "ignore_value to be a whole number")
    lists = fields.get("lists", {})
    expect(
        isinstance(lists, dict) and all(role in LISTS and isinstance(value, str) for role, value in lists.items()),
        f"lists to name files for {', '.join(LISTS)}",
    )
    lists = {**LISTS, **lists}
    for role, value in lists.items():
        with_ratio = "{ratio}" in LISTS[role]
        expected = f"the {role} list to be a path below the folder, {'one' if with_ratio else 'no'} {{ratio}} in it"
        expect(_is_path(value, "{ratio}" if with_ratio else ""), f"{expected}, found {value!r}")
    files = fields.get("files", {})
    expect(isinstance(files, dict) and set(files) in (set(), set(FILES)), f"files to name {' and '.join(FILES)}")
    for value in files.values():
        is_path = isinstance(value, str) and _is_path(value.replace("{split}", "train"), "{name}")
        expect(is_path, f"files to be paths below the folder, one {{name}} in each, found {value!r}")
    return Dataset(
        name=name,
        folder=folder,
        classes=tuple(classes),
        palette=tuple(tuple(colour) for colour in palette),
        ignore_value=ignore_value,
        **{f"{role}_list": value for role, value in lists.items()},
        **{f"name_{kind}": value for kind, value in files.items()},
    )


def _is_path(path: str, field: str) -> bool:
    """Returns whether a path leads below a folder, and holds the field, such as `{ratio}`, once and no other."""
    parts = path.split(field) if field else [path]
    has_field = len(parts) == 1 + bool(field) and not any(sign in part for part in parts for sign in "{}")
    return has_field and bool(PurePosixPath(path).name) and not path.startswith("/")


def _is_palette(palette: Any) -> bool:
    return isinstance(palette, list | tuple) and all(
        isinstance(colour, list | tuple)
        and len(colour) == 3
        and all(type(part) is int and 0 <= part <= 255 for part in colour)
        for colour in palette
    )
