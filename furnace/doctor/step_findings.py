"""What is said of steps: that one is being taken, that it may take long, and what was seen."""

from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager

import torch

from furnace.doctor.arithmetic import said_duration, said_seconds
from furnace.doctor.finding import NOTE, OK, Finding
from furnace.doctor.fitting import LEAST
from furnace.doctor.one_process import OneProcess
from furnace.doctor.steps import Taken
from furnace.engine.bars import bar
from furnace.errors import counted

LONG = 20.0  # seconds of a step that are worth a word before more of them are taken


def doing(what: str) -> AbstractContextManager:
    """A context in which a terminal shows what is being done."""
    return bar(desc=what, bar_format="{desc} ...", leave=False, disable=None)


def about_slow_steps(process: OneProcess, seconds: float) -> Iterator[Finding]:
    """Yields a note where a step will take long, so that nobody waits who does not want to.

    Args:
        process: which takes it.
        seconds: that it may take.
    """
    if process.world.device.type == "cpu" and seconds > LONG:
        found = f"one will take about {said_duration(seconds)} here; figures come from few of them"
        yield Finding(NOTE, "step", found, "interrupt it (Ctrl-C) if that is enough to know", {"seconds": seconds})


def about_steps(process: OneProcess, taken: Sequence[Taken]) -> Iterator[Finding]:
    """Yields how long a step takes, for each kind of them."""
    settings = process.experiment.settings
    works, several = process.works(), f" of {process.processes} processes" if process.processes > 1 else ""
    where = device_name(process.world.device)
    for work, steps in zip(works, taken, strict=True):
        least, most, count = min(steps.seconds), max(steps.seconds), len(steps.seconds)
        kind = "" if len(works) == 1 else ", with pairs" if work.with_pairs else ", before pairs are used"
        images = f"{process.images} images of {settings.image_size}" + (" and as many pairs" if work.with_pairs else "")
        found = (
            f"{said_seconds(steps.median)} ({said_seconds(least)} to {said_seconds(most)}, {count} of them; "
            f"the first {said_seconds(steps.first)}){kind}: {images}{several}, "
            f"{str(process.learner.dtype).removeprefix('torch.')} on {where}"
        )
        figures = {
            "with_pairs": work.with_pairs,
            "iterations": work.iterations,
            "seconds": steps.median,
            "least_seconds": least,
            "most_seconds": most,
            "steps": count,
            "first_seconds": steps.first,
            "images_a_process": process.images,
            "processes": process.processes,
            "device": where,
        }
        yield Finding(OK, "step", found, "", figures)
    if process.tries_more:
        found = (
            "a process of the run has one image, which cannot be tried alone: "
            f"steps and their memory are those of {LEAST} images, and at most that in the run"
        )
        yield Finding(NOTE, "step", found)


def device_name(device: torch.device) -> str:
    """Returns the device as people call it."""
    if device.type == "cuda":
        return torch.cuda.get_device_name(device)
    return f"a CPU with {counted(torch.get_num_threads(), 'thread')}"
