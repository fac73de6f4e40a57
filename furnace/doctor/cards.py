"""Every GPU that torch can use here, and which of them a run takes."""

import io
import os
from collections.abc import Iterator
from contextlib import redirect_stderr
from dataclasses import replace

import torch

from furnace.doctor import driver, without_cards
from furnace.doctor.finding import NOTE, OK, PROBLEM, Finding, of_error
from furnace.doctor.wanted import Wanted
from furnace.engine.gpus import gpus_for_batch, gpus_to_use, why_unusable
from furnace.engine.memory import said
from furnace.engine.visible import PART
from furnace.errors import InputError

FULL = 1e9  # bytes; with less, a GPU holds no step of any recipe
TAKEN = 0.05  # the share of a GPU's memory that drivers and displays may take without a word
BF16 = (8, 0)  # the first capability that computes in bf16


def gpus(wanted: Wanted) -> Iterator[Finding]:
    """The GPUs, one by one, and how they reach each other; or why there is none."""
    count = torch.cuda.device_count()
    if wanted.gpus not in (0, "all"):
        try:
            gpus_to_use(wanted.gpus)
        except InputError as error:
            yield of_error(PROBLEM, "GPUs", error)
    if wanted.gpus == 0:
        yield Finding(OK, "GPUs", f"NGPUS=0: {without_cards.ON_CPU}", figures={"gpus": 0})
    elif torch.version.cuda is None:
        yield without_cards.without_cuda()
    elif count == 0:
        yield without_cards.none_visible()
    elif reason := why_unusable(()):
        yield without_cards.driver_fault(reason)
    else:
        yield from _each(count, gpus_used(wanted))


def gpus_used(wanted: Wanted) -> int:
    """Returns how many of the visible GPUs a run takes: the first ones.

    Without an experiment, whose batch is shared out, these are as many as NGPUS says.
    """
    try:
        if wanted.is_named:
            with redirect_stderr(io.StringIO()):  # its notes come with the experiment's own examination
                return gpus_for_batch(wanted.gpus, wanted.batch_size)
        return gpus_to_use(wanted.gpus)
    except InputError:  # which is said elsewhere
        visible = torch.cuda.device_count()
        return visible if wanted.gpus == "all" else min(wanted.gpus, visible)


def _each(count: int, used: int) -> Iterator[Finding]:
    """Every GPU, and then those together that a run takes."""
    programs = driver.programs()  # asked before this process uses a GPU itself
    for number in range(count):
        finding = _one(number, programs)
        if number >= used and finding.state != OK:
            finding = replace(finding, state=NOTE, found=f"{finding.found} (the run does not take it)", remedy="")
        yield finding
    visible = os.environ.get("CUDA_VISIBLE_DEVICES", "")
    if visible.startswith(PART):
        yield Finding(
            NOTE, "GPUs", "CUDA_VISIBLE_DEVICES names parts of a GPU (MIG), of which a process sees the first"
        )
    nccl = ".".join(map(str, torch.cuda.nccl.version()))  # type: ignore[no-untyped-call]  # torch does not annotate it
    figures = {
        "gpus": count,
        "used": used,
        "driver": driver.driver_version(),
        "driver_cuda": driver.newest_cuda(),
        "cuda": torch.version.cuda,
        "nccl": nccl,
    }
    words = f"driver {figures['driver'] or 'unknown'}, CUDA {torch.version.cuda}, NCCL {nccl}"
    apart = [
        f"{one}-{other}"
        for one in range(used)
        for other in range(one + 1, used)
        if not torch.cuda.can_device_access_peer(one, other)
    ]
    if apart:
        yield Finding(
            NOTE,
            "GPUs",
            f"{words}; {', '.join(apart)} do not reach each other's memory: exchanges go by the machine's own",
            "with fewer of them (NGPUS) a run may be as fast",
            figures,
        )
    else:
        yield Finding(OK, "GPUs", words + (", all reach each other's memory" if used > 1 else ""), figures=figures)


def _one(number: int, programs: dict[str, list[str]]) -> Finding:
    """One GPU; its memory is asked of itself, so that one which cannot be used is found out."""
    subject, other = f"GPU {number}", "choose other GPUs (CUDA_VISIBLE_DEVICES)"
    if reason := why_unusable([number]):
        return of_error(PROBLEM, subject, reason.removeprefix("NGPUS: "))
    properties = torch.cuda.get_device_properties(number)
    try:
        left, size = torch.cuda.mem_get_info(number)
    except RuntimeError as error:
        said_by_torch = str(error).partition("\n")[0]
        return Finding(PROBLEM, subject, f"{properties.name}: {said_by_torch}", f"see what nvidia-smi says, or {other}")
    capability = (properties.major, properties.minor)
    version = ".".join(map(str, capability))
    half = "bf16" if capability >= BF16 else "no bf16: precision=auto computes in fp32, precision=fp16 is faster"
    words = f"{properties.name}, {said(left)} of {said(size)} are free, capability {version}, {half}"
    figures = {
        "name": properties.name,
        "memory_free": left,
        "memory": size,
        "capability": version,
        "bf16": capability >= BF16,
    }
    users = programs.get(f"GPU-{str(getattr(properties, 'uuid', '')).removeprefix('GPU-')}", [])
    by_whom = f"; used by {', '.join(users)}" if users else ""
    if left < FULL:
        return Finding(
            PROBLEM, subject, f"{words}: too little{by_whom}", f"end other programs on it, or {other}", figures
        )
    if size - left > max(FULL, TAKEN * size):
        return Finding(NOTE, subject, f"{words}{by_whom}", f"end other programs on it, or {other}", figures)
    return Finding(OK, subject, words, figures=figures)
