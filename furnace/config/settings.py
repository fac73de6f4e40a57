"""Every setting of a run: name, type, default, meaning, and how its text is read.

An experiment's `config.py` replaces defaults, and the environment replaces both. `python -m furnace train --settings`
prints this table.
"""

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from furnace.config.readers import (
    MOST_EPOCHS,
    Epochs,
    Reader,
    choice,
    epochs,
    folder,
    fractions,
    gpus,
    integer,
    none_or,
    number,
    one_name,
    ratio,
    several,
    switch,
    weights,
    word_or,
    zero_or,
)
from furnace.errors import InputError, nearest
from furnace.semi.cross_supervision import METHODS
from furnace.semi.ensemble import PREDICTORS


def _setting(default: Any, read: Reader, meaning: str, changes_result: bool = False) -> Any:
    return field(default=default, metadata={"read": read, "meaning": meaning, "changes_result": changes_result})


@dataclass(frozen=True)
class Settings:
    """All settings as defaults, `config.py` and the environment give them.

    Paths are absolute or relative to the experiment folder. Where None is the default, the value follows from other
    settings (furnace.config.completion); only an `ohem_threshold` of None has a meaning of its own: no OHEM.
    """

    # Where things lie.
    volna: Path = _setting(Path("../../"), folder, "repository root: data is found under volna/DATA")
    OUTPUT_PATH: Path = _setting(Path("output"), folder, "everything a run writes")
    snapshot_dir: Path | None = _setting(None, folder, "snapshots (default: OUTPUT_PATH)")
    dataset_path: Path | None = _setting(None, folder, "the data set's folder (default: volna/DATA/<its own>)")
    lists_path: Path | None = _setting(None, folder, "the lists' folder (default: dataset_path)")
    # What is trained.
    method: str = _setting("ema", choice(*METHODS), "supervised, org (CPS) or ema (Ensemble Teacher)", True)
    labellers: str | None = _setting(
        None, choice("none", "students", "teachers"), "who labels (default: the method's)", True
    )
    view: str | None = _setting(
        None, choice("weak", "strong"), "the students' unlabelled view (default: the method's)", True
    )
    decoder: str = _setting(
        "published", one_name, "published, or an architecture of segmentation_models_pytorch: UPerNet, DPT, ...", True
    )
    backbone: str | None = _setting(
        None, one_name, "resnet50_v1c, ..., or an encoder of that library (default: pretrained_model's)", True
    )
    width: float | None = _setting(
        None, number(0, 4, low_allowed=False), "factor of all channel counts (default: pretrained_model's, or 1)", True
    )
    pretrained_model: str = _setting("none", weights, "a file, torchvision://resnet50, hub, or none", True)
    atrous_rates: tuple[int, ...] | None = _setting(
        None, several(integer(1, 1000), 3), "dilations of ASPP's three convolutions (default: the decoder's)", True
    )
    decoder_2: str | None = _setting(None, one_name, "the second student's (default: the first's)", True)
    backbone_2: str | None = _setting(None, one_name, "the second student's (default: the first's)", True)
    pretrained_model_2: str | None = _setting(None, weights, "the second student's (default: the first's)", True)
    labeled_ratio: int = _setting(8, ratio, "1/N of the images are labelled: 16, 8, 4, 2; 1: all", True)
    image_size: int = _setting(512, integer(16), "side of the square crop, training and evaluation", True)
    train_scales: tuple[float, ...] = _setting(
        (0.5, 0.75, 1.0, 1.5, 1.75, 2.0), several(number(0.05, 16)), "weak view: scales drawn from", True
    )
    # How it is trained.
    batch_size: int = _setting(
        8, integer(2), "labelled images, and unlabelled pairs, per iteration over all processes", True
    )
    nepochs: int | None = _setting(None, integer(1, MOST_EPOCHS), "epochs (default: by labeled_ratio)", True)
    learning_rate: float = _setting(0.0025, number(0), "initial learning rate", True)
    learning_rate_factor: float = _setting(1.0, number(0), "multiplies learning_rate", True)
    warmup_iterations: int = _setting(0, integer(0), "iterations in which the learning rate rises from 0", True)
    backbone_rate_factor: float = _setting(1.0, number(0), "multiplies the backbone's learning rate", True)
    backbone_norm: str = _setting(
        "batch", choice("batch", "frozen"), "the backbone's norms: by the batch, or by pretrained statistics", True
    )
    optimizer: str = _setting("sgd", choice("sgd", "adamw"), "sgd (momentum 0.9) or adamw", True)
    weight_decay: float = _setting(2e-4, number(0), "of weights, not of norms, biases and embeddings", True)
    clip_gradients: float = _setting(0.0, number(0), "largest norm of a student's gradient; 0: none", True)
    cps_weight: float = _setting(1.0, number(0), "weight of the cross term", True)
    cps_ramp: tuple[float, float] = _setting(
        (0.0, 0.0), fractions, "a,b: cps_weight is 0 for the fraction a of training and full from b on", True
    )
    confidence: float = _setting(
        0.0, number(0, 1), "pseudo-labels of a lower probability are not learned from; 0: all are", True
    )
    label_temperature: float = _setting(
        0.0,
        zero_or(number(0.01)),  # logits / 1e-38 would be infinite
        "pseudo-labels are softmax(logits / it), all probabilities; 0: the likeliest class alone",
        True,
    )
    distribution_alignment: float = _setting(
        0.0, number(0, 1), "how far pseudo-labels are held to the classes' shares of the labelled pixels; 0: not", True
    )
    cutmix_boxes: int = _setting(
        3,
        integer(0, 100),
        "rectangles in which a pair of unlabelled images is mixed; 0: the first image as it is",
        True,
    )
    ema_decay: float = _setting(0.999, number(0, 1), "largest decay of the teachers", True)
    teacher_norm: str = _setting(
        "batch",
        choice("batch", "running"),
        "what labels normalises by its batch, or by running statistics (a teacher: averaged)",
        True,
    )
    ohem_threshold: float | None = _setting(
        None, none_or(number(0, 1)), "OHEM in the supervised loss: probability", True
    )
    ohem_min_kept: int = _setting(50000, integer(0), "OHEM: pixels kept at least, for each image of a process", True)
    seed: int = _setting(0, integer(0, 2**63 - 1), "start weights, order and augmentation follow from it", True)
    precision: str = _setting(
        "auto", choice("auto", "fp32", "bf16", "fp16"), "auto: bf16 on a GPU that has it, else fp32", True
    )
    deterministic: bool = _setting(False, switch, "bit-identical repetition on GPUs, slower", True)
    compile: bool = _setting(False, switch, "torch.compile each network with its loss", True)
    channels_last: bool = _setting(True, switch, "memory layout of the convolutions", True)
    # How it runs.
    NGPUS: int | Literal["all"] = _setting("all", gpus, "processes on this machine; 0: one process on the CPU")
    num_workers: int | Literal["auto"] = _setting(
        "auto", word_or("auto", integer(0, 1000)), "data-loading workers per process"
    )
    skip_nonfinite: int = _setting(
        0, integer(0), "steps left out because loss or gradient is not finite; one more ends the run"
    )
    timeout_minutes: float = _setting(
        10.0, number(0, 1e6, low_allowed=False), "how long processes wait for each other before the run ends"
    )
    resume: str = _setting(
        "auto", choice("auto", "never", "force"), "auto: go on where a run stopped; force: also with other settings"
    )
    snapshot_iter: int = _setting(1, integer(1), "epochs between snapshots")
    snapshot_minutes: float = _setting(30.0, number(0), "minutes between saves within an epoch, to go on from; 0: none")
    keep_snapshots: int | Literal["all"] = _setting(
        3, word_or("all", integer(1)), "how many epochs' snapshots stay (two at least, to fall back on)"
    )
    # What is seen of it meanwhile.
    picture_iter: int = _setting(500, integer(0), "iterations between pictures in TensorBoard; 0: none")
    validate_epochs: int = _setting(0, integer(0), "epochs between validations of all predictors; 0: none")
    validate_images: int | Literal["all"] = _setting(
        "all", word_or("all", integer(1)), "how many images such a validation takes, evenly from the list"
    )
    # How it is evaluated.
    ensemble: tuple[str, ...] = _setting(
        ("all",), several(choice("all", *PREDICTORS)), "predictors, with commas; all: the seven"
    )
    eval_epochs: Epochs = _setting("last", epochs, "snapshots evaluated: last, all, none, 20-34, 30,34")
    eval_scales: tuple[float, ...] = _setting((1.0,), several(number(0.05, 16)), "scales summed")
    eval_flip: bool = _setting(False, switch, "adds mirrored windows")
    save_predictions: str = _setting(
        "auto", choice("auto", "none", *PREDICTORS), "predictor whose maps are written; auto: v3, else v2"
    )
    debug: bool = _setting(False, switch, "1: errors come with their traceback")


FIELDS = {entry.name: entry for entry in dataclasses.fields(Settings)}
ABBREVIATIONS = {"lr": "learning_rate", "wd": "weight_decay", "crop_size": "image_size"}
RESULT_FIELDS = tuple(name for name, entry in FIELDS.items() if entry.metadata["changes_result"])


def meant(name: str) -> str | None:
    """Returns the setting whose name `name` nearly is, or stands for in many other programs; None if there is none."""
    return ABBREVIATIONS.get(name.lower()) or nearest(name, FIELDS)


def read_settings(
    defaults: Mapping[str, Any], texts: Mapping[str, str], files: Mapping[str, Path] | None = None
) -> Settings:
    """Reads settings from an experiment's defaults and from texts (the environment), which win over them.

    An empty text counts as not set.

    Args:
        files: the config.py in which each of the defaults stands, which errors name.

    Raises:
        InputError: a default has an unknown name, or a value cannot be read.
    """
    files = files or {}
    unknown = [name for name in defaults if name not in FIELDS]
    if unknown:
        other = f" (perhaps {found})" if (found := meant(unknown[0])) else ""
        file = files.get(unknown[0], "config.py")
        raise InputError(f"{file}: unknown setting {unknown[0]}{other}; expected one of {', '.join(FIELDS)}")
    by_file = {name: text_of(value) for name, value in defaults.items()}
    by_hand = {name: text for name, text in texts.items() if name in FIELDS and text != ""}
    values = {
        name: _read(name, text, files.get(name)) for name, text in by_file.items() if text and name not in by_hand
    }
    return Settings(**values, **{name: _read(name, text) for name, text in by_hand.items()})


def text_of(value: Any) -> str:
    """Returns a setting's value as the environment would give it; nothing for None, which is not set."""
    if value is None:
        return ""
    if isinstance(value, list | tuple):
        return ",".join(map(str, value))
    return str(int(value)) if isinstance(value, bool) else str(value)


def _read(name: str, value: str, file: Path | None = None) -> Any:
    try:
        return FIELDS[name].metadata["read"](value)
    except ValueError as error:
        where, remedy = (f"{file}: ", "mend it") if file else ("", "set it in the script or the environment")
        raise InputError(f"{where}{name}: expected {error}, found {value!r}; {remedy}") from None


def help_table() -> str:
    """Returns every setting with its default and meaning, one a line, for `--settings`."""
    lines = []
    for name, entry in FIELDS.items():
        default = ",".join(map(str, entry.default)) if isinstance(entry.default, tuple) else entry.default
        lines.append(f"  {name:<24}{'' if default is None else default!s:<12} {entry.metadata['meaning']}")
    return "\n".join(lines)
