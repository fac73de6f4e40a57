"""The GPUs of this machine by the names that CUDA_VISIBLE_DEVICES takes, so that they can be shared out over runs."""

import os

import torch

PART = "MIG-"  # how the name of a part of a GPU begins


def visible_gpus() -> list[str]:
    """Returns a name for each GPU that this process may use: its number, or what CUDA_VISIBLE_DEVICES calls it.

    It asks the driver's management library alone, so that a process which only starts others takes no GPU.

    Parts of GPUs (MIG) are taken as they are named: CUDA shows a process no more than one of them, so that it cannot
    be asked how many there are.
    """
    named = os.environ.get("CUDA_VISIBLE_DEVICES")
    names = [] if named is None else [name.strip() for name in named.split(",")]
    if names and names[0].startswith(PART):
        return [name for name in names if name.startswith(PART)]
    count = torch.cuda.device_count()
    return [str(number) for number in range(count)] if named is None else names[:count]  # CUDA, too, takes the first
