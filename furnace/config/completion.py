"""Settings that follow from others: paths, the network that the pretrained weights hold, the number of epochs."""

import os
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from furnace.config.record import filled
from furnace.config.settings import Settings
from furnace.errors import InputError
from furnace.network.choice import PUBLISHED
from furnace.network.pretrained import network_of
from furnace.network.resnet import BACKBONES
from furnace.network.weight_files import HUB, NONE, TORCHVISION

DEFAULT_BACKBONE = "resnet50_v1c"
OWN = "own"  # the backbone's name where a network.py does not ask for one
PLACEHOLDERS = ("{labeled_ratio}", "{batch_size}", "{backbone}", "{method}")  # in OUTPUT_PATH
METHOD_SUFFIX = {"supervised": "SUP", "org": "CPS", "ema": "EMA"}


@dataclass(frozen=True)
class Student:
    """Which network a student is, and what weights it starts from."""

    decoder: str
    backbone: str
    width: float
    pretrained_model: str

    @property
    def name(self) -> str:
        """The network in one word: the backbone, and before it the decoder where that is not the published one."""
        return self.backbone if self.decoder == PUBLISHED else f"{self.decoder}-{self.backbone}"

    @property
    def short(self) -> str:
        """A shorter word: `res50` for resnet50_v1c, as published, and `res50_7x7` for torchvision's stem."""
        if self.decoder != PUBLISHED:
            return f"{self.decoder}-{self.backbone.removeprefix('tu-').partition('.')[0]}"
        if self.backbone not in BACKBONES:  # what the user of a network.py of their own calls it
            return self.backbone
        stem = "" if "_v1c" in self.backbone else "_7x7"
        return self.backbone.replace("net", "").replace("_v1c", "") + stem


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
    decoder_2: str
    backbone_2: str
    pretrained_model_2: str

    def student(self, number: int) -> Student:
        """Returns what student 1 or 2 is; each teacher is what its student is."""
        if number == 1:
            return Student(self.decoder, self.backbone, self.width, self.pretrained_model)
        return Student(self.decoder_2, self.backbone_2, self.width, self.pretrained_model_2)

    @property
    def students(self) -> tuple[Student, ...]:
        """Both students, or one where they are alike."""
        return tuple(dict.fromkeys(self.student(number) for number in (1, 2)))


def network_name(settings: Mapping[str, Any]) -> str:
    """Returns the networks of a run in one word, from its settings as config.json has them.

    That is the backbone, as log_df.csv has always called it, wherever both students are the published network.
    """
    known = filled(settings)
    students = [
        Student(known[f"decoder{end}"], str(known[f"backbone{end}"]), known["width"] or 1, NONE) for end in ("", "_2")
    ]
    return "+".join(dict.fromkeys(student.name for student in students))


def complete(
    settings: Settings, dataset_path: Path, epochs: Mapping[int, int], folder: Path, own_network: bool = False
) -> CompleteSettings:
    """Fills in what follows from other settings, and makes paths absolute.

    Args:
        dataset_path: the data set's folder, absolute.
        epochs: the number of epochs for each labeled_ratio, for where nepochs is not set.
        folder: the experiment's folder, which paths are relative to.
        own_network: whether network.py asks for neither `decoder` nor `backbone`.
    """
    if own_network:  # then `backbone` is only a name
        settings = replace(settings, decoder=PUBLISHED, decoder_2=None, backbone=settings.backbone or OWN)
    first = _student(settings, _source(settings.pretrained_model, settings.volna, folder))
    second = _second_student(settings, first, folder)
    networks = "+".join(dict.fromkeys((first.short, second.short)))
    output = str(settings.OUTPUT_PATH)
    values = (settings.labeled_ratio, settings.batch_size, networks, METHOD_SUFFIX[settings.method])
    for name, value in zip(PLACEHOLDERS, values, strict=True):
        output = output.replace(name, str(value))
    completed = {
        "volna": absolute(folder, settings.volna),
        "OUTPUT_PATH": absolute(folder, Path(output)),
        "snapshot_dir": absolute(folder, settings.snapshot_dir or Path(output)),
        "dataset_path": dataset_path,
        "lists_path": absolute(folder, settings.lists_path) if settings.lists_path else dataset_path,
        "pretrained_model": first.pretrained_model,
        "backbone": first.backbone,
        "width": first.width,
        "decoder_2": second.decoder,
        "backbone_2": second.backbone,
        "pretrained_model_2": second.pretrained_model,
        "nepochs": settings.nepochs or epochs.get(settings.labeled_ratio),
    }
    return CompleteSettings(**{**vars(settings), **completed})


def _student(settings: Settings, pretrained: str) -> Student:
    """Returns the first student, whose backbone and width follow from its weights where they are not set."""
    held_backbone, held_width = network_of(pretrained)
    if settings.decoder == PUBLISHED:
        backbone = settings.backbone or held_backbone or DEFAULT_BACKBONE
        return Student(PUBLISHED, backbone, settings.width or held_width, pretrained)
    if settings.backbone is None:
        raise _backbone_missing("", settings.decoder)
    return Student(settings.decoder, settings.backbone, settings.width or 1.0, pretrained)


def _second_student(settings: Settings, first: Student, folder: Path) -> Student:
    """Returns the second student, which is what the first is wherever nothing else is set."""
    decoder, backbone, pretrained = settings.decoder_2 or first.decoder, settings.backbone_2, first.pretrained_model
    held_backbone = None
    if settings.pretrained_model_2:
        pretrained = _source(settings.pretrained_model_2, settings.volna, folder)
        held_backbone = network_of(pretrained)[0] if decoder == PUBLISHED else None
    backbone = backbone or held_backbone or (first.backbone if decoder == first.decoder else None)
    if backbone is None:
        raise _backbone_missing("_2", decoder)
    return Student(decoder, backbone, first.width, pretrained)


def _backbone_missing(ending: str, decoder: str) -> InputError:
    example = {PUBLISHED: DEFAULT_BACKBONE, "DPT": "tu-vit_base_patch16_dinov3"}.get(decoder, "resnet50")
    return InputError(
        f"backbone{ending}: expected the name of an encoder for decoder{ending}={decoder}, found none; "
        f"set backbone{ending}, for example to {example}"
    )


def _source(pretrained: str, volna: Path, folder: Path) -> str:
    """Returns a source of weights, in which the path of a file is absolute."""
    pretrained = pretrained.replace("{volna}", str(volna))
    if pretrained in (NONE, HUB) or pretrained.startswith(TORCHVISION):
        return pretrained
    return str(absolute(folder, Path(pretrained)))


def absolute(folder: Path, path: Path) -> Path:
    """Returns the absolute path of one that may be relative to `folder`; links that lead in a circle stay in it."""
    return Path(os.path.realpath(folder / path))  # Path.resolve raises for those before Python 3.13
