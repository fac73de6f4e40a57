"""An experiment folder and the environment become one checked description of a run.

The folder's `config.py` holds `config`, an EasyDict: `dataset` (a furnace.data.datasets.Dataset, or the name of a
folder below DATA that declares itself), `epochs` (pairs of labeled_ratio and epochs) and defaults of
furnace.config.settings.Settings. Its `network.py` holds `build_network` (furnace.network.protocol). What a folder
lacks may come from another experiment that its config.py names as its `base` (furnace.config.recipe).
"""

import dataclasses
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from torch import nn

from furnace.config.completion import CompleteSettings, absolute, complete
from furnace.config.modules import MEND, Code
from furnace.config.recipe import read_recipe
from furnace.config.record import (
    changes,
    filled,
    last_start,
    names_of_weights,
    plain,
    read_record,
    trained_classes,
    trained_identity,
    trained_settings,
)
from furnace.config.settings import RESULT_FIELDS, Settings, read_settings
from furnace.data.datasets import Dataset
from furnace.data.declaration import FILE_NAME as DECLARATION
from furnace.data.declaration import read_declaration
from furnace.data.entries import Split
from furnace.data.file_list import FileList
from furnace.data.samples import iterations_per_epoch
from furnace.data.splits import may_be_empty
from furnace.engine.backend import memory_failure
from furnace.errors import InputError
from furnace.network.protocol import ARGUMENTS, BuildNetwork, takes, unknown_arguments
from furnace.semi.cross_supervision import METHODS, Method

# An evaluation takes these from its run.
NETWORK_FIELDS = ("decoder", "backbone", "width", "atrous_rates", "decoder_2", "backbone_2", "image_size")
# What a labeller's labels, and the images that they are for, are made by.
OF_LABELS = ("confidence", "label_temperature", "distribution_alignment", "cutmix_boxes")
OF_CROSS_TERM = (*OF_LABELS, "view", "cps_weight", "cps_ramp", "teacher_norm")
OF_TEACHERS = ("ema_decay",)
# What a data set's declaration decides of what is learned.
DECLARED = ("classes", "ignore_value", "train_folder", "name_image", "name_label", "name_ending")


@dataclass(frozen=True)
class Experiment:
    """Everything that is known before a device is touched; all paths are absolute."""

    folder: Path
    dataset: Dataset
    settings: CompleteSettings
    method: Method
    code: Code
    build_network: BuildNetwork
    explicit: frozenset[str]  # the settings that the environment gave
    open_list: Callable[[Path, bool], FileList] = field(default=FileList, repr=False, compare=False)
    _splits: dict[str, Split] = field(default_factory=dict, init=False, repr=False, compare=False)

    @property
    def epochs(self) -> int:
        """How many epochs a run trains; furnace.config.checks makes sure that the number is known."""
        assert self.settings.nepochs is not None
        return self.settings.nepochs

    @property
    def iterations_per_epoch(self) -> int:
        """The iterations of an epoch; 0 where a batch is larger than both lists."""
        labeled, unlabeled = (len(self.split(which).files) for which in ("labeled", "unlabeled"))
        return iterations_per_epoch(labeled, unlabeled, self.settings.batch_size)

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

    def network(self, number: int = 1) -> nn.Module:
        """Returns a new network with random weights, such as student `number` and its teacher are.

        Raises:
            InputError: the experiment's network.py fails, or builds no network.
        """
        path = self.code.path("network.py")
        self.code.use()
        if unknown := unknown_arguments(self.build_network):
            raise InputError(
                f"{path}: build_network: expected arguments among {', '.join(ARGUMENTS)}, found {', '.join(unknown)}; "
                "name them so, or give them a default"
            )
        try:
            network = self.build_network(**self._arguments(number))
        except Exception as error:  # whatever a user's file raises
            if isinstance(error, InputError) or memory_failure(error) is not None:
                raise
            raise InputError(f"{path}: build_network: {type(error).__name__}: {error}; {MEND}") from error
        if not isinstance(network, nn.Module):
            raise InputError(
                f"{path}: expected build_network to return an nn.Module, found a {type(network).__name__}; {MEND}"
            )
        return network

    def _arguments(self, number: int) -> dict[str, Any]:
        """Returns what build_network takes, by the names of its own arguments."""
        student, settings = self.settings.student(number), self.settings
        own = (student.decoder, student.backbone, student.width)
        values = (self.dataset.num_classes, *own, settings.atrous_rates, settings.image_size)
        return {name: value for name, value in zip(ARGUMENTS, values, strict=True) if takes(self.build_network, name)}

    def split(self, which: str) -> Split:
        """Returns the `labeled`, `unlabeled` or `val` list with the files that it names.

        Each list is opened only once, so that a run uses what was checked, even if the list is changed meanwhile.
        """
        if which not in self._splits:
            pattern = getattr(self.dataset, f"{which}_list")
            ratio = self.settings.labeled_ratio
            path = self.settings.lists_path / pattern.format(ratio=ratio)
            if which != "val" and not path.exists():  # a folder is told as in other lists
                raise InputError(
                    f"list not found: {path}: expected that of labeled_ratio={ratio}; draw it (python -m furnace "
                    f"prepare split {self.settings.dataset_path} --ratio {ratio}), or set labeled_ratio to one that is "
                    "there"
                )
            files = self.open_list(path, may_be_empty(which, ratio))
            folder = "val" if which == "val" else self.dataset.train_folder
            self._splits[which] = Split(self.dataset, self.settings.dataset_path, files, folder)
        return self._splits[which]

    def code_changes(self, record: Mapping[str, Any]) -> list[str]:
        """Says which files decide results and are not those that the run with this config.json was trained with."""
        return self.code.changes(last_start(record).get("code", {}))

    def changes_since(self, record: Mapping[str, Any]) -> list[str]:
        """Says what decides results and is not what the run with this config.json was trained with."""
        trained = trained_identity(record)
        return [*(changes(trained, self.identity()) if trained else []), *self.code_changes(record)]

    def note_of_changes(self) -> str:
        """Returns a line for users of a trained run whose network or classes are others now, else an empty text."""
        record = read_record(self.settings.OUTPUT_PATH)
        changed = self.code_changes(record)
        names = zip(trained_classes(record), self.dataset.classes, strict=False)
        changed += [f"class {before} has become {now}" for before, now in names if before != now]
        return f"note: since this run was trained, {' and '.join(changed)}" if changed else ""

    def idle_settings(self) -> dict[str, str]:
        """Returns the settings that change nothing in this training, and why."""
        settings, labellers = self.settings, self.method.labellers
        never = labellers == "none" or settings.cps_weight == 0 or settings.cps_ramp[0] == 1
        reasons = (
            (never, "without a cross term", OF_LABELS),
            (labellers == "none", "without a cross term", OF_CROSS_TERM),
            (labellers != "teachers", "without teachers", OF_TEACHERS),
            (settings.ohem_threshold is None, "without ohem_threshold", ("ohem_min_kept",)),
            (not self.scores_meanwhile, "without validations", ("validate_images",)),
        )
        return {name: why for holds, why, names in reasons if holds for name in names}

    def result_settings(self) -> dict[str, Any]:
        """Returns the settings that decide the result, as JSON can hold them."""
        idle = self.idle_settings()
        return {name: plain(getattr(self.settings, name)) for name in RESULT_FIELDS if name not in idle}

    def identity(self) -> dict[str, Any]:
        """Returns what decides the result, as JSON can hold it; a run can only go on with the same."""
        return {
            **self.result_settings(),
            **names_of_weights(vars(self.settings)),
            **{name: plain(getattr(self.dataset, name)) for name in DECLARED},
            "labelled list": self.split("labeled").files.sha256(),
            "unlabelled list": self.split("unlabeled").files.sha256(),
        }


def read_experiment(folder: str | Path, texts: Mapping[str, str], with_data: bool = True) -> Experiment:
    """Reads an experiment's `folder` and checks every value.

    Args:
        folder: holds config.py and network.py, or a config.py that names another experiment as its base.
        texts: settings from the environment and from `NAME=VALUE` arguments, which win over those of config.py.
        with_data: whether the data set's folder must be there. A data set of one's own is read from there in any case.

    Raises:
        InputError: the folder is no experiment, a setting is bad, or a folder or weight file is missing.
    """
    folder = absolute(Path.cwd(), Path(folder))
    if not (folder / "config.py").is_file():
        raise InputError(
            f"no experiment: {folder} holds no config.py; name a folder such as exp.voc/ensemble_teacher+cutmix"
        )
    code = Code(folder)
    recipe = read_recipe(code)
    settings = read_settings(recipe.defaults, texts, recipe.files)
    dataset_path = _dataset_path(recipe.dataset, settings, folder)
    if with_data or isinstance(recipe.dataset, str):
        require_data_folder(recipe.dataset, dataset_path)
    dataset = _dataset(recipe.dataset, dataset_path)
    build_network = code.load("network.py", "build_network")
    own_network = not any(takes(build_network, name) for name in ("decoder", "backbone"))
    settings = complete(settings, dataset_path, recipe.epochs, folder, own_network)
    method = METHODS[settings.method]
    method = Method(settings.labellers or method.labellers, settings.view or method.view)
    explicit = frozenset(name for name, value in texts.items() if value != "")
    return Experiment(folder, dataset, settings, method, code, build_network, explicit)


def for_evaluation(experiment: Experiment) -> Experiment:
    """Returns the experiment with the network that its run was trained with, unless the environment names another.

    Raises:
        InputError: the run was trained with more classes or fewer, or some of them stood in another order.
    """
    settings = experiment.settings
    record = read_record(settings.OUTPUT_PATH)
    _require_order(experiment, trained_classes(record))
    settings_then = trained_settings(record)
    trained = filled(settings_then) if settings_then else {}
    known: dict[str, Any] = {
        name: tuple(value) if isinstance(value, list) else value
        for name, value in trained.items()
        if name in NETWORK_FIELDS and name not in experiment.explicit
        if value is not None or name == "atrous_rates"  # of which None means the decoder's own
    }
    return dataclasses.replace(experiment, settings=dataclasses.replace(settings, **known))


def _require_order(experiment: Experiment, before: list[Any]) -> None:
    """Raises InputError if an output of the networks stands for another class now than `before`, not for a new name."""
    now = list(experiment.dataset.classes)
    moved = [name for name in now if name in before and before.index(name) != now.index(name)]
    if before and (moved or len(before) != len(now)):
        (words,) = changes({"classes": before}, {"classes": now})
        raise InputError(
            f"{experiment.settings.OUTPUT_PATH}: expected the classes of the run in their order, found others: "
            f"{words}; put them back, or set dataset_path to the data that it was trained with"
        )


def require_data_folder(named: Dataset | str, path: Path) -> None:
    """Raises InputError if the folder of a data set is not there.

    Args:
        named: the data set, or the name of the user's own one.
        path: the folder.
    """
    if not path.is_dir():
        name = named if isinstance(named, str) else named.name
        raise InputError(
            f"dataset_path not found: {path}: expected the {name} data set; link it there or set dataset_path"
        )


def _dataset_path(named: Dataset | str, settings: Settings, folder: Path) -> Path:
    below = named if isinstance(named, str) else named.folder
    return absolute(folder, settings.dataset_path or settings.volna / "DATA" / below)


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
