"""Precision, repeatability, layout, loading workers and memory: what depends on the device and not on the method."""

import os
import re
import warnings
from contextlib import AbstractContextManager, nullcontext

import torch
from torch import nn

from furnace.engine.machine import cores
from furnace.engine.place import find_place
from furnace.errors import CommonInputError, InputError

# What the libraries below torch say of a device without memory, where torch's own allocator was not asked.
NO_DEVICE_MEMORY = re.compile(
    r"CUDA error: out of memory|CU(?:BLAS|DNN|SPARSE|SOLVER)_STATUS_\w*ALLOC(?:ATION)?_FAILED|"
    r"Cuda failure (?:\d+ )?'out of memory'"
)


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
    """Returns the same as `training_dtype`, but takes "auto" for fp32.

    Scores then depend on the device by rounding alone, because `prepare_backends` makes fp32 full fp32 everywhere.
    """
    return training_dtype("fp32" if precision == "auto" else precision, device)


def prepare_backends(deterministic: bool) -> None:
    """Sets what PyTorch keeps for the whole process, whatever it was set to before.

    fp32 means full fp32 on every GPU: TF32, which keeps 10 of the 23 bits of a number's fraction, stays off.

    Args:
        deterministic: whether results repeat bit for bit; if not, cuDNN searches for its fastest kernels.
    """
    if deterministic:
        os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")
    if deterministic != torch.are_deterministic_algorithms_enabled():  # setting it imports a compiler, for two seconds
        torch.use_deterministic_algorithms(deterministic)
    torch.backends.cudnn.benchmark = not deterministic
    with warnings.catch_warnings():
        # torch 2.9.0 alone recommends `fp32_precision` here, which does not exist before that version.
        warnings.filterwarnings("ignore", message="Please use the new API settings to control TF32")
        torch.backends.cudnn.allow_tf32 = False
        torch.backends.cuda.matmul.allow_tf32 = False


def loader_workers(num_workers: int | str, device: torch.device, processes: int | None = None) -> int:
    """Returns how many loading workers a process has: a number as it is, or a choice by the machine for "auto".

    On a CPU that choice is 0, because workers would take the cores from the networks.

    Args:
        num_workers: the setting.
        device: the device of the networks.
        processes: how many of a run share this machine's cores; by default those that torchrun has started here.
    """
    if isinstance(num_workers, int):
        return num_workers
    if device.type == "cpu":
        return 0
    return min(8, max(1, cores() // (processes or find_place().local_size)))


def layout(channels_last: bool) -> torch.memory_format:
    """Returns the memory layout of images and weights that the setting of this name asks for."""
    return torch.channels_last if channels_last else torch.contiguous_format


def placed(network: nn.Module, device: torch.device, channels_last: bool) -> nn.Module:
    """Moves a network to a device and its weights into the memory layout that is set, and returns it.

    Raises:
        CommonInputError: `channels_last` is set, which weights of five dimensions cannot have.
    """
    if channels_last and any(parameter.ndim == 5 for parameter in network.parameters()):
        raise CommonInputError(
            f"channels_last: expected a network of 2D convolutions, found a {type(network).__name__} with a weight of "
            "five dimensions; set channels_last=0"
        )
    return network.to(device).to(memory_format=layout(channels_last))


def memory_failure(error: BaseException) -> str | None:
    """Returns what an error says about too little memory, on a device or a CPU; None if it is about anything else."""
    if isinstance(error, torch.OutOfMemoryError | MemoryError):
        return str(error).split(". ")[0] or "no memory left"
    if not isinstance(error, RuntimeError):
        return None
    if by_library := NO_DEVICE_MEMORY.search(str(error)):
        return by_library.group()
    _, by_cpu, reason = str(error).rpartition("DefaultCPUAllocator: ")
    return reason.split(". ")[0] if by_cpu else None
