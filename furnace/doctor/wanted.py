"""What the machine is looked at for: how many devices and workers a run asks for, and where it reads and writes."""

import tempfile
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Literal

if TYPE_CHECKING:  # the settings import torch, which may be what is broken
    from furnace.config.settings import Settings

REPOSITORY = Path(__file__).resolve().parents[2]


@dataclass(frozen=True)
class Wanted:
    """What is known of the run.

    Without an experiment these are the defaults of its settings, and the folder of the experiments beside the library.

    Attributes:
        gpus: the setting NGPUS.
        num_workers: the setting of this name.
        batch_size: the setting of this name.
        pixels: of the labelled crops of one step, by the settings batch_size and image_size.
        is_named: whether an experiment was named, so that its settings are those of the run. What it reads and writes
            is then looked at by the examination of the experiment.
        needs_torchvision: whether its networks or weights come by way of torchvision.
        data: the folder below which data sets and weights lie, where no experiment is named.
        results: the folder below which runs write then; it may be missing.
    """

    gpus: int | Literal["all"] = "all"
    num_workers: int | Literal["auto"] = "auto"
    batch_size: int = 8
    pixels: int = 8 * 512**2
    is_named: bool = False
    needs_torchvision: bool = False
    data: Path = field(default_factory=lambda: REPOSITORY / "DATA")
    results: Path = field(default_factory=lambda: REPOSITORY)


def wanted_by(settings: "Settings") -> Wanted:
    """Returns what is wanted by settings: those of an experiment, or the defaults with what was set by hand."""
    from furnace.config.completion import CompleteSettings
    from furnace.network.choice import PUBLISHED
    from furnace.network.weight_files import TORCHVISION

    is_named = isinstance(settings, CompleteSettings)
    decoders = (settings.decoder, settings.decoder_2 or settings.decoder)
    weights = (settings.pretrained_model, settings.pretrained_model_2 or "")
    return Wanted(
        settings.NGPUS,
        settings.num_workers,
        settings.batch_size,
        settings.batch_size * settings.image_size**2,
        is_named,
        is_named
        and (any(name != PUBLISHED for name in decoders) or any(name.startswith(TORCHVISION) for name in weights)),
    )


def existing(path: Path) -> Path:
    """Returns the path itself, or the nearest folder above it that is there."""
    return next((place for place in (path, *path.parents) if place.exists()), Path("/"))


def try_to_write(folder: Path) -> None:
    """Writes into a folder, or into the nearest above it that is there; raises OSError if that cannot be done.

    The file has no name, so that nothing is left even if this process is killed.
    """
    with tempfile.TemporaryFile(dir=existing(folder)) as file:
        file.write(b"written")
        file.flush()
