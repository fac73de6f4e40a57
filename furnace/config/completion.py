"""Settings that follow from others: paths, the network that the pretrained weights hold, the number of epochs."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from furnace.config.settings import Settings
from furnace.network.pretrained import TORCHVISION, network_of

DEFAULT_BACKBONE = "resnet50_v1c"
PLACEHOLDERS = ("{labeled_ratio}", "{batch_size}", "{backbone}", "{method}")  # in OUTPUT_PATH
METHOD_SUFFIX = {"supervised": "SUP", "org": "CPS", "ema": "EMA"}


@dataclass(frozen=True, kw_only=True)
class CompleteSettings(Settings):
    """Settings in which what follows from others is filled in, and every path is absolute.

    `nepochs` may still be None: an evaluation does without it, and furnace.config.checks refuses to train without it.
    """

    snapshot_dir: Path
    dataset_path: Path
    lists_path: Path
    backbone: str
    width: float


def complete(settings: Settings, dataset_path: Path, epochs: Mapping[int, int], folder: Path) -> CompleteSettings:
    """Fills in what follows from other settings, and makes paths absolute.

    Args:
        dataset_path: the data set's folder, absolute.
        epochs: the number of epochs for each labeled_ratio, for where nepochs is not set.
        folder: the experiment's folder, which paths are relative to.
    """
    pretrained = settings.pretrained_model.replace("{volna}", str(settings.volna))
    if pretrained != "none" and not pretrained.startswith(TORCHVISION):
        pretrained = str(absolute(folder, Path(pretrained)))
    held_backbone, held_width = network_of(pretrained)
    backbone = settings.backbone or held_backbone or DEFAULT_BACKBONE
    output = str(settings.OUTPUT_PATH)
    values = (settings.labeled_ratio, settings.batch_size, _short(backbone), METHOD_SUFFIX[settings.method])
    for name, value in zip(PLACEHOLDERS, values, strict=True):
        output = output.replace(name, str(value))
    completed = {
        "volna": absolute(folder, settings.volna),
        "OUTPUT_PATH": absolute(folder, Path(output)),
        "snapshot_dir": absolute(folder, settings.snapshot_dir or Path(output)),
        "dataset_path": dataset_path,
        "lists_path": absolute(folder, settings.lists_path) if settings.lists_path else dataset_path,
        "pretrained_model": pretrained,
        "backbone": backbone,
        "width": settings.width or held_width,
        "nepochs": settings.nepochs or epochs.get(settings.labeled_ratio),
    }
    return CompleteSettings(**{**vars(settings), **completed})


def absolute(folder: Path, path: Path) -> Path:
    """Returns the absolute path of one that may be relative to `folder`."""
    return (folder / path).resolve()


def _short(backbone: str) -> str:
    """Shortens resnet50_v1c to `res50`, as published, and resnet50, whose stem is torchvision's, to `res50_7x7`."""
    return backbone.replace("net", "").replace("_v1c", "") + ("" if "_v1c" in backbone else "_7x7")
