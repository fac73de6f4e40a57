"""What an experiment's config.py says, put together with what stands in the experiments that it builds on.

A config.py may name a `base`, another experiment's folder: its data set, epochs and defaults hold wherever this file
says nothing else. The base may have a base itself.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from furnace.config.completion import absolute
from furnace.config.modules import Code
from furnace.config.readers import folder as read_folder
from furnace.config.readers import weights as read_weights
from furnace.data.datasets import Dataset
from furnace.errors import InputError
from furnace.network.weight_files import HUB, NONE, TORCHVISION

FILE_NAME = "config.py"
OF_A_DATASET = ("epochs", "dataset_path", "lists_path", "OUTPUT_PATH")  # what no base says of another data set
FOLDERS_READ = ("volna", "dataset_path", "lists_path")  # settings that name what a run reads
WEIGHTS_READ = ("pretrained_model", "pretrained_model_2")


@dataclass(frozen=True)
class Recipe:
    """A data set, the number of epochs and the defaults of settings, as an experiment's files give them."""

    dataset: Dataset | str  # a text is the name of a folder below DATA that declares itself
    epochs: dict[int, int]  # by labeled_ratio
    defaults: dict[str, Any]
    files: dict[str, Path]  # the config.py in which each of the defaults stands


def read_recipe(code: Code) -> Recipe:
    """Reads the config.py of an experiment and of all that it builds on, whose folders become part of `code`.

    Raises:
        InputError: one of the files fails, is of another form, or names a base that is none.
    """
    values: dict[str, Any] = {}
    files: dict[str, Path] = {}
    place: Path | None = code.folder
    while place:
        path = place / FILE_NAME
        config = code.load_from(place, FILE_NAME, "config")
        if not isinstance(config, Mapping):
            raise InputError(f"{path}: expected config to be an EasyDict, found a {type(config).__name__}; mend it")
        if unnamed := [name for name in config if not isinstance(name, str)]:
            raise InputError(f"{path}: expected config to hold settings by their names, found {unnamed[0]!r}; mend it")
        own = dict(config)
        base = _base(path, own.pop("base", None), code.folders)
        if place != code.folder:
            left_out = OF_A_DATASET if "dataset" in values else ()  # because theirs is another one
            own = {name: _seen_from(place, name, value) for name, value in own.items() if name not in left_out}
        files = dict.fromkeys(own, path) | files
        values = own | values  # what was read before wins
        if base:
            code.build_on(base)
        place = base
    dataset, epochs = values.pop("dataset", None), values.pop("epochs", None)
    if not isinstance(dataset, Dataset | str) or epochs is None:
        raise InputError(
            f"{files.get('dataset', path)}: expected dataset (a furnace.data.datasets.Dataset, or the name of a folder "
            "below DATA with a dataset.json) and epochs, which a base gives for its own data set alone; add them"
        )
    return Recipe(dataset, _by_ratio(files["epochs"], epochs), values, files)


def _base(path: Path, named: Any, before: list[Path]) -> Path | None:
    """Returns the folder that the config.py at `path` names as its base; None if it names none.

    Args:
        before: the folders that led here, each of which builds on the next; the last one is that of `path`.
    """
    if named is None:
        return None
    try:
        folder = absolute(path.parent, read_folder(str(named)))
    except ValueError as error:
        raise InputError(f"{path}: base: expected {error}, found {str(named)!r}; mend it") from None
    if folder in before:
        way = " -> ".join(map(str, [*before[before.index(folder) :], folder]))
        raise InputError(f"{path}: base: expected another experiment, found one that builds on itself: {way}; mend it")
    if not (folder / FILE_NAME).is_file():
        raise InputError(
            f"{path}: base: expected the folder of another experiment, found {str(named)!r}: {folder} holds no "
            f"{FILE_NAME}; mend it"
        )
    return folder


def _seen_from(place: Path, name: str, value: Any) -> Any:
    """Returns a value of a base's config.py, in which a relative path to what a run reads starts at the base's folder.

    What a run writes starts at the folder of the experiment itself, so that its runs stay there.
    """
    if not isinstance(value, str | Path) or not str(value):
        return value
    try:
        if name in FOLDERS_READ:
            return absolute(place, read_folder(str(value)))
        if name in WEIGHTS_READ and _is_relative_file(read_weights(str(value))):
            return absolute(place, Path(value))
    except ValueError:
        pass  # furnace.config.settings says what is wrong with it
    return value


def _is_relative_file(source: str) -> bool:
    return source not in (NONE, HUB) and not source.startswith((TORCHVISION, "/", "{volna}"))


def _by_ratio(path: Path, epochs: Any) -> dict[int, int]:
    try:
        by_ratio = dict(epochs)
        if not all(type(number) is int and number > 0 for number in (*by_ratio, *by_ratio.values())):
            raise ValueError
    except (TypeError, ValueError):
        raise InputError(
            f"{path}: expected epochs to be pairs of labeled_ratio and a number of epochs, such as ((8, 34), (4, 40)), "
            f"found {epochs!r}; mend it"
        ) from None
    return by_ratio
