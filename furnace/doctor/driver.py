"""NVIDIA's driver and GPUs as the system shows them, whatever torch can do with them."""

import ctypes
import re
import shutil
import subprocess
from contextlib import suppress
from pathlib import Path

PROC, DEVICES, BUS = Path("/proc/driver/nvidia"), Path("/dev"), Path("/sys/bus/pci/devices")
NVIDIA, DISPLAY = "0x10de", "0x03"  # the maker's number, and how the class of graphics cards begins
PATIENCE = 5.0  # seconds for nvidia-smi, which does not answer where a GPU hangs


def devices() -> int:
    """Returns how many NVIDIA GPUs a process here can open; under Windows (WSL) 1 for however many there are."""
    files = sum(re.fullmatch(r"nvidia\d+", path.name) is not None for path in DEVICES.glob("nvidia*"))
    return files or int((DEVICES / "dxg").exists() and shutil.which("nvidia-smi") is not None)


def cards_in_machine() -> int:
    """Returns how many NVIDIA GPUs there are in the machine, also where no driver or no container gives them to us."""
    return max(devices(), sum(1 for _ in PROC.glob("gpus/*")), sum(map(_is_card, BUS.glob("*"))))


def _is_card(device: Path) -> bool:
    with suppress(OSError):
        maker = (device / "vendor").read_text(encoding="utf-8").strip()
        return maker == NVIDIA and (device / "class").read_text(encoding="utf-8").startswith(DISPLAY)
    return False


def driver_version() -> str:
    """Returns the version of NVIDIA's driver, such as `550.54.15`; an empty text if there is none."""
    with suppress(OSError):
        text = (PROC / "version").read_text(encoding="utf-8", errors="replace")
        if found := re.search(r"Module.*?\s(\d+(?:\.\d+)+)\s", text):
            return found[1]
    return ""


def newest_cuda() -> str:
    """Returns the newest version of CUDA that the driver knows, such as `12.4`; an empty text if it does not tell."""
    number = ctypes.c_int()
    with suppress(OSError, AttributeError):
        if ctypes.CDLL("libcuda.so.1").cuDriverGetVersion(ctypes.byref(number)) == 0 and number.value:
            return f"{number.value // 1000}.{number.value % 1000 // 10}"
    return ""


def programs() -> dict[str, list[str]]:
    """Returns which programs use a GPU, by the GPU's identifier: such as `python (process 7, 4,012 MiB)`.

    It is empty where nvidia-smi is missing or does not answer. In a container it may not know the programs of others.
    """
    found: dict[str, list[str]] = {}
    if command := shutil.which("nvidia-smi"):
        query = [command, "--query-compute-apps=gpu_uuid,pid,used_memory,process_name", "--format=csv,noheader"]
        with suppress(OSError, subprocess.SubprocessError):
            answer = subprocess.run(
                query, capture_output=True, encoding="utf-8", errors="replace", timeout=PATIENCE, check=True
            )
            for line in answer.stdout.splitlines():
                gpu, process, used, name = (part.strip() for part in line.split(",", 3))
                found.setdefault(gpu, []).append(f"{Path(name).name} (process {process}, {used})")
    return found
