"""Which of how many processes this one is. Nothing else reads the environment variables in which torchrun says it."""

import os
from dataclasses import dataclass

from furnace.errors import InputError

NEEDED = ("RANK", "WORLD_SIZE", "LOCAL_RANK", "MASTER_ADDR", "MASTER_PORT")  # torchrun sets them all
OF_ONE_PROCESS = {"RANK": "0", "WORLD_SIZE": "1", "LOCAL_RANK": "0", "LOCAL_WORLD_SIZE": "1"}


@dataclass(frozen=True)
class Place:
    """This process among all of a run (rank, size), and among those of its machine (local_rank, local_size)."""

    rank: int = 0
    size: int = 1
    local_rank: int = 0
    local_size: int = 1
    launched: bool = False  # by torchrun, or by what sets the same variables


def find_place() -> Place:
    """Returns the place that torchrun gave this process, or that of a process which nobody started beside others.

    Raises:
        InputError: the environment says that there are other processes, but not where they meet. So the variables
            are left over from something else.
    """
    missing = [name for name in NEEDED if not os.environ.get(name)]
    if missing:
        for name, alone in OF_ONE_PROCESS.items():
            if (value := os.environ.get(name) or alone) != alone:
                raise InputError(
                    f"{name}={value} is set in the environment, as if torchrun had started this process, but not "
                    f"{', '.join(missing)}; unset {name} (NNODES and NODE_RANK describe several machines)"
                )
        return Place()
    rank, size = environment_integer("RANK", 0), environment_integer("WORLD_SIZE", 1, low=1)
    local_rank = environment_integer("LOCAL_RANK", 0)
    local_size = environment_integer("LOCAL_WORLD_SIZE", min(size, local_rank + 1), low=1)
    if rank >= size or local_rank >= local_size:
        raise InputError(
            f"RANK={rank}, WORLD_SIZE={size}, LOCAL_RANK={local_rank}, LOCAL_WORLD_SIZE={local_size} in the "
            "environment do not fit together; unset them, or let torchrun set them"
        )
    return Place(rank, size, local_rank, local_size, launched=True)


def speaks_for_machine() -> bool:
    """Whether this process reports what all processes on its machine find alike."""
    try:
        return find_place().local_rank == 0
    except InputError:
        return True


def environment_integer(name: str, default: int, low: int = 0) -> int:
    """Returns the whole number that an environment variable holds, or `default` if it is not set.

    Raises:
        InputError: it holds anything else, or a number below `low`.
    """
    value = os.environ.get(name) or str(default)
    if not value.isdecimal() or int(value) < low:
        raise InputError(
            f"{name}: expected a whole number of at least {low}, found {value!r}; set it in the environment"
        )
    return int(value)
