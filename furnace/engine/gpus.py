"""How many GPUs of this machine a run uses, and whether this installation of torch can use them."""

import re
import warnings
from collections.abc import Iterable

import torch

from furnace.engine.backend import memory_failure
from furnace.engine.place import environment_integer, find_place, speaks_for_machine
from furnace.errors import CommonInputError, InputError, say_note

BUSY_SHARE = 4  # images; with fewer, a GPU is expected to do its kernels faster than a process can start them
OTHER_GPUS = "choose other GPUs (CUDA_VISIBLE_DEVICES), or set NGPUS=0"


def gpus_to_use(wanted: int | str) -> int:
    """Returns how many GPUs of this machine to use, with one process each; 0 means the CPU.

    It asks the driver's management library alone, so that a process which only starts others takes no GPU.

    Args:
        wanted: the setting NGPUS, a number or "all".

    Raises:
        InputError: fewer GPUs are visible than are wanted, or than torchrun started processes for.
    """
    if wanted == 0:
        return 0
    visible = torch.cuda.device_count()
    started = find_place().local_size
    if visible and started > visible:
        raise InputError(
            f"torchrun started {started} processes, {visible} GPUs are visible; start one for each, or set NGPUS=0"
        )
    if isinstance(wanted, str):  # "all"
        return visible
    if wanted > visible:
        raise InputError(f"NGPUS: {wanted} asked for, {visible} visible; lower it, or set NGPUS=0 to use the CPU")
    return wanted


def gpus_for_batch(wanted: int | str, batch_size: int) -> int:
    """Returns the same as `gpus_to_use`; of all GPUs, it takes as many as can have equal shares of a batch.

    Args:
        wanted: the setting NGPUS, a number or "all".
        batch_size: the images of a step, over all processes of all machines.

    Raises:
        InputError: the GPUs are not there, or the batch cannot be shared out evenly over all processes.
    """
    gpus = gpus_to_use(wanted)
    if find_place().launched:  # torchrun has decided how many processes there are
        _require_share(batch_size, processes_in_all(gpus))
        return gpus
    machines = environment_integer("NNODES", 1, low=1)
    if wanted == "all" and batch_size % max(1, machines * gpus):
        visible, gpus = gpus, max((n for n in range(1, gpus) if batch_size % (machines * n) == 0), default=1)
        on_each = f" on each of {machines} machines" if machines > 1 else ""
        say_note(f"{visible} GPUs are visible, batch_size={batch_size} is shared out over {gpus} of them{on_each}")
    processes = processes_in_all(gpus)
    _require_share(batch_size, processes)
    if gpus and processes > 1 and (share := batch_size // processes) < BUSY_SHARE:
        say_note(
            f"each GPU gets {share} of the {batch_size} images of a batch, and may wait for its kernels to be started; "
            "a larger batch_size or a lower NGPUS may use the GPUs better"
        )
    return gpus


def processes_in_all(gpus: int) -> int:
    """Returns the number of processes of a run on all machines, where this one uses `gpus` GPUs."""
    if (place := find_place()).launched:
        return place.size
    return max(1, gpus) * environment_integer("NNODES", 1, low=1)


def _require_share(batch_size: int, processes: int) -> None:
    if batch_size % processes:
        raise InputError(
            f"batch_size: {batch_size} cannot be shared out over {processes} processes; "
            f"expected a multiple of {processes}; change batch_size or NGPUS"
        )


def take_device(gpus: int) -> torch.device:
    """Returns the device of this process; a GPU is made ready here.

    Args:
        gpus: how many GPUs of this machine are used; 0 means the CPU.

    Raises:
        InputError: the GPU cannot be used. What all processes of a machine find alike is a CommonInputError in all of
            them but one.
    """
    if gpus == 0:
        return torch.device("cpu")
    place = find_place()
    if reason := why_unusable(range(place.local_size)):
        raise InputError(reason) if speaks_for_machine() else CommonInputError(reason)
    try:
        torch.cuda.set_device(place.local_rank)
    except RuntimeError as error:
        full = memory_failure(error) is not None
        raise InputError(
            f"NGPUS: GPU {place.local_rank} cannot be used: {_sentence(error)}; "
            f"{'end other programs on it, ' if full else 'see what nvidia-smi says, '}{OTHER_GPUS}"
        ) from error
    return torch.device("cuda", place.local_rank)


def why_unusable(numbers: Iterable[int]) -> str | None:
    """Returns a line about the driver, or about the first of these GPUs that torch is not built for; None without."""
    with warnings.catch_warnings(record=True) as heard:  # torch warns in many lines of what is said here in one
        warnings.simplefilter("always")
        try:
            torch.cuda.init()  # type: ignore[no-untyped-call]  # torch does not annotate it
            capabilities = {number: torch.cuda.get_device_capability(number) for number in numbers}
        except RuntimeError as error:
            return (
                f"NGPUS: {torch.cuda.device_count()} GPUs are visible, torch {torch.__version__} cannot use them: "
                f"{_sentence(error)}; update the driver, install a torch that is built for it, or set NGPUS=0"
            )
    built_for = torch.cuda.get_arch_list()
    for number, (major, minor) in capabilities.items():
        if not _runs_on(built_for, major, minor):
            return (
                f"NGPUS: GPU {number} ({torch.cuda.get_device_name(number)}) is of sm_{major}{minor}, torch "
                f"{torch.__version__} is built for {', '.join(built_for)}; install a torch that is built for it, "
                f"{OTHER_GPUS}"
            )
    for warning in heard:
        warnings.warn_explicit(warning.message, warning.category, warning.filename, warning.lineno)
    return None


def _runs_on(built_for: Iterable[str], major: int, minor: int) -> bool:
    """Whether a GPU of this capability runs any of the code that torch was built with.

    Binary code (`sm_86`) runs on GPUs of its generation, from its own minor number on; a letter behind the number binds
    it more closely. Intermediate code (`compute_90`) runs on all newer ones. What has another form is not judged.
    """
    forms = [re.fullmatch(r"(sm|compute)_(\d+)(\d)([a-z]?)", text) for text in built_for]
    known = [form.groups() for form in forms if form]
    if len(known) < len(forms) or not known:
        return True
    found = (major, minor)
    for kind, code_major, code_minor, letter in known:
        code = (int(code_major), int(code_minor))
        if letter == "a":
            runs = found == code
        elif kind == "compute" and not letter:
            runs = found >= code
        else:
            runs = found[0] == code[0] and found >= code
        if runs:
            return True
    return False


def _sentence(error: Exception) -> str:
    """Returns the first sentence of an error of torch."""
    return str(error).partition("\n")[0].partition(". ")[0].rstrip(". ")
