"""What a run as it is set will take on this machine: hours, memory, disk, and what limits it.

`examine` reads the experiment as `train` does and takes the program's own steps, with its own loader. It writes nothing
that stays. Begin there: it says in which order things are looked at.
"""

import time
from collections.abc import Generator, Iterator
from contextlib import ExitStack, nullcontext
from pathlib import Path
from tempfile import TemporaryDirectory

from furnace.config.experiment import Experiment
from furnace.data.reading import crashes_named
from furnace.doctor.arithmetic import Part
from furnace.doctor.finding import NOTE, PROBLEM, Finding, of_error
from furnace.doctor.loading import limit, load_seconds
from furnace.doctor.made_data import is_there, lengths, with_made_data
from furnace.doctor.memory_findings import Sizes, another_size, in_shared_memory, on_device, on_host, search, too_large
from furnace.doctor.one_process import OneProcess
from furnace.doctor.run_time import run_time
from furnace.doctor.scoring import time_scoring
from furnace.doctor.step_findings import about_slow_steps, about_steps, doing
from furnace.doctor.steps import Taken, take_steps
from furnace.doctor.storage import bytes_there, most_bytes, on_disk, prediction_bytes, saved_bytes
from furnace.doctor.train_checks import refusals, with_epochs, with_networks, without_pairs
from furnace.engine.backend import memory_failure, prepare_backends
from furnace.engine.compiler import compiler_named
from furnace.engine.distributed import World
from furnace.engine.gpus import gpus_for_batch, processes_in_all
from furnace.engine.join import join_world
from furnace.errors import InputError, in_short

# Seconds: steps of all kinds together, loading of each kind, scoring.
BUDGETS = {"cuda": (20.0, 2.0, 8.0), "cpu": (30.0, 1.5, 10.0)}


def examine(experiment: Experiment) -> Generator[Finding, None, None]:
    """Yields what `train` would refuse of the experiment, and what the run will take, as it becomes known.

    Args:
        experiment: its data set's folder need not be there (`read_experiment` with `with_data=False`).
    """
    experiment, faults = with_epochs(experiment)
    yield from faults
    yield from refusals(experiment)
    with doing("looking at networks and weights"):
        ready, faults = with_networks(experiment)
    yield from faults
    if ready is None:
        return
    with ExitStack() as files:
        if is_made := not is_there(ready):
            try:
                made = TemporaryDirectory(prefix="furnace-doctor-", ignore_cleanup_errors=True)
                with doing("making images"):
                    ready = with_made_data(ready, Path(files.enter_context(made)))
            except OSError as error:
                found = f"its files are not all there, and none can be made for steps: {in_short(error)}"
                yield Finding(NOTE, "data", found, "put the data there, or free space in the folder of TMPDIR or /tmp")
                return
            length = lengths(ready)
            yield Finding(
                NOTE,
                "data",
                f"its files are not all there: what follows is measured with made images; "
                f"{length.labeled} labelled, {length.unlabeled} unlabelled, {length.val} for validation are assumed",
                "",
                {"labeled": length.labeled, "unlabeled": length.unlabeled, "val": length.val},
            )
        if fault := without_pairs(ready):
            yield from [fault] if is_made else []  # else it was said of the lists that are there
            return
        try:
            with compiler_named() if ready.settings.compile else nullcontext(), crashes_named():
                yield from _measured(ready)
        except InputError as error:
            yield of_error(PROBLEM, "run", error)
        except (MemoryError, RuntimeError) as error:
            if (reason := memory_failure(error)) is None:
                raise
            yield Finding(PROBLEM, "device memory", f"none was left: {reason}", "lower image_size or batch_size")


def _measured(experiment: Experiment) -> Iterator[Finding]:
    """Yields what is measured of a run whose data is there."""
    settings = experiment.settings
    prepare_backends(settings.deterministic)
    gpus = gpus_for_batch(settings.NGPUS, settings.batch_size)
    processes, here = processes_in_all(gpus), max(1, gpus)
    world = join_world(min(1, gpus), settings.timeout_minutes)
    if processes > 1:
        found = (
            f"{processes} processes: one is tried alone, with its share of the batch; exchanges are neither in "
            "its time nor in its memory (DistributedDataParallel keeps the gradients of both students)"
        )
        yield Finding(NOTE, "processes", found, "", {"processes": processes, "here": here})
    with doing("building networks"):
        process = _process(experiment, world, processes, here)
    if process is None:
        found = f"there is no room for the networks on {world.device}"
        yield Finding(PROBLEM, "device memory", found, "take a smaller backbone or width, or end other programs there")
        return
    sizes, other = Sizes(process), another_size(process.images)
    if other < process.images and not settings.compile:  # first, because a process may keep what it once took
        begun = time.monotonic()
        with doing(f"taking a step of {other} images"):
            peak = sizes.peak_of(other)
        if peak is not None:
            yield from about_slow_steps(process, (time.monotonic() - begun) * process.images / other)
    taken, reason = _taken(process)
    if reason:
        with doing("looking for a batch that fits"):
            images = None if settings.compile else search(process, sizes)
        yield too_large(process, images, reason)
        return
    last = taken[-1].memory
    sizes.peaks[process.images] = last.device
    if other > process.images and not settings.compile:
        sizes.peak_of(other)
    yield from about_steps(process, taken)
    yield on_device(process, last, sizes.peaks)
    if world.device.type == "cuda" or process.workers:
        yield on_host(process, last, taken[-1].workers)
    yield in_shared_memory(process)
    yield from _whole(process, taken)


def _whole(process: OneProcess, taken: list[Taken]) -> Iterator[Finding]:
    """Yields what limits the run, how long it takes and what it writes."""
    experiment, settings = process.experiment, process.experiment.settings
    _, loading, scoring = BUDGETS[process.world.device.type]
    parts = []
    with doing("loading images"):
        for work, steps in zip(process.works(), taken, strict=True):
            images = process.share * (3 if work.with_pairs else 1)
            parts.append(Part(work.iterations, images, steps.median, load_seconds(process, work, loading)))
    yield limit(process, parts[-1])
    saved = saved_bytes(process.learner)
    an_image, faults = time_scoring(process, scoring) if experiment.needs_validation_images else (0.0, [])
    yield from faults
    yield run_time(process, parts, saved, an_image)
    snapshots = max(0, most_bytes(settings, experiment.epochs, saved) - bytes_there(settings))
    wanted = [("snapshots", settings.snapshot_dir, snapshots)]
    if settings.eval_epochs != "none" and settings.save_predictions != "none":
        wanted.append(("predictions", settings.OUTPUT_PATH, prediction_bytes(experiment.split("val"))))
    yield from on_disk(wanted)


def _process(experiment: Experiment, world: World, processes: int, here: int) -> OneProcess | None:
    """Returns one process of the run; None if its networks find no room on the device."""
    try:
        return OneProcess(experiment, world, processes, here)
    except (MemoryError, RuntimeError) as error:
        if memory_failure(error) is None:
            raise
    return None


def _taken(process: OneProcess) -> tuple[list[Taken], str]:
    """Takes steps of each kind; returns what was seen of them, and why one found no room, which may be empty."""
    if reason := process.why_no_room(process.images):
        return [], reason
    budget, works = BUDGETS[process.world.device.type][0], process.works()
    try:
        return [take_steps(process, work, budget / len(works)) for work in works], ""
    except (MemoryError, RuntimeError) as error:
        if (failure := memory_failure(error)) is None:
            raise
    process.tidy()  # only now, because the error held what the step had taken
    return [], f"{process.described(process.images)} finds no room on {process.world.device}: {failure}"
