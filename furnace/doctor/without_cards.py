"""Why torch can use no GPU here, so that runs train on the CPU or do not start."""

import os

import torch

from furnace.doctor import driver
from furnace.doctor.finding import NOTE, PROBLEM, Finding, of_error
from furnace.engine.gpus import why_unusable

ON_CPU = "runs train on the CPU"
GIVE = "install NVIDIA's driver; in a container: docker run --gpus all; in a job: ask for them (srun --gpus=1)"


def without_cuda() -> Finding:
    """A torch that was built without CUDA."""
    build = f"torch {torch.__version__} is built"
    if torch.version.hip:
        return Finding(NOTE, "GPUs", f"{build} for ROCm {torch.version.hip}, which was not tried with this program")
    build = f"{build} without CUDA"
    if driver.devices():
        return Finding(
            PROBLEM,
            "GPUs",
            f"{build} beside an NVIDIA GPU ({_driver_words()}): {ON_CPU}",
            "pip install --force-reinstall torch torchvision (for an old driver as pytorch.org says), or set NGPUS=0",
        )
    return _none_here(f"{build}, ")


def none_visible() -> Finding:
    """A torch with CUDA that sees no GPU."""
    hidden = os.environ.get("CUDA_VISIBLE_DEVICES")
    if driver.devices() and hidden is not None:
        return Finding(
            NOTE,
            "GPUs",
            f"CUDA_VISIBLE_DEVICES={hidden} leaves none: {ON_CPU}",
            "unset it, or name GPUs that are there",
        )
    if driver.devices():
        return driver_fault(why_unusable(()) or f"torch {torch.__version__} finds no GPU; see what nvidia-smi says")
    return _none_here()


def driver_fault(reason: str) -> Finding:
    """A driver that cannot be started, as one that is too old."""
    fault = of_error(PROBLEM, "GPUs", reason.removeprefix("NGPUS: "))
    found = f"{fault.found} ({_driver_words()}, torch is built for CUDA {torch.version.cuda})"
    return Finding(PROBLEM, "GPUs", found, fault.remedy)


def _none_here(before: str = "") -> Finding:
    """A process to which no GPU is given, whether or not the machine has one."""
    figures = {"gpus": 0, "in_machine": driver.cards_in_machine()}
    if count := figures["in_machine"]:
        found = f"{before}of the machine's {count} NVIDIA GPUs none is given to this process: {ON_CPU}"
        return Finding(NOTE, "GPUs", found, GIVE, figures)
    return Finding(NOTE, "GPUs", f"{before}there is no NVIDIA GPU: {ON_CPU}", figures=figures)


def _driver_words() -> str:
    """Returns the driver's version, and the newest CUDA that it knows."""
    cuda = driver.newest_cuda()
    return f"driver {driver.driver_version() or 'unknown'}{f' for CUDA {cuda}' if cuda else ''}"
