"""Precision, repeatability and workers: what depends on the device and not on the method."""

import os
from contextlib import AbstractContextManager, nullcontext

import torch

from furnace.errors import InputError


def training_dtype(precision: str, device: torch.device) -> torch.dtype:
    """The type that convolutions compute in; weights, losses and averages stay fp32."""
    if precision == "auto":
        has_bf16 = device.type == "cuda" and torch.cuda.is_bf16_supported(including_emulation=False)
        precision = "bf16" if has_bf16 else "fp32"
    if precision == "fp16" and device.type == "cpu":
        raise InputError("precision: fp16 needs a GPU, found the CPU; set precision=fp32 or bf16")
    return {"fp32": torch.float32, "bf16": torch.bfloat16, "fp16": torch.float16}[precision]


def autocast(device: torch.device, dtype: torch.dtype) -> AbstractContextManager:
    return nullcontext() if dtype == torch.float32 else torch.autocast(device.type, dtype)


def evaluation_dtype(precision: str, device: torch.device) -> torch.dtype:
    """As in training, but `auto` is fp32: scores should not depend on the GPU."""
    return training_dtype("fp32" if precision == "auto" else precision, device)


def prepare_backends(deterministic: bool, precision: str) -> None:
    """Speed where bits may vary, or repeatable bits where they may not."""
    if deterministic:
        os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")
        torch.use_deterministic_algorithms(True)
    torch.backends.cudnn.benchmark = not deterministic
    torch.backends.cudnn.allow_tf32 = precision != "fp32"  # who asks for fp32 gets all of its bits


def loader_workers(num_workers: int | str, device: torch.device) -> int:
    """The number asked for; by itself none on a CPU, where they would take the cores from the networks."""
    if num_workers != "auto":
        return num_workers
    if device.type == "cpu":
        return 0
    return min(8, max(1, (os.cpu_count() or 1) // max(1, torch.cuda.device_count())))


def memory_failure(error: BaseException) -> str | None:
    """What an error says if it is about too little memory, on a device or a CPU; None for any other."""
    if isinstance(error, torch.OutOfMemoryError | MemoryError):
        return str(error).split(". ")[0] or "no memory left"
    _, by_cpu, reason = str(error).rpartition("DefaultCPUAllocator: ")  # what torch raises a RuntimeError with
    return reason.split(". ")[0] if by_cpu and isinstance(error, RuntimeError) else None
