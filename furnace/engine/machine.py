"""What the system lets this process use of the machine: its cores, and the control groups that limit it."""

import os
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

GROUPS, OWN_GROUPS = Path("/sys/fs/cgroup"), Path("/proc/self/cgroup")


def cores() -> int:
    """Returns how many processor cores this process may use: those it may run on, and no more than its time allows."""
    return max(1, min(len(os.sched_getaffinity(0)), *map(round, _quotas())))


def _quotas() -> Iterator[float]:
    """Yields how many cores' time each control group grants, as containers and Slurm limit it."""
    yield float(2**20)  # where nothing limits it
    for folder, version in control_groups("cpu"):
        with suppress(OSError, ValueError, ZeroDivisionError):  # ValueError: "max"
            if version == 2:
                quota, period = map(int, (folder / "cpu.max").read_text(encoding="utf-8").split())
            else:
                quota, period = (
                    int((folder / f"cpu.cfs_{name}_us").read_text(encoding="utf-8")) for name in ("quota", "period")
                )
            if quota > 0:  # -1: no limit
                yield quota / period


def control_groups(controller: str) -> Iterator[tuple[Path, int]]:
    """Yields the folders of the control groups that this process is in, from the innermost to the outermost.

    In a container, groups may be named as outside of it, so that folders are missing; then the uppermost one that can
    be seen is the container's own.

    Args:
        controller: what the groups limit, such as "cpu" or "memory".

    Yields:
        A folder, which may be missing, and the version of control groups that it belongs to.
    """
    try:
        lines = OWN_GROUPS.read_text(encoding="utf-8", errors="replace").splitlines()
    except OSError:
        return
    for line in lines:
        _, controllers, path = line.split(":", 2)
        if controller in controllers.split(","):
            top, version = GROUPS / controller, 1
        elif not controllers:
            top, version = GROUPS, 2
        else:
            continue
        below = Path(path.lstrip("/"))
        for part in (below, *below.parents):
            yield top / part, version
