"""Compares the memory that is known to be needed with what is free, before it is taken.

Linux grants a process memory that the machine does not have, and kills it once it uses it, without a word. So what
needs much asks here first.
"""

import os
import resource
import weakref
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any

import torch
from torch import nn
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_iter

from furnace.engine.machine import control_groups
from furnace.errors import InputError
from furnace.network.rehearsal import copy_with

CPU = torch.device("cpu")
PROCESS, MACHINE = Path("/proc/self"), Path("/proc/meminfo")
Files = tuple[str, str, tuple[str, ...]]
# The files of a control group that say its limit, its use, and what of that the system gives back when it must.
VERSION_1: Files = ("memory.limit_in_bytes", "memory.usage_in_bytes", ("total_inactive_file", "total_active_file"))
VERSION_2: Files = ("memory.max", "memory.current", ("inactive_file", "active_file", "slab_reclaimable"))


def require(needed: float, what: str, remedy: str, device: torch.device = CPU) -> None:
    """Raises InputError if `what` needs more bytes on a device than are free there."""
    left = free(device)
    if needed > left:
        raise InputError(f"{what} needs about {said(needed)} of memory on {device}, {said(left)} are free; {remedy}")


def free(device: torch.device = CPU) -> float:
    """Returns how many bytes this process can still take on a device; infinity if nothing tells."""
    if device.type == "cuda":
        unused = torch.cuda.memory_reserved(device) - torch.cuda.memory_allocated(device)
        return torch.cuda.mem_get_info(device)[0] + unused
    return max(0, min(_of_machine(), _of_address_space(), *_of_groups()))


def resident() -> int:
    """Returns how many bytes of the machine's memory this process takes; 0 if nothing tells."""
    pages = _text(PROCESS / "statm").split()
    return int(pages[1]) * os.sysconf("SC_PAGE_SIZE") if len(pages) > 1 else 0


def said(size: float) -> str:
    """Returns a number of bytes as people read it."""
    unit, name = next(((unit, name) for unit, name in ((1e9, "GB"), (1e6, "MB")) if size >= unit), (1e3, "kB"))
    return f"{size / unit:.{int(name == 'GB')}f} {name}"


def peak_of(build: Callable[[], nn.Module], work: Callable[[nn.Module], object]) -> int:
    """Returns how many bytes of tensors `work` holds at once, beside those of the network that it is given.

    It is done with tensors that have sizes but no values, so that this takes a moment and no memory. They count as
    lying on a CPU. Unlike torch's meta device, a CPU computes attention without whole maps of it, as GPUs do.

    Args:
        build: makes a network, whose own tensors may be on the meta device.
        work: what is looked at; tensors that it makes have no values.

    Returns:
        0 if it cannot be done without values.
    """
    try:
        with torch.random.fork_rng(devices=()):
            network = build()
            with FakeTensorMode():
                network = copy_with(network, _without_values)
                with Counting((*network.parameters(), *network.buffers())) as counting:
                    work(network)
    except Exception:  # a network of the user's own may look at values
        return 0
    return counting.peak


def _without_values(tensor: torch.Tensor) -> torch.Tensor:
    """Returns a tensor of the same form on the CPU; within FakeTensorMode it has no values."""
    return torch.empty_strided(tensor.shape, tensor.stride(), dtype=tensor.dtype, device=CPU)


class Counting(TorchDispatchMode):  # type: ignore[no-untyped-call]  # torch does not annotate it
    """Counts the bytes of all tensors that are made and not yet given back.

    Args:
        before: tensors that are there already; views of them do not count either.
    """

    def __init__(self, before: Iterable[torch.Tensor] = ()) -> None:
        super().__init__()  # type: ignore[no-untyped-call]  # torch does not annotate it
        self.live = self.peak = 0
        self._seen = {tensor.untyped_storage()._cdata for tensor in before}

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        result = func(*args, **(kwargs or {}))
        for tensor in tree_iter(result):
            if isinstance(tensor, torch.Tensor):
                self._count(tensor.untyped_storage())
        self.peak = max(self.peak, self.live)
        return result

    def _count(self, storage: torch.UntypedStorage) -> None:
        key, size = storage._cdata, storage.nbytes()
        if key not in self._seen:  # views share one storage
            self._seen.add(key)
            self.live += size
            weakref.finalize(storage, self._forget, key, size)

    def _forget(self, key: int, size: int) -> None:
        self._seen.discard(key)
        self.live -= size


def _of_machine() -> float:
    """Returns what the machine can give without killing anybody: what is available, and room to swap."""
    known = _numbers(MACHINE)
    return 1024 * (known["MemAvailable:"] + known.get("SwapFree:", 0)) if "MemAvailable:" in known else float("inf")


def _of_address_space() -> float:
    """Returns what the limit `ulimit -v` leaves."""
    limit, _ = resource.getrlimit(resource.RLIMIT_AS)
    pages = _text(PROCESS / "statm").split()
    return float("inf") if limit < 0 or not pages else limit - int(pages[0]) * os.sysconf("SC_PAGE_SIZE")


def _of_groups() -> Iterator[float]:
    """Yields what each control group leaves that this process is in."""
    for folder, version in control_groups("memory"):
        yield _of_group(folder, *(VERSION_1 if version == 1 else VERSION_2))


def _of_group(folder: Path, limit_file: str, use_file: str, reclaimable: tuple[str, ...]) -> float:
    limit, use = _text(folder / limit_file).strip(), _text(folder / use_file).strip()
    if not (limit.isdigit() and use.isdigit()):  # no such group here, or one without a limit
        return float("inf")
    counts = _numbers(folder / "memory.stat")
    return int(limit) - int(use) + sum(counts.get(name, 0) for name in reclaimable)


def _numbers(path: Path) -> dict[str, int]:
    """Returns the names and numbers that begin the lines of a file of the system."""
    words = (line.split() for line in _text(path).splitlines())
    return {line[0]: int(line[1]) for line in words if len(line) > 1 and line[1].isdigit()}


def _text(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8", errors="replace")
    except OSError:
        return ""
