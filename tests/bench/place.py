"""Where a benchmark runs, a CPU or a GPU: how its end is waited for, and what counts its memory."""

import gc
import os
from pathlib import Path

import torch

from tests.bench.measure import process_bytes


class Place:
    """One device. A GPU's memory is counted by torch's allocator, to the byte; a CPU's is that of the process.

    Args:
        kind: "cpu" or "cuda".
    """

    def __init__(self, kind: str) -> None:
        self.device = torch.device(kind)
        self.is_gpu = self.device.type == "cuda"

    def finish(self) -> None:
        """Waits until the device has done all that it was told."""
        if self.is_gpu:
            torch.cuda.synchronize()

    def tidy(self) -> None:
        """Gives back what nobody uses any more."""
        gc.collect()
        if self.is_gpu:
            torch.cuda.empty_cache()

    def held(self) -> int:
        """Bytes that are in use now."""
        return torch.cuda.memory_allocated() if self.is_gpu else process_bytes("VmRSS")

    def held_by_others(self) -> int:
        """Bytes of what was built before in this process: a process's memory is not told apart."""
        return self.held() if self.is_gpu else 0

    def forget_peak(self) -> None:
        """Lets `peak` count from here."""
        if self.is_gpu:
            torch.cuda.reset_peak_memory_stats()
        else:
            Path("/proc/self/clear_refs").write_text("5")

    def peak(self) -> int:
        """Bytes that were in use at the worst moment."""
        return torch.cuda.max_memory_allocated() if self.is_gpu else process_bytes("VmHWM")

    def reserved(self) -> int:
        """Bytes that the allocator has taken from the device."""
        return torch.cuda.memory_reserved() if self.is_gpu else self.held()

    def most_reserved(self) -> int:
        """The same at the worst moment."""
        return torch.cuda.max_memory_reserved() if self.is_gpu else self.peak()

    def name(self) -> str:
        """What the figures were measured on."""
        name = torch.cuda.get_device_name() if self.is_gpu else f"CPU, {torch.get_num_threads()} threads"
        return f"{name}; torch {torch.__version__}, cuDNN {torch.backends.cudnn.version()}, {os.cpu_count()} cores"
