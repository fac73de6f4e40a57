"""A step that is built and warm, with what it took until then: the time of its first run, and memory."""

from collections.abc import Callable
from typing import NamedTuple

from tests.bench.measure import seconds
from tests.bench.place import Place
from tests.bench.steps import LonghandStep, Step


class Memory(NamedTuple):
    """Bytes of one step at its worst moment."""

    above: int  # over weights, gradients and momentum
    in_all: int  # on a CPU, of the whole process
    reserved: int  # on a GPU, what its allocator took; the first step's search for kernels is in it


class Built(NamedTuple):
    """A step that is warm, and what was seen of it so far."""

    step: Step | LonghandStep
    first: float  # seconds of the first step, in which libraries search and compile
    memory: Memory


def built(place: Place, build: Callable[[], Step | LonghandStep], small_first: bool = False) -> Built:
    """Builds a step, takes it twice, and looks at its memory the second time.

    Args:
        small_first: whether the first one is small. On a CPU, memory that was taken once may stay with the process. On
            a GPU another size would only make cuDNN search once more.
    """
    place.tidy()
    others, reserved = place.held_by_others(), place.reserved()
    place.forget_peak()
    step = build()
    first = seconds(step.warm_up if small_first else step, place.finish)
    most_reserved = place.most_reserved() - reserved
    gradients = sum(4 * parameter.numel() for network in step.students for parameter in network.parameters())
    before = place.held()
    place.forget_peak()
    seconds(step, place.finish)
    peak = place.peak()
    return Built(step, first, Memory(peak - before - gradients, peak - others, most_reserved))
