"""Everything that is looked at on a machine, in the order in which it is told. No check raises an error."""

import warnings
from collections.abc import Callable, Iterable, Iterator
from typing import NamedTuple

from furnace.doctor import packages
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
    Check("torchvision", packages.torchvision_fits),
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


def of_machine() -> tuple[Check, ...]:
    """Returns the checks that need the packages of a run, which therefore are imported here."""
    from furnace.doctor import caches, cards, data_folder, disks, surroundings, system

    return (
        Check("GPUs", cards.gpus),
        Check("cores", system.cores_allowed),
        Check("threads", surroundings.threads),
        Check("memory", system.memory_free),
        Check("/dev/shm", system.shared_memory),
        Check("open files", system.open_files),
        Check("disk", disks.disks),
        Check("temporary files", disks.temporary_files),
        Check("data", data_folder.data_sets),
        Check("weights", data_folder.weights),
        Check("hub's cache", caches.hub),
        Check("torch's cache", caches.torch_hub),
        Check("clock", surroundings.clock),
        Check("terminal", surroundings.terminal),
        Check("environment", surroundings.environment),
        Check("network", surroundings.network),
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
