"""What `python -m furnace prepare` wrote down of the folder that it made: a file prepared.json in it."""

import json
from pathlib import Path
from typing import Any

RECORD = "prepared.json"  # says what was asked for, and what came of it
LINK, COPY, DECODED = FILES = ("link", "copy", "decoded")  # what becomes of images, as `--files` asks for


def request_of(folder: Path) -> Any:
    """Returns the request that a folder was made or begun for, as JSON holds it; None if there is no record of one."""
    return _recorded(folder, "request")


def source_of(folder: Path) -> Any:
    """Returns what its source was like when a folder was made, as JSON holds it; None if there is no record of that."""
    return _recorded(folder, "source")


def _recorded(folder: Path, what: str) -> Any:
    try:
        return json.loads((folder / RECORD).read_text(encoding="utf-8"))[what]
    except (OSError, ValueError, KeyError, TypeError):
        return None


def is_decoded(folder: Path) -> bool:
    """Whether a folder was made with `--files decoded`."""
    request = request_of(folder)
    return isinstance(request, dict) and request.get("files") == DECODED
