"""The folders in which weights that were downloaded once are kept."""

import os
import time
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import torch

from furnace.doctor.finding import NOTE, OK, Finding
from furnace.doctor.wanted import Wanted, existing
from furnace.engine.memory import said

PATIENCE = 1.0  # seconds for counting files, which may lie on a slow server


def hub(_: Wanted) -> Iterator[Finding]:
    """The Hugging Face hub's cache, which encoders' weights come from with pretrained_model=hub."""
    from huggingface_hub import constants

    folder = Path(constants.HF_HUB_CACHE)
    token = "a token is set" if _has_token(Path(constants.HF_TOKEN_PATH)) else "no token is set"
    offline = ", HF_HUB_OFFLINE is set: only what lies there is found" if constants.HF_HUB_OFFLINE else ""
    models = sum(1 for _ in folder.glob("models--*"))
    yield _cache("hub's cache", folder, f"{models} models", f"{token}{offline}", "HF_HOME")


def torch_hub(_: Wanted) -> Iterator[Finding]:
    """The folder in which torchvision's weights are kept."""
    folder = Path(torch.hub.get_dir(), "checkpoints")
    files = sum(path.is_file() for path in folder.glob("*"))
    yield _cache("torch's cache", folder, f"{files} files", "", "TORCH_HOME")


def _cache(subject: str, folder: Path, content: str, further: str, variable: str) -> Finding:
    size, is_all = _size_below(folder)
    figures = {"folder": str(folder), "size": size}
    words = f"{folder} is not there yet"
    if folder.is_dir():
        words = f"{content}, {'' if is_all else 'more than '}{said(size)} in {folder}"
    words += f", {further}" if further else ""
    if not os.access(existing(folder), os.W_OK | os.X_OK):
        remedy = f"set {variable} to a folder that can be written, or name files as pretrained_model"
        return Finding(NOTE, subject, f"{words}; nothing can be downloaded into it", remedy, figures)
    return Finding(OK, subject, words, figures=figures)


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
