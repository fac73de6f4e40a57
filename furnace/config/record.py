"""What a run writes down about itself in its `config.json`: settings, software, data and every start."""

import json
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import torch

from furnace import __version__
from furnace.config.settings import FIELDS, Settings
from furnace.engine.files import json_text, write_text
from furnace.errors import InputError

WEIGHTS = ("pretrained_model", "pretrained_model_2")
VALIDATION_LIST = "validation list"
LISTS = ("labelled list", "unlabelled list", VALIDATION_LIST)  # in the order in which config.json names their files
PARTS = ("settings", "code", "lists")  # of a start, each an object


def plain(value: Any) -> Any:
    """Returns a setting's value as JSON can hold it: a path as text, a tuple as a list."""
    if isinstance(value, Path):
        return str(value)
    return list(value) if isinstance(value, tuple) else value


def settings_record(settings: Settings) -> dict[str, Any]:
    """Returns every setting by its name, as JSON can hold it."""
    return {name: plain(getattr(settings, name)) for name in FIELDS}


def filled(settings: Mapping[str, Any]) -> dict[str, Any]:
    """Returns settings as config.json has them, and those that there were not yet when it was written.

    What there was not yet had the effect of its default; student 2 was what student 1 was.
    """
    known = {**{name: plain(entry.default) for name, entry in FIELDS.items()}, **settings}
    for name in ("decoder", "backbone", "pretrained_model"):
        if known[f"{name}_2"] is None:
            known[f"{name}_2"] = known[name]
    return known


def changes(before: Mapping[str, Any], now: Mapping[str, Any]) -> list[str]:
    """Returns in words which of the things `now` were different `before`; what was not written down counts as equal."""
    before = {**now, **filled(before)}
    return [f"{name} was {before[name]}, is {value}" for name, value in now.items() if before[name] != value]


def names_of_weights(settings: Mapping[str, Any]) -> dict[str, str]:
    """Returns the settings that name weights, without the files' folders, because a checkout may move."""
    return {name: Path(settings[name]).name for name in WEIGHTS if settings.get(name)}


def software_record() -> dict[str, Any]:
    """Returns the versions of this library and of those it computes with, and the commit of its checkout."""
    versions = {"furnace": __version__, "torch": torch.__version__, "numpy": np.__version__, "opencv": cv2.__version__}
    # Where a network comes from these, they decide what it computes.
    used = {name: sys.modules[name] for name in ("segmentation_models_pytorch", "timm") if name in sys.modules}
    versions |= {name: str(getattr(module, "__version__", "")) for name, module in used.items()}
    return {"versions": versions, "git_commit": _git_commit()}


def write_record(output: Path, start: dict[str, Any], goes_on: bool) -> None:
    """Writes the record of one `start` of a run to config.json.

    Where a run goes on, the record of its first start stays on top, and `resumed` lists the later starts.
    """
    before = read_record(output) if goes_on else {}
    record = {**before, "resumed": [*before.get("resumed", []), start]} if before else start
    write_text(output / "config.json", json_text(record))


def read_record(output: Path) -> dict[str, Any]:
    """Returns the config.json of a run, or an empty dict if there is none (published snapshots have none).

    Raises:
        InputError: the file cannot be read, or is no such record.
    """
    try:
        record = json.loads((output / "config.json").read_text(encoding="utf-8"))
        if not isinstance(record, dict) or not isinstance(record.get("resumed", []), list):
            raise ValueError("expected an object with settings")
        if not all(isinstance(start.get(part, {}), dict) for start in _starts(record) for part in PARTS):
            raise ValueError(f"expected {', '.join(PARTS)} to be objects")
        return record
    except (FileNotFoundError, NotADirectoryError):
        return {}
    except (OSError, ValueError) as error:
        raise InputError(f"damaged file: {output / 'config.json'}: {error}; remove it to go without") from None


def last_start(record: Mapping[str, Any]) -> Mapping[str, Any]:
    """Returns the record of a run's last start: what its newest snapshots were trained with."""
    return _starts(record)[-1]


def trained_settings(record: Mapping[str, Any]) -> dict[str, Any]:
    """Returns the settings of a run's last start, which only `resume=force` lets differ from those of its first one."""
    settings: dict[str, Any] = last_start(record).get("settings", {})
    return settings


def list_digests(record: Mapping[str, Any]) -> dict[str, str]:
    """Returns the digests of the lists of a run's last start by their names in LISTS, as far as its record tells."""
    lists = last_start(record).get("lists", {}).values()
    named = [(name, each) for name, each in zip(LISTS, lists, strict=False) if isinstance(each, dict)]
    return {name: str(each["sha256"]) for name, each in named if "sha256" in each}


def trained_classes(record: Mapping[str, Any]) -> list[Any]:
    """Returns the names of the classes of a run's last start; none if its record does not tell them."""
    classes = last_start(record).get("classes")
    return classes if isinstance(classes, list) else []


def trained_identity(record: Mapping[str, Any]) -> dict[str, Any]:
    """Returns what `Experiment.identity` was at a run's last start, as far as its record tells; empty without one."""
    settings, classes = trained_settings(record), trained_classes(record)
    declared = {"classes": classes} if classes else {}
    return {**settings, **names_of_weights(settings), **declared, **list_digests(record)} if settings else {}


def _starts(record: Mapping[str, Any]) -> list[Mapping[str, Any]]:
    return [record, *(start for start in record.get("resumed", []) if isinstance(start, dict))]


def _git_commit() -> str | None:
    """Returns the checkout's commit, with `-dirty` behind it if Python files or scripts differ from it.

    It is None outside a checkout. A copy of this library within another repository is no checkout, because that one
    does not track it.
    """
    try:
        _git("ls-files", "--error-unmatch", Path(__file__).name)
        changed = _git("diff", "--name-only", "HEAD", "--", ":/*.py", ":/*.sh")  # tables of scores change all the time
        return _git("rev-parse", "HEAD") + ("-dirty" if changed else "")
    except (OSError, subprocess.SubprocessError):
        return None


def _git(*arguments: str) -> str:
    return subprocess.run(
        ["git", *arguments],
        cwd=Path(__file__).parent,
        capture_output=True,
        encoding="utf-8",
        errors="replace",
        timeout=10,
        check=True,
    ).stdout.strip()
