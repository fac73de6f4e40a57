"""The memory that a process holds at its worst moment: its own, its device's, and what its loading workers add."""

import multiprocessing
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

import torch

from furnace.engine import memory

PROCESSES = Path("/proc")


@dataclass(frozen=True)
class Memory:
    """Bytes at the worst moment since `Peaks.forget`.

    Attributes:
        host: of the machine's memory, by this process.
        device: by tensors on the device; on a CPU the same as `host`.
        reserved: what torch's allocator has taken from the device, with what libraries tried; on a CPU the same again.
    """

    host: int
    device: int
    reserved: int


class Peaks:
    """Counts from `forget` on."""

    def __init__(self, device: torch.device) -> None:
        self.device = device
        self.on_gpu = device.type == "cuda"

    def forget(self) -> None:
        """Lets the worst moment count from here. Where the system does not let us, that of the process counts on."""
        with suppress(OSError):
            (PROCESSES / "self/clear_refs").write_text("5", encoding="ascii")
        if self.on_gpu:
            torch.cuda.reset_peak_memory_stats(self.device)

    def seen(self) -> Memory:
        """Returns the bytes of the worst moment."""
        host = bytes_in("self/status", "VmHWM:") or memory.resident()
        if not self.on_gpu:
            return Memory(host, host, host)
        taken, reserved = torch.cuda.max_memory_allocated(self.device), torch.cuda.max_memory_reserved(self.device)
        return Memory(host, taken, reserved)

    def room(self) -> float:
        """Returns how many bytes this process may hold on the device in all; infinity if nothing tells."""
        held = torch.cuda.memory_allocated(self.device) if self.on_gpu else memory.resident()
        return memory.free(self.device) + held


def workers_bytes() -> int:
    """Returns how many bytes the loading workers that run now hold, beside what they share with this process."""
    return sum(
        bytes_in(f"{worker.pid}/smaps_rollup", name)
        for worker in multiprocessing.active_children()
        for name in ("Private_Clean:", "Private_Dirty:")
    )


def bytes_in(table: str, name: str) -> int:
    """Returns what a line of a table below /proc says, in bytes; 0 if there is no such line."""
    with suppress(OSError):
        for line in (PROCESSES / table).read_text(encoding="ascii", errors="replace").splitlines():
            if line.startswith(name):
                return int(line.split()[1]) * 1024
    return 0
