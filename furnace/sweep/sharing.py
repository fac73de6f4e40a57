"""What each of several runs at a time gets of this machine: GPUs of its own, or its part of the cores."""

import math
import os
from dataclasses import dataclass
from fractions import Fraction

import torch

from furnace.engine.backend import loader_workers
from furnace.engine.machine import cores
from furnace.engine.place import environment_integer
from furnace.engine.visible import PART, visible_gpus
from furnace.errors import InputError


@dataclass(frozen=True)
class Share:
    """One run's share of the machine."""

    words: str  # what it is, for people
    environment: dict[str, str]  # variables that keep a run within its share
    settings: dict[str, str]  # settings that do


def shares(slots: int, gpus_per_run: Fraction | int | None, gpus: int | str, num_workers: int | str) -> list[Share]:
    """Shares this machine out.

    Args:
        slots: how many runs go on at a time.
        gpus_per_run: how many GPUs each of them has; 1/N lets N of them use one GPU together. None shares out all.
        gpus: the runs' setting NGPUS: how many GPUs each has, 0 for the CPU, or "all" that it sees.
        num_workers: the runs' setting of that name; "auto" is shared out, too.

    Returns:
        A share for each of the runs at a time.

    Raises:
        InputError: there are fewer GPUs, two settings contradict each other, or the runs go over several machines.
    """
    if (machines := environment_integer("NNODES", 1, low=1)) > 1:
        raise InputError(f"--jobs: expected one machine, found NNODES={machines}; unset it, or leave --jobs out")
    if isinstance(gpus, int) and gpus_per_run is not None and gpus_per_run != gpus:
        raise InputError(f"--gpus-per-run: {gpus_per_run} asked for, but NGPUS={gpus} is set; leave one of them out")
    names = [] if gpus == 0 else visible_gpus()
    if gpus == 0 or (gpus == "all" and not names and gpus_per_run is None):
        return _of_cores(slots)
    asked = gpus_per_run if gpus == "all" else gpus
    per_run = Fraction(max(1, len(names) // slots) if asked is None else asked)
    if names and names[0].startswith(PART):
        if asked is None:
            per_run = Fraction(1)
        if per_run > 1:
            raise InputError(f"--gpus-per-run: expected at most 1, found {per_run}: a run sees one part of a GPU (MIG)")
    _require_enough(slots, per_run, len(names))
    settings = {"NGPUS": str(max(1, per_run))} if gpus_per_run is not None else {}
    if num_workers == "auto":
        most = loader_workers("auto", torch.device("cuda"))
        settings["num_workers"] = str(max(1, min(most, cores() // (slots * max(1, int(per_run))))))
    return [_of_gpus(names, slot, per_run, settings) for slot in range(slots)]


def _require_enough(slots: int, per_run: Fraction, visible: int) -> None:
    if slots * per_run <= visible:
        return
    fits = [f"--jobs {int(visible / per_run)}"] if visible >= per_run and int(visible / per_run) > 1 else []
    if visible:
        each = Fraction(visible // slots) if visible >= slots else Fraction(1, math.ceil(slots / visible))
        fits.append(f"--gpus-per-run {each}{'' if each >= 1 else ' (runs share a GPU)'}")
    others = f"{', '.join(fits)}, or " if fits else ""
    raise InputError(
        f"--jobs: {slots} runs at a time with {per_run} GPU{'s' if per_run > 1 else ''} each need "
        f"{math.ceil(slots * per_run)}, {visible} visible; set {others}NGPUS=0 to use the CPU"
    )


def _of_gpus(names: list[str], slot: int, per_run: Fraction, settings: dict[str, str]) -> Share:
    first = int(slot * per_run) if per_run >= 1 else slot // per_run.denominator
    own = ",".join(names[first : first + max(1, int(per_run))])
    words = f"GPU {own}" if per_run >= 1 else f"{per_run} of GPU {own}"
    return Share(words, {"CUDA_VISIBLE_DEVICES": own}, settings)


def _of_cores(slots: int) -> list[Share]:
    """Shares out the cores, unless OMP_NUM_THREADS says how many threads a run has."""
    threads = os.environ.get("OMP_NUM_THREADS") or str(max(1, cores() // slots))
    crowd = f", which {slots} runs have to share" if slots > cores() else ""
    share = Share(f"{threads} of {cores()} cores{crowd}", {"OMP_NUM_THREADS": threads}, {})
    return [share] * slots
