"""Whether torchvision goes with the torch that is installed."""

import re
import subprocess
import sys
from collections.abc import Iterator
from importlib import metadata
from pathlib import Path

from furnace.doctor.finding import NOTE, PROBLEM, Finding
from furnace.doctor.packages import UNKNOWN, WITHOUT, release, version_of
from furnace.doctor.wanted import Wanted
from furnace.errors import in_short

BEHIND = 15  # torchvision 0.(n + 15) is made for torch 2.n
OWN_BUILD = re.compile(r"\d(a|b|rc|\.dev)\d|\+.*(nv|git)")  # not of PyTorch's releases, so that numbers tell nothing
PATIENCE = 60.0  # seconds for an import, which takes a few on a busy machine


def fits(wanted: Wanted) -> Iterator[Finding]:
    """Whether torchvision goes with this torch; another one ends its own import with an error that names neither.

    Where the versions go together, or torchvision can be imported although they do not seem to, nothing is said.
    """
    torch, torchvision = (version_of(name) for name in ("torch", "torchvision"))
    if not torch or not torchvision or UNKNOWN in (torch, torchvision):
        return  # which has been said
    is_own_build = bool(OWN_BUILD.search(torch) or OWN_BUILD.search(torchvision))
    fault = None if is_own_build else _misfit(torch, torchvision)
    if not (fault or is_own_build) or not (failure := _failure_of_importing("torchvision")):
        return
    found, remedy = fault or (
        f"{torchvision} cannot be imported beside torch {torch}: {failure}",
        "take both from one container, or from one index of pip",
    )
    yield Finding(
        PROBLEM if wanted.needs_torchvision else NOTE,
        "torchvision",
        f"{found}, so that {WITHOUT['torchvision']} are missing",
        remedy,
    )


def _misfit(torch: str, torchvision: str) -> tuple[str, str] | None:
    """Returns how two releases do not go together, with the remedy; None if nothing speaks against them."""
    major, minor = release(torch)[:2]
    if major == 2 and release(torchvision)[:2] != (0, minor + BEHIND):
        fitting = f"0.{minor + BEHIND}"
        return (
            f"{torchvision} does not go with torch {torch}, for which {fitting} is made: importing it fails (operator "
            "torchvision::nms does not exist)",
            f'pip install "torchvision=={fitting}.*"',
        )
    platforms = [_platform_of(name) for name in ("torch", "torchvision")]
    if _is_mixed(*platforms):
        return (
            f"is built for {platforms[1]}, torch for {platforms[0]}: importing it fails",
            "pip install --force-reinstall torchvision from the index that torch is from",
        )
    return None


def _failure_of_importing(module: str) -> str:
    """Returns why a module cannot be imported, or an empty text if it can.

    It is tried in a process of its own, because a failure may leave half of a library behind.
    """
    command = [sys.executable, "-c", f"import {module}"]
    try:
        done = subprocess.run(
            command, capture_output=True, encoding="utf-8", errors="replace", timeout=PATIENCE, check=False
        )
    except (OSError, subprocess.SubprocessError) as error:
        return in_short(error)
    return (done.stderr.strip().splitlines() or ["no reason was given"])[-1] if done.returncode else ""


def _platform_of(name: str) -> str:
    """Returns what PyTorch's package is built for, such as `cu130` or `cpu`, without importing it; empty if unknown."""
    path = metadata.distribution(name).locate_file(f"{name}/version.py")
    try:
        text = Path(str(path)).read_text(encoding="utf-8")
    except OSError:
        return ""
    found = re.search(r"__version__ = '[^'+]*\+([^']*)'", text)
    return found[1] if found else ""


def _is_mixed(torch: str, torchvision: str) -> bool:
    """Whether a torchvision fails beside a torch: another major version of CUDA, or CUDA beside a torch without."""
    made = re.fullmatch(r"cu(\d+)\d", torchvision)
    if not made:
        return False
    beside = re.fullmatch(r"cu(\d+)\d", torch)
    return torch == "cpu" or (beside is not None and beside[1] != made[1])
