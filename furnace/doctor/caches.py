"""The Hugging Face hub's cache, which encoders' weights come from with pretrained_model=hub."""

import os
import time
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

from furnace.doctor.finding import NOTE, OK, Finding
from furnace.doctor.wanted import Wanted, existing
from furnace.engine.memory import said
from furnace.errors import counted

PATIENCE = 1.0  # seconds for counting files, which may lie on a slow server


def hub(_: Wanted) -> Iterator[Finding]:
    """The folder in which weights that were downloaded once are kept."""
    from huggingface_hub import constants

    folder = Path(constants.HF_HUB_CACHE)
    size, is_all = _size_below(folder)
    figures = {"folder": str(folder), "size": size}
    words = f"{folder} is not there yet"
    if folder.is_dir():
        models = sum(1 for _ in folder.glob("models--*"))
        words = f"{counted(models, 'model')}, {'' if is_all else 'more than '}{said(size)} in {folder}"
    words += ", a token is set" if _has_token(Path(constants.HF_TOKEN_PATH)) else ", no token is set"
    words += ", HF_HUB_OFFLINE is set: only what lies there is found" if constants.HF_HUB_OFFLINE else ""
    if not os.access(existing(folder), os.W_OK | os.X_OK):
        remedy = "set HF_HOME to a folder that can be written, or name files as pretrained_model"
        yield Finding(NOTE, "hub's cache", f"{words}; nothing can be downloaded into it", remedy, figures)
    else:
        yield Finding(OK, "hub's cache", words, figures=figures)


def _has_token(file: Path) -> bool:
    """Whether the hub is told who asks, which weights under a licence need; the token itself is not read."""
    names = ("HF_TOKEN", "HUGGING_FACE_HUB_TOKEN")
    with suppress(OSError):
        return any(os.environ.get(name) for name in names) or file.is_file()
    return False


def _size_below(folder: Path) -> tuple[int, bool]:
    """Returns the bytes of all files below a folder, and whether there was time to look at all."""
    end, size, waiting = time.monotonic() + PATIENCE, 0, [folder]
    while waiting:
        with suppress(OSError), os.scandir(waiting.pop()) as entries:
            for entry in entries:
                if time.monotonic() > end:
                    return size, False
                if entry.is_dir(follow_symlinks=False):
                    waiting.append(Path(entry.path))
                elif entry.is_file(follow_symlinks=False):
                    size += entry.stat().st_size
    return size, True
