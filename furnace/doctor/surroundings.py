"""What surrounds a process: the clock, the terminal, variables of the environment, and the way to other machines."""

import os
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TypeVar

import torch

from furnace.doctor.finding import NOTE, OK, PROBLEM, Finding, of_error
from furnace.doctor.wanted import Wanted
from furnace.engine.interface import address_towards, interface_of
from furnace.engine.machine import cores
from furnace.engine.place import environment_integer, find_place
from furnace.errors import InputError

LIBRARY = Path(__file__).parents[1]
YEAR_2025 = 1735689600.0  # seconds since 1970; this program is younger
AHEAD = 3600.0  # seconds by which a file may be newer than the clock: of another machine, on a shared disk
PATIENCE = 2.0  # seconds for a name's address
# Variables that make training slow, and are left over from looking for a fault.
SLOW = {
    "CUDA_LAUNCH_BLOCKING": "every kernel is waited for",
    "NCCL_P2P_DISABLE": "GPUs exchange through the machine's memory",
}
Answer = TypeVar("Answer")


def clock(_: Wanted) -> Iterator[Finding]:
    """The clock; one that is behind makes downloads fail, whose certificates seem to be from the future."""
    now, newest = time.time(), max(path.stat().st_mtime for path in LIBRARY.rglob("*.py"))
    shown = time.strftime("%Y-%m-%d %H:%M:%S UTC", time.gmtime(now))
    if now < max(YEAR_2025, newest - AHEAD):
        yield Finding(
            NOTE, "clock", f"{shown} is before this program was written: it is wrong", "timedatectl set-ntp true"
        )
    else:
        yield Finding(OK, "clock", shown)


def terminal(_: Wanted) -> Iterator[Finding]:
    """Whether what is printed may hold any letter; nothing is said where it may."""
    encoding = str(getattr(sys.stdout, "encoding", None) or "none")
    if encoding.lower().replace("-", "") != "utf8":
        found = f"standard output is in {encoding}; letters that it lacks are shown as \\xdf"
        yield Finding(NOTE, "terminal", found, "export LC_ALL=C.UTF-8")


def threads(_: Wanted) -> Iterator[Finding]:
    """How many threads one process of torch computes in, on a CPU."""
    count, allowed, variable = torch.get_num_threads(), cores(), os.environ.get("OMP_NUM_THREADS")
    words = f"torch computes in {count}, OMP_NUM_THREADS is {variable or 'not set'}"
    figures = {"threads": count, "cores": allowed}
    if count > allowed:
        found = f"{words}, on {allowed} cores: they wait for each other"
        yield Finding(NOTE, "threads", found, f"export OMP_NUM_THREADS={allowed}", figures)
    else:
        yield Finding(OK, "threads", words, figures=figures)


def environment(_: Wanted) -> Iterator[Finding]:
    """Variables that are left over, from torchrun or from looking for a fault."""
    try:
        find_place()
    except InputError as error:
        yield of_error(PROBLEM, "environment", error)
    for name, effect in SLOW.items():
        if os.environ.get(name, "0") not in ("", "0"):
            yield Finding(NOTE, "environment", f"{name} is set: {effect}", f"unset {name}")


def network(_: Wanted) -> Iterator[Finding]:
    """Whether this machine finds the first of several, where a run has them."""
    first = os.environ.get("MASTER_ADDR", "")
    if first and environment_integer("NNODES", 1, low=1) > 1:
        if own := _within(PATIENCE, lambda: address_towards(first)):
            yield Finding(OK, "network", f"MASTER_ADDR={first} is reached by {interface_of(own)} ({own})")
        else:
            yield Finding(
                PROBLEM, "network", f"no way leads to MASTER_ADDR={first}", "name the first machine's address there"
            )


def _within(seconds: float, ask: Callable[[], Answer]) -> Answer | None:
    """Returns an answer; None if it does not come in time, as where a server of names is silent."""
    answers: list[Answer] = []
    asking = threading.Thread(target=lambda: answers.append(ask()), daemon=True)
    asking.start()
    asking.join(seconds)
    return answers[0] if answers else None
