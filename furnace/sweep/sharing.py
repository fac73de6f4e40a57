"""What each of several runs at a time gets of this machine: GPUs of its own, or its part of the cores."""

import math
import os
from collections.abc import Collection
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


def shares(
    slots: int,
    gpus_per_run: Fraction | int | None,
    gpus: int | str,
    num_workers: int | str,
    batch_sizes: Collection[int] = (),
) -> list[Share]:
    """Shares this machine out.

    Args:
        slots: how many runs go on at a time.
        gpus_per_run: how many GPUs each of them has; 1/N lets N of them use one GPU together. None shares all out, as
            far as each batch can be shared out evenly over them.
        gpus: the runs' setting NGPUS: how many GPUs each has, 0 for the CPU, or "all" that it sees.
        num_workers: the runs' setting of that name; "auto" is shared out, too.
        batch_sizes: those of the runs.

    Returns:
        A share for each of the runs at a time.

    Raises:
        InputError: there are fewer GPUs, a batch cannot be shared out over those of a run, two settings contradict each
            other, or the runs go over several machines.
    """
    if slots < 1:
        raise InputError(f"runs at a time: expected at least 1, found {slots}; mend it")
    if gpus_per_run is not None and (gpus_per_run <= 0 or 1 not in Fraction(gpus_per_run).as_integer_ratio()):
        raise InputError(f"GPUs per run: expected a whole number of at least 1, or 1/N, found {gpus_per_run}; mend it")
    if (machines := environment_integer("NNODES", 1, low=1)) > 1:
        raise InputError(f"--jobs: expected one machine, found NNODES={machines}; unset it, or leave --jobs out")
    if isinstance(gpus, int) and gpus_per_run is not None and max(1, gpus_per_run) != gpus:
        raise InputError(f"--gpus-per-run: {gpus_per_run} asked for, but NGPUS={gpus} is set; leave one of them out")
    names = [] if gpus == 0 else visible_gpus()
    if gpus == 0 or (gpus == "all" and not names and gpus_per_run is None):
        return _of_cores(slots)
    number, asked_by = gpus_per_run, "--gpus-per-run"
    if number is None and isinstance(gpus, int):
        number, asked_by = gpus, "NGPUS"
    in_parts = bool(names) and names[0].startswith(PART)
    if number is not None:
        per_run = Fraction(number)
    else:
        per_run = Fraction(1 if in_parts else _most(len(names) // slots, batch_sizes))
    if in_parts and per_run > 1:
        raise InputError(f"{asked_by}: expected at most 1, found {per_run}: a run sees one part of a GPU (MIG)")
    _require_enough(slots, per_run, len(names), batch_sizes)
    if per_run > 1 and (uneven := [size for size in batch_sizes if size % per_run]):
        raise InputError(
            f"{asked_by}: batch_size={uneven[0]} cannot be shared out over {per_run} GPUs evenly; set {asked_by} to "
            f"{_most(int(per_run), batch_sizes)}, or change batch_size"
        )
    settings = {"NGPUS": str(max(1, per_run))} if gpus_per_run is not None else {}
    if num_workers == "auto":
        most = loader_workers("auto", torch.device("cuda"))
        settings["num_workers"] = str(max(1, min(most, cores() // (slots * max(1, int(per_run))))))
    environment = {}
    if per_run <= 1:  # one process, which has all threads; of several, torchrun's processes have one each
        environment["OMP_NUM_THREADS"] = _threads(slots)
    return [_of_gpus(names, slot, per_run, environment, settings) for slot in range(slots)]


def _most(gpus: int, batch_sizes: Collection[int]) -> int:
    """Returns the largest number of GPUs, `gpus` at most, over which each batch can be shared out evenly."""
    even = (number for number in range(gpus, 1, -1) if all(size % number == 0 for size in batch_sizes))
    return next(even, 1)


def _require_enough(slots: int, per_run: Fraction, visible: int, batch_sizes: Collection[int]) -> None:
    if slots * per_run <= visible:
        return
    fits = [f"--jobs {int(visible / per_run)}"] if visible >= per_run and int(visible / per_run) > 1 else []
    if visible:
        most = _most(visible // slots, batch_sizes)
        fit = Fraction(most) if visible >= slots else Fraction(1, math.ceil(slots / visible))
        fits.append(f"--gpus-per-run {fit}{'' if fit >= 1 else ' (runs share a GPU)'}")
    others = f"{', '.join(fits)}, or " if fits else ""
    raise InputError(
        f"--jobs: {slots} runs at a time with {per_run} GPU{'s' if per_run > 1 else ''} each need "
        f"{math.ceil(slots * per_run)}, {visible} visible; set {others}NGPUS=0 to use the CPU"
    )


def _of_gpus(
    names: list[str], slot: int, per_run: Fraction, environment: dict[str, str], settings: dict[str, str]
) -> Share:
    """Returns the share of one run at a time; runs that share GPUs are spread over all of these."""
    first = int(slot * per_run) if per_run >= 1 else slot % len(names)
    own = ",".join(names[first : first + max(1, int(per_run))])
    words = f"GPU {own}" if per_run >= 1 else f"{per_run} of GPU {own}"
    return Share(words, {"CUDA_VISIBLE_DEVICES": own, **environment}, settings)


def _threads(slots: int) -> str:
    """Returns how many threads a run has: what OMP_NUM_THREADS says, or its part of the cores."""
    return os.environ.get("OMP_NUM_THREADS") or str(max(1, cores() // slots))


def _of_cores(slots: int) -> list[Share]:
    threads = _threads(slots)
    crowd = f", which {slots} runs have to share" if slots > cores() else ""
    share = Share(f"{threads} of {cores()} cores{crowd}", {"OMP_NUM_THREADS": threads}, {})
    return [share] * slots
