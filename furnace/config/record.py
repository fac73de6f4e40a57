"""What is written down about a run in its `config.json`: settings, software, data, every start."""

import json
import subprocess
from collections.abc import Mapping
from dataclasses import fields
from pathlib import Path
from typing import Any

from furnace.config.settings import Settings
from furnace.engine.files import json_text, write_text
from furnace.errors import InputError


def plain(value: Any) -> Any:
    """A setting as JSON holds it."""
    if isinstance(value, Path):
        return str(value)
    return list(value) if isinstance(value, tuple) else value


def settings_record(settings: Settings) -> dict[str, Any]:
    """Every setting by name."""
    return {entry.name: plain(getattr(settings, entry.name)) for entry in fields(Settings)}


def changes(before: Mapping[str, Any], now: Mapping[str, Any]) -> str:
    """Which of the settings `now` are not what they were, in words; empty if all are."""
    return "; ".join(
        f"{name} was {before.get(name)}, is {value}" for name, value in now.items() if before.get(name) != value
    )


def software_record() -> dict[str, Any]:
    """Versions, and the commit of this library's checkout."""
    import cv2
    import numpy
    import torch

    from furnace import __version__

    versions = {
        "furnace": __version__,
        "torch": torch.__version__,
        "numpy": numpy.__version__,
        "opencv": cv2.__version__,
    }
    return {"versions": versions, "git_commit": _git_commit()}


def write_record(output: Path, start: dict[str, Any], goes_on: bool) -> None:
    """Writes `start` to config.json; where a run goes on, its beginning stays on top and `resumed` lists the others."""
    before = read_record(output) if goes_on else {}
    record = {**before, "resumed": [*before.get("resumed", []), start]} if before else start
    write_text(output / "config.json", json_text(record))


def read_record(output: Path) -> dict[str, Any]:
    """The config.json of a run, empty if there is none (published snapshots have none)."""
    try:
        record = json.loads((output / "config.json").read_text(encoding="utf-8"))
        if not isinstance(record, dict) or not isinstance(record.get("settings", {}), dict):
            raise ValueError("expected an object with settings")
        return record
    except FileNotFoundError:
        return {}
    except (OSError, ValueError) as error:
        raise InputError(f"damaged file: {output / 'config.json'}: {error}; remove it to go without") from None


def _git_commit() -> str | None:
    """With `-dirty` behind it where files differ; None outside a checkout."""
    try:
        result = subprocess.run(
            ["git", "describe", "--always", "--dirty", "--abbrev=40", "--exclude=*"],
            cwd=Path(__file__).parent,
            capture_output=True,
            text=True,
            timeout=10,
            check=False,
        )
    except (OSError, subprocess.TimeoutExpired):
        return None
    return result.stdout.strip() or None
