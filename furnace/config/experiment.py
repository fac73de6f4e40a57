"""An experiment folder and the environment, read and checked into one description of a run.

`config.py` holds `config`, an EasyDict: `dataset` (a furnace.data.datasets.Dataset, or the name of a folder below DATA
that declares itself), `epochs` (pairs of labeled_ratio and epochs) and defaults of furnace.config.settings.Settings.
`network.py` holds `build_network(backbone, num_classes, width)`.
"""

import dataclasses
import importlib.util
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from torch import nn

from furnace.config.record import plain, read_record
from furnace.config.settings import RESULT_FIELDS, Settings, read_settings
from furnace.data.datasets import Dataset, Split
from furnace.data.declaration import FILE_NAME as DECLARATION
from furnace.data.declaration import read_declaration
from furnace.data.file_list import FileList
from furnace.errors import InputError
from furnace.network.pretrained import TORCHVISION, network_of
from furnace.semi.cross_supervision import METHODS, Method

DEFAULT_BACKBONE = "resnet50_v1c"
NETWORK_FIELDS = ("backbone", "width", "image_size")  # an evaluation takes these from its run
METHOD_SUFFIX = {"supervised": "SUP", "org": "CPS", "ema": "EMA"}


@dataclass(frozen=True)
class Experiment:
    """Everything that is known before a device is touched; all paths are absolute."""

    folder: Path
    dataset: Dataset
    settings: Settings
    method: Method
    build_network: Callable[[str, int, float], nn.Module]
    explicit: frozenset[str]  # the settings that the environment gave
    _splits: dict[str, Split] = field(default_factory=dict, init=False, repr=False, compare=False)

    @property
    def scores_meanwhile(self) -> bool:
        """Whether training scores its networks before it is over."""
        return 0 < self.settings.validate_epochs <= self.settings.nepochs

    @property
    def needs_validation_images(self) -> bool:
        """Whether training, or the evaluation after it, does."""
        return self.settings.eval_epochs != "none" or self.scores_meanwhile

    @property
    def log_table(self) -> Path:
        return self.folder / "log_df.csv"

    def network(self) -> nn.Module:
        """A new network with random weights."""
        return self.build_network(self.settings.backbone, self.dataset.num_classes, self.settings.width)

    def split(self, which: str) -> Split:
        """The `labeled`, `unlabeled` or `val` list, its files resolved; opened once, so what was checked is used."""
        if which not in self._splits:
            pattern = getattr(self.dataset, f"{which}_list")
            files = FileList(self.settings.lists_path / pattern.format(ratio=self.settings.labeled_ratio))
            folder = "val" if which == "val" else self.dataset.train_folder
            self._splits[which] = Split(self.dataset, self.settings.dataset_path, files, folder)
        return self._splits[which]

    def result_settings(self) -> dict[str, Any]:
        """The settings that decide the result, as plain values: a run can only go on with the same."""
        return {name: plain(getattr(self.settings, name)) for name in RESULT_FIELDS}


def read_experiment(folder: str | Path, texts: Mapping[str, str]) -> Experiment:
    """Reads `folder`, lets `texts` (the environment, `NAME=value` arguments) decide, checks every value.

    Raises:
        InputError: the folder is no experiment, a setting is bad, or a folder or weight file is missing.
    """
    folder = Path(folder).resolve()
    if not (folder / "config.py").is_file():
        raise InputError(
            f"no experiment: {folder} holds no config.py; name a folder such as exp.voc/ensemble_teacher+cutmix"
        )
    config = dict(_load(folder / "config.py", "config"))
    if not isinstance(config.get("dataset"), Dataset | str) or "epochs" not in config:
        raise InputError(
            f"{folder / 'config.py'}: expected dataset (a furnace.data.datasets.Dataset, or the name of a folder below "
            "DATA with a dataset.json) and epochs; add them"
        )
    named, epochs = config.pop("dataset"), dict(config.pop("epochs"))
    settings = read_settings(config, texts)
    dataset_path = _dataset_path(named, settings, folder)
    dataset = _dataset(named, dataset_path)
    settings = _complete(settings, dataset_path, epochs, folder)
    method = METHODS[settings.method]
    method = Method(settings.labellers or method.labellers, settings.view or method.view)
    build_network = _load(folder / "network.py", "build_network")
    explicit = frozenset(name for name, value in texts.items() if value != "")
    return Experiment(folder, dataset, settings, method, build_network, explicit)


def for_evaluation(experiment: Experiment) -> Experiment:
    """The experiment with the network its run was trained with, where the environment names no other."""
    settings = experiment.settings
    trained = read_record(settings.OUTPUT_PATH).get("settings", {})
    known = {name: trained[name] for name in NETWORK_FIELDS if name in trained and name not in experiment.explicit}
    return dataclasses.replace(experiment, settings=dataclasses.replace(settings, **known))


def _dataset_path(named: Dataset | str, settings: Settings, folder: Path) -> Path:
    below, name = (named, named) if isinstance(named, str) else (named.folder, named.name)
    path = _absolute(folder, settings.dataset_path or settings.volna / "DATA" / below)
    if not path.is_dir():
        raise InputError(
            f"dataset_path not found: {path}: expected the {name} data set; link it there or set dataset_path"
        )
    return path


def _dataset(named: Dataset | str, path: Path) -> Dataset:
    """The experiment's data set; one that is given by name alone declares itself."""
    if isinstance(named, str):
        return read_declaration(path)
    if (path / DECLARATION).is_file() and (found := read_declaration(path)).classes != named.classes:
        raise InputError(
            f"dataset_path: {path} declares itself as {found.name} with {found.num_classes} classes, the experiment "
            f"expects {named.name} with {named.num_classes}; take an experiment of its own (docs/own_data.md)"
        )
    return named


def _complete(settings: Settings, dataset_path: Path, epochs: Mapping[int, int], folder: Path) -> Settings:
    """Fills what depends on other settings and makes paths absolute."""
    pretrained = settings.pretrained_model.replace("{volna}", str(settings.volna))
    if pretrained != "none" and not pretrained.startswith(TORCHVISION):
        pretrained = str(_absolute(folder, Path(pretrained)))
    held_backbone, held_width = network_of(pretrained)
    backbone = settings.backbone or held_backbone or DEFAULT_BACKBONE
    output = str(settings.OUTPUT_PATH)
    for name, value in {
        "{labeled_ratio}": settings.labeled_ratio,
        "{batch_size}": settings.batch_size,
        "{backbone}": _short(backbone),
        "{method}": METHOD_SUFFIX[settings.method],
    }.items():
        output = output.replace(name, str(value))
    lists_path = _absolute(folder, settings.lists_path) if settings.lists_path else dataset_path
    return dataclasses.replace(
        settings,
        volna=_absolute(folder, settings.volna),
        OUTPUT_PATH=_absolute(folder, Path(output)),
        snapshot_dir=_absolute(folder, settings.snapshot_dir or Path(output)),
        dataset_path=dataset_path,
        lists_path=lists_path,
        pretrained_model=pretrained,
        backbone=backbone,
        width=settings.width or held_width,
        nepochs=settings.nepochs or epochs.get(settings.labeled_ratio),
    )


def _short(backbone: str) -> str:
    """`res50` for resnet50_v1c as published, `res50_7x7` for the stem of torchvision's."""
    return backbone.replace("net", "").replace("_v1c", "") + ("" if "_v1c" in backbone else "_7x7")


def _absolute(folder: Path, path: Path) -> Path:
    return (folder / path).resolve()


def _load(path: Path, name: str) -> Any:
    """The object `name` that a Python file defines."""
    if not path.is_file():
        raise InputError(f"no experiment: {path} is missing; expected config.py and network.py side by side")
    spec = importlib.util.spec_from_file_location(f"experiment_{path.stem}", path)
    module = importlib.util.module_from_spec(spec)
    try:
        spec.loader.exec_module(module)
    except Exception as error:  # whatever a user's file raises; debug=1 shows where
        raise InputError(f"{path}: {type(error).__name__}: {error}; mend the file") from error
    if not hasattr(module, name):
        raise InputError(f"{path} defines no {name}; expected one, as in exp.voc/ensemble_teacher+cutmix")
    return getattr(module, name)
