"""Everything that is looked at on a machine, in the order in which it is told. No check raises an error."""

import warnings
from collections.abc import Callable, Iterable, Iterator
from typing import NamedTuple

from furnace.doctor import packages, torchvision_fit
from furnace.doctor.finding import NOTE, Finding
from furnace.doctor.wanted import Wanted
from furnace.errors import in_short


class Check(NamedTuple):
    """What is looked at, and by which function."""

    subject: str
    look: Callable[[Wanted], Iterable[Finding]]


OF_PACKAGES = (
    Check("Python", packages.python),
    Check("packages", packages.installed),
    Check("torchvision", torchvision_fit.fits),
    Check("OpenCV", packages.one_opencv),
    Check("imports", packages.imports),
)


def examine_machine(wanted: Wanted) -> Iterator[Finding]:
    """Looks at everything, and yields what is found as soon as it is known."""
    yield from _looked(OF_PACKAGES, wanted)
    if packages.faults():
        yield Finding(NOTE, "machine", "the rest was not looked at, which needs the packages above")
    else:
        yield from _looked(of_machine(), wanted)
        if not wanted.is_named:
            yield from _looked(without_experiment(), wanted)


def of_machine() -> tuple[Check, ...]:
    """Returns the checks that need the packages of a run, which therefore are imported here."""
    from furnace.doctor import cards, disks, surroundings, system

    return (
        Check("GPUs", cards.gpus),
        Check("cores", system.cores_allowed),
        Check("threads", surroundings.threads),
        Check("memory", system.memory_free),
        Check("open files", system.open_files),
        Check("temporary files", disks.temporary_files),
        Check("clock", surroundings.clock),
        Check("terminal", surroundings.terminal),
        Check("environment", surroundings.environment),
        Check("network", surroundings.network),
    )


def without_experiment() -> tuple[Check, ...]:
    """Returns the checks of what runs read and write; of an experiment that is named, its own needs are looked at."""
    from furnace.doctor import caches, data_folder, disks, system

    return (
        Check("/dev/shm", system.shared_memory),
        Check("disk", disks.disk),
        Check("data", data_folder.data_sets),
        Check("weights", data_folder.weights),
        Check("hub's cache", caches.hub),
    )


def _looked(checks: Iterable[Check], wanted: Wanted) -> Iterator[Finding]:
    """Yields what checks find; one that fails itself makes a note."""
    for subject, look in checks:
        found: list[Finding] = []
        try:
            with warnings.catch_warnings():  # what libraries warn of is said here in a line of its own
                warnings.simplefilter("ignore")
                found.extend(look(wanted))
        except Exception as error:  # whatever a machine does that nobody has seen yet
            found.append(Finding(NOTE, subject, f"could not be looked at: {in_short(error)}"))
        yield from found
