"""An experiment folder and the environment become one checked description of a run.

The folder's `config.py` holds `config`, an EasyDict: `dataset` (a furnace.data.datasets.Dataset, or the name of a
folder below DATA that declares itself), `epochs` (pairs of labeled_ratio and epochs) and defaults of
furnace.config.settings.Settings. Its `network.py` holds `build_network(backbone, num_classes, width)`.
"""

import dataclasses
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from torch import nn

from furnace.config.completion import CompleteSettings, absolute, complete
from furnace.config.modules import MEND, Code
from furnace.config.record import last_start, plain, read_record
from furnace.config.settings import RESULT_FIELDS, Settings, read_settings
from furnace.data.datasets import Dataset
from furnace.data.declaration import FILE_NAME as DECLARATION
from furnace.data.declaration import read_declaration
from furnace.data.entries import Split
from furnace.data.file_list import FileList
from furnace.engine.backend import memory_failure
from furnace.errors import InputError
from furnace.semi.cross_supervision import METHODS, Method

PARTS = ("backbone", "head", "classifier")  # what a network is made of: weights and rates are given by these names
NETWORK_FIELDS = ("backbone", "width", "image_size")  # an evaluation takes these from its run


@dataclass(frozen=True)
class Experiment:
    """Everything that is known before a device is touched; all paths are absolute."""

    folder: Path
    dataset: Dataset
    settings: CompleteSettings
    method: Method
    code: Code
    build_network: Callable[[str, int, float], nn.Module]
    explicit: frozenset[str]  # the settings that the environment gave
    _splits: dict[str, Split] = field(default_factory=dict, init=False, repr=False, compare=False)

    @property
    def epochs(self) -> int:
        """How many epochs a run trains; furnace.config.checks makes sure that the number is known."""
        assert self.settings.nepochs is not None
        return self.settings.nepochs

    @property
    def scores_meanwhile(self) -> bool:
        """Whether training scores its networks before it is over."""
        return 0 < self.settings.validate_epochs <= self.epochs

    @property
    def needs_validation_images(self) -> bool:
        """Whether training, or the evaluation after it, needs the images of the `val` list."""
        return self.settings.eval_epochs != "none" or self.scores_meanwhile

    @property
    def log_table(self) -> Path:
        """The table of scores, which all runs of this folder share."""
        return self.folder / "log_df.csv"

    def network(self) -> nn.Module:
        """Returns a new network with random weights.

        Raises:
            InputError: the experiment's network.py fails, or builds what cannot be trained.
        """
        self.code.use()
        try:
            network = self.build_network(self.settings.backbone, self.dataset.num_classes, self.settings.width)
        except Exception as error:  # whatever a user's file raises
            if isinstance(error, InputError) or memory_failure(error) is not None:
                raise
            raise InputError(
                f"{self.folder / 'network.py'}: build_network: {type(error).__name__}: {error}; {MEND}"
            ) from error
        if missing := [part for part in PARTS if not isinstance(getattr(network, part, None), nn.Module)]:
            raise InputError(
                f"{self.folder / 'network.py'}: expected a network of {', '.join(PARTS)}, found a "
                f"{type(network).__name__} without {missing[0]}; {MEND}"
            )
        return network

    def split(self, which: str) -> Split:
        """Returns the `labeled`, `unlabeled` or `val` list with the files that it names.

        Each list is opened only once, so that a run uses what was checked, even if the list is changed meanwhile.
        """
        if which not in self._splits:
            pattern = getattr(self.dataset, f"{which}_list")
            files = FileList(self.settings.lists_path / pattern.format(ratio=self.settings.labeled_ratio))
            folder = "val" if which == "val" else self.dataset.train_folder
            self._splits[which] = Split(self.dataset, self.settings.dataset_path, files, folder)
        return self._splits[which]

    def code_changes(self, record: Mapping[str, Any]) -> list[str]:
        """Says which files decide results and are not those that the run with this config.json was trained with."""
        return self.code.changes(last_start(record).get("code", {}))

    def note_of_changes(self) -> str:
        """Returns a line for users of a trained run whose network or classes are others now, else an empty text."""
        record = read_record(self.settings.OUTPUT_PATH)
        changed = self.code_changes(record)
        if record.get("classes", list(self.dataset.classes)) != list(self.dataset.classes):
            changed.append("the classes' names have changed")
        return f"note: since this run was trained, {' and '.join(changed)}" if changed else ""

    def result_settings(self) -> dict[str, Any]:
        """Returns the settings that decide the result, as JSON can hold them; a run can only go on with the same."""
        return {name: plain(getattr(self.settings, name)) for name in RESULT_FIELDS}


def read_experiment(folder: str | Path, texts: Mapping[str, str]) -> Experiment:
    """Reads an experiment's `folder` and checks every value.

    Args:
        folder: holds config.py and network.py.
        texts: settings from the environment and from `NAME=VALUE` arguments, which win over those of config.py.

    Raises:
        InputError: the folder is no experiment, a setting is bad, or a folder or weight file is missing.
    """
    folder = Path(folder).resolve()
    if not (folder / "config.py").is_file():
        raise InputError(
            f"no experiment: {folder} holds no config.py; name a folder such as exp.voc/ensemble_teacher+cutmix"
        )
    code = Code(folder)
    named, epochs, defaults = _configuration(folder / "config.py", code.load("config.py", "config"))
    settings = read_settings(defaults, texts)
    dataset_path = _dataset_path(named, settings, folder)
    dataset = _dataset(named, dataset_path)
    settings = complete(settings, dataset_path, epochs, folder)
    method = METHODS[settings.method]
    method = Method(settings.labellers or method.labellers, settings.view or method.view)
    build_network = code.load("network.py", "build_network")
    explicit = frozenset(name for name, value in texts.items() if value != "")
    return Experiment(folder, dataset, settings, method, code, build_network, explicit)


def _configuration(path: Path, config: Any) -> tuple[Dataset | str, dict[int, int], dict[str, Any]]:
    """Returns the data set, the epochs by labeled_ratio, and the defaults that a config.py holds."""
    if not isinstance(config, Mapping):
        raise InputError(f"{path}: expected config to be an EasyDict, found a {type(config).__name__}; mend it")
    defaults = dict(config)
    named, epochs = defaults.pop("dataset", None), defaults.pop("epochs", None)
    if not isinstance(named, Dataset | str) or epochs is None:
        raise InputError(
            f"{path}: expected dataset (a furnace.data.datasets.Dataset, or the name of a folder below "
            "DATA with a dataset.json) and epochs; add them"
        )
    try:
        by_ratio = dict(epochs)
        if not all(type(number) is int and number > 0 for number in (*by_ratio, *by_ratio.values())):
            raise ValueError
    except (TypeError, ValueError):
        raise InputError(
            f"{path}: expected epochs to be pairs of labeled_ratio and a number of epochs, such as ((8, 34), (4, 40)), "
            f"found {epochs!r}; mend it"
        ) from None
    return named, by_ratio, defaults


def for_evaluation(experiment: Experiment) -> Experiment:
    """Returns the experiment with the network that its run was trained with, unless the environment names another."""
    settings = experiment.settings
    trained = read_record(settings.OUTPUT_PATH).get("settings", {})
    known = {name: trained[name] for name in NETWORK_FIELDS if name in trained and name not in experiment.explicit}
    return dataclasses.replace(experiment, settings=dataclasses.replace(settings, **known))


def _dataset_path(named: Dataset | str, settings: Settings, folder: Path) -> Path:
    below, name = (named, named) if isinstance(named, str) else (named.folder, named.name)
    path = absolute(folder, settings.dataset_path or settings.volna / "DATA" / below)
    if not path.is_dir():
        raise InputError(
            f"dataset_path not found: {path}: expected the {name} data set; link it there or set dataset_path"
        )
    return path


def _dataset(named: Dataset | str, path: Path) -> Dataset:
    """Returns the experiment's data set. One that config.py gives by name alone is read from its own declaration."""
    if isinstance(named, str):
        return read_declaration(path)
    if (path / DECLARATION).is_file() and (found := read_declaration(path)).classes != named.classes:
        raise InputError(
            f"dataset_path: {path} declares itself as {found.name} with {found.num_classes} classes, the experiment "
            f"expects {named.name} with {named.num_classes}; take an experiment of its own (docs/own_data.md)"
        )
    return named
