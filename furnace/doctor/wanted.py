"""What the machine is looked at for: how many devices and workers a run asks for, and where it reads and writes."""

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
        pixels: of the labelled crops of one step, by the settings batch_size and image_size.
        is_named: whether an experiment was named, so that its settings are those of the run.
        data: the folder below which data sets and weights lie.
        results: the folders that a run writes to; they may be missing.
    """

    gpus: int | Literal["all"] = "all"
    num_workers: int | Literal["auto"] = "auto"
    pixels: int = 8 * 512**2
    is_named: bool = False
    data: Path = field(default_factory=lambda: REPOSITORY / "DATA")
    results: tuple[Path, ...] = field(default_factory=lambda: (REPOSITORY,))


def wanted_by(settings: "Settings") -> Wanted:
    """Returns what is wanted by settings: those of an experiment, or the defaults with what was set by hand."""
    from furnace.config.completion import CompleteSettings

    pixels = settings.batch_size * settings.image_size**2
    if not isinstance(settings, CompleteSettings):
        return Wanted(settings.NGPUS, settings.num_workers, pixels)
    results = tuple(dict.fromkeys((settings.OUTPUT_PATH, settings.snapshot_dir)))
    return Wanted(settings.NGPUS, settings.num_workers, pixels, True, settings.volna / "DATA", results)


def existing(path: Path) -> Path:
    """Returns the path itself, or the nearest folder above it that is there."""
    return next((place for place in (path, *path.parents) if place.exists()), Path("/"))
