"""Precision, repeatability, loading workers and memory: what depends on the device and not on the method."""

import os
from contextlib import AbstractContextManager, nullcontext

import torch

from furnace.engine.machine import cores
from furnace.engine.place import find_place
from furnace.errors import InputError


def training_dtype(precision: str, device: torch.device) -> torch.dtype:
    """Returns the type that convolutions compute in; weights, losses and averages stay fp32.

    Args:
        precision: "auto", "fp32", "bf16" or "fp16"; auto is bf16 on a GPU that has it, else fp32.
        device: the device of the networks.

    Raises:
        InputError: fp16 is asked for on a CPU.
    """
    if precision == "auto":
        has_bf16 = device.type == "cuda" and torch.cuda.is_bf16_supported(including_emulation=False)
        precision = "bf16" if has_bf16 else "fp32"
    if precision == "fp16" and device.type == "cpu":
        raise InputError("precision: fp16 needs a GPU, found the CPU; set precision=fp32 or bf16")
    return {"fp32": torch.float32, "bf16": torch.bfloat16, "fp16": torch.float16}[precision]


def autocast(device: torch.device, dtype: torch.dtype) -> AbstractContextManager:
    """Returns a context in which convolutions compute in `dtype`."""
    return nullcontext() if dtype == torch.float32 else torch.autocast(device.type, dtype)


def evaluation_dtype(precision: str, device: torch.device) -> torch.dtype:
    """Returns the same as `training_dtype`, but takes "auto" for fp32, because scores should not depend on the GPU."""
    return training_dtype("fp32" if precision == "auto" else precision, device)


def prepare_backends(deterministic: bool, precision: str) -> None:
    """Makes PyTorch repeat results bit for bit if `deterministic` is true, or else choose the fastest kernels."""
    if deterministic:
        os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")
        torch.use_deterministic_algorithms(True)
    torch.backends.cudnn.benchmark = not deterministic
    torch.backends.cudnn.allow_tf32 = precision != "fp32"  # TF32 would drop bits of fp32


def loader_workers(num_workers: int | str, device: torch.device) -> int:
    """Returns how many loading workers a process has: a number as it is, or a choice by the machine for "auto".

    On a CPU that choice is 0, because workers would take the cores from the networks.
    """
    if isinstance(num_workers, int):
        return num_workers
    if device.type == "cpu":
        return 0
    return min(8, max(1, cores() // find_place().local_size))


def memory_failure(error: BaseException) -> str | None:
    """Returns what an error says about too little memory, on a device or a CPU; None if it is about anything else."""
    if isinstance(error, torch.OutOfMemoryError | MemoryError):
        return str(error).split(". ")[0] or "no memory left"
    _, by_cpu, reason = str(error).rpartition("DefaultCPUAllocator: ")  # torch raises a RuntimeError
    return reason.split(". ")[0] if by_cpu and isinstance(error, RuntimeError) else None
