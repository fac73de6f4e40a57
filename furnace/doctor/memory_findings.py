"""Whether the memory holds the run: the device's, the machine's own, and what loading workers hand over through."""

from dataclasses import replace

from furnace.data.loaders import batch_bytes, image_bytes
from furnace.doctor.finding import NOTE, OK, PROBLEM, Finding, of_error
from furnace.doctor.fitting import LEAST, images_in, largest_that_fits
from furnace.doctor.one_process import OneProcess
from furnace.doctor.peaks import Memory, Peaks
from furnace.engine.memory import free, resident, said
from furnace.engine.shared_memory import FOLDER, bytes_ahead, free_bytes
from furnace.errors import InputError

FURTHEST = 8  # times the images that were tried; a line through two peaks tells little of what lies beyond
TIGHT = 0.9  # of a device's memory; where more is taken, other programs or other images may be too much


class Sizes:
    """Peaks of steps with other numbers of images than the run's own.

    Attributes:
        peaks: bytes by the number of images, of the steps for which there was room.
    """

    def __init__(self, process: OneProcess) -> None:
        self.process, self.counter = process, Peaks(process.world.device)
        self.peaks: dict[int, float] = {}

    def peak_of(self, images: int) -> float | None:
        """Takes a step, and returns its peak; None if there was no room for it."""
        # A GPU's first step of a size tries kernels, which takes memory too. The second shows what stays.
        for _ in range(2 if self.counter.on_gpu else 1):
            before = self._remembered()
            self.counter.forget()
            if not self.process.try_step(images):
                return None
            # What optimizers remember is made at the end of the first step, and held at the worst moment of all others.
            self.peaks[images] = self.counter.seen().device + self._remembered() - before
        self.process.tidy()  # or what an allocator keeps would count with the next size
        return self.peaks[images]

    def _remembered(self) -> int:
        """Returns the bytes that optimizers keep of the weights."""
        return sum(
            value.nbytes
            for optimizer in self.process.learner.optimizers
            for state in optimizer.state.values()
            for value in state.values()
            if hasattr(value, "nbytes")
        )


def another_size(images: int) -> int:
    """Returns a number of images whose peak, beside that of `images`, tells what each image takes."""
    return max(LEAST, images // 2) if images > LEAST else 2 * LEAST


def on_device(process: OneProcess, memory: Memory, peaks: dict[int, float]) -> Finding:
    """Returns how much of the device's memory a process takes, and about how large a batch it would hold.

    Args:
        process: which took the steps.
        memory: at their worst moment.
        peaks: bytes by the number of images, of this and another size.
    """
    counter = Peaks(process.world.device)
    room = counter.room()
    about = _images_that_fit(process, room, peaks)
    figures = {
        "images_a_process": process.images,
        "peak_bytes": memory.device,
        "reserved_bytes": memory.reserved,
        "room_bytes": room,
        "largest_batch_size": about * process.processes or None,
    }
    taken = f"{said(memory.device)} at the worst moment"
    if counter.on_gpu:
        taken += f", {said(memory.reserved)} with what kernels tried"
    found = f"{taken}, of {said(room)} that a process may have on {process.world.device}"
    if about > process.share:
        found += f"; a batch_size of about {about * process.processes} would fit"
    if memory.reserved > TIGHT * room:
        return Finding(
            NOTE, "device memory", found, "lower batch_size or image_size if a run ends for want of it", figures
        )
    return Finding(OK, "device memory", found, "", figures)


def _images_that_fit(process: OneProcess, room: float, peaks: dict[int, float]) -> int:
    """Returns about how many images a process has room for, as far as its lists and the sizes that were tried tell.

    It returns 0 where nothing tells.
    """
    fit = images_in(room, peaks)
    if fit is None:
        return 0
    most = min(fit, FURTHEST * process.images, process.listed // process.processes)
    return max(process.images, roughly(most))  # for these there was room


def roughly(number: int) -> int:
    """Returns a whole number of which only the first two digits are known."""
    unit = 10 ** max(0, len(str(number)) - 2)
    return number // unit * unit


def too_large(process: OneProcess, images: int | None, reason: str) -> Finding:
    """Returns that there is no room for a step.

    Args:
        process: which took it.
        images: the most of a process for which there is room; None if there is none, or none was looked for.
        reason: why not.
    """
    if process.tries_more and not process.why_no_room(process.share):
        found = f"{reason}; a process of the run has one image, which cannot be tried alone, and may fit"
        return Finding(NOTE, "device memory", found, "lower image_size if a run ends for want of memory")
    if process.experiment.settings.compile:
        remedy = "lower batch_size or image_size, or set compile=0, with which the largest that fits is looked for"
        return Finding(PROBLEM, "device memory", reason, remedy)
    size = process.experiment.settings.image_size
    if images is None:
        remedy = f"lower image_size (it is {size}), or take a smaller backbone or width"
        return Finding(
            PROBLEM, "device memory", f"{reason}; not even {LEAST} images fit", remedy, {"largest_batch_size": 0}
        )
    largest = images * process.processes
    remedy = f"set batch_size={largest}, the largest for which a step was taken, or lower image_size (it is {size})"
    return Finding(PROBLEM, "device memory", reason, remedy, {"largest_batch_size": largest})


def search(process: OneProcess, sizes: Sizes) -> int | None:
    """Returns the largest number of images, below the process's own, for which a step was taken; None if none was."""
    return largest_that_fits(sizes.peak_of, process.images, sizes.counter.room())


def on_host(process: OneProcess, memory: Memory, workers: int) -> Finding:
    """Returns how much of the machine's own memory the processes take here with their workers.

    Args:
        process: which took the steps.
        memory: at their worst moment.
        workers: bytes of all workers of one process.
    """
    needed = process.here * (memory.host + workers)
    room = free() + resident()  # workers have ended, and what this process held at its worst moment is free again
    figures = {"process_bytes": memory.host, "workers_bytes": workers, "needed_bytes": needed, "room_bytes": room}
    with_workers = f" and {said(workers)} in its workers ({process.workers})" if workers else ""
    several = f", {process.here} processes {said(needed)}" if process.here > 1 else ""
    found = f"{said(memory.host)} in the process{with_workers}{several}, of {said(room)}"
    if needed > room:
        return Finding(PROBLEM, "host memory", found, "lower num_workers or NGPUS, or allow more memory", figures)
    return Finding(OK, "host memory", found, "", figures)


def in_shared_memory(process: OneProcess) -> Finding:
    """Returns how much of /dev/shm loading workers need, as the run itself will ask."""
    settings, sizes = process.experiment.settings, [batch_bytes(process.samples(True, process.share).plan, 1)]
    if settings.validate_epochs:
        split = process.experiment.split("val")
        sizes.append(image_bytes(split, range(len(split.files))))
    needed = bytes_ahead(sizes, process.workers, process.here)
    figures = {"needed_bytes": needed}
    if not process.workers:
        return Finding(OK, "shared memory", f"none of {FOLDER} is needed without workers", "", figures)
    try:
        left = free_bytes()
    except InputError as error:
        return replace(of_error(PROBLEM, "shared memory", error), figures=figures)
    figures["free_bytes"] = left
    found = f"workers need {said(needed)} of {FOLDER}, {said(left)} are free"
    if needed <= left:
        return Finding(OK, "shared memory", found, "", figures)
    remedy = f"enlarge it (docker run --shm-size={-(-needed // 2**30)}g), or lower num_workers"
    return Finding(PROBLEM, "shared memory", found, remedy, figures)
