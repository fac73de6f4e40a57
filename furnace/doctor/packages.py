"""The packages that are installed: whether they are there, new enough, go together, and can be imported."""

import importlib
import importlib.util
import re
import sys
from collections.abc import Iterator
from functools import cache
from importlib import metadata
from pathlib import Path

from furnace.doctor.finding import NOTE, OK, PROBLEM, Finding
from furnace.doctor.wanted import REPOSITORY, Wanted
from furnace.errors import InputError, in_short, system_errors_said

INSTALL = "pip install -r requirements.txt"
LEAST_PYTHON = (3, 11)
# What a run does without where a package is missing. Without any other one of requirements.txt it cannot start.
WITHOUT = {
    "torchvision": "torchvision's weights, and networks of segmentation_models_pytorch",
    "tensorboard": "curves and pictures of steps",
    "scipy": "SBD's masks",
    "matplotlib": "the report's charts",
    "jinja2": "the report",
    "onnx": "ONNX graphs",
    "onnxscript": "ONNX graphs",
    "onnxruntime": "a look at ONNX graphs that were written",
    "segmentation-models-pytorch": "networks by name (decoder, backbone)",
    "timm": "networks by name (decoder, backbone)",
}
OPENCV = ("opencv-python-headless", "opencv-python", "opencv-contrib-python-headless", "opencv-contrib-python")
MODULES = {
    "opencv-python-headless": "cv2",
    "pillow": "PIL",
    "segmentation-models-pytorch": "segmentation_models_pytorch",
}
# What a run surely imports. torchvision is left out: where it does not fit torch, its versions say it more clearly.
IMPORTED = ("torch", "numpy", "opencv-python-headless", "pandas", "pillow", "safetensors", "easydict", "tqdm")
UNKNOWN = "of unknown version"


def python(_: Wanted) -> Iterator[Finding]:
    """The version of Python."""
    version, least = ".".join(map(str, sys.version_info[:3])), ".".join(map(str, LEAST_PYTHON))
    if sys.version_info[:2] < LEAST_PYTHON:
        yield Finding(
            PROBLEM, "Python", f"{version}, expected {least} or newer", "make an environment with a newer one"
        )
    else:
        yield Finding(OK, "Python", f"{version} in {sys.prefix}", figures={"version": version})


def installed(_: Wanted) -> Iterator[Finding]:
    """The packages of requirements.txt that are missing or too old, and the versions of the others."""
    fine = {}
    for name, least in _required().items():
        version = version_of(name)
        if version == UNKNOWN or (version and release(version) >= release(least)):
            fine[name] = version
            continue
        found = f"{version} is installed, expected {least} or newer" if version else "is not installed"
        if name in WITHOUT:
            yield Finding(NOTE, name, f"{found}: {WITHOUT[name]} may be missing", INSTALL)
        else:
            yield Finding(PROBLEM, name, found, INSTALL)
    yield Finding(OK, "packages", ", ".join(f"{name} {version}" for name, version in fine.items()), figures=fine)


def one_opencv(_: Wanted) -> Iterator[Finding]:
    """Whether several packages of OpenCV overwrite each other's files."""
    there = [f"{name} {version}" for name in OPENCV if (version := _own_version(name))]
    if len(there) > 1:
        names = " ".join(name.split()[0] for name in there)
        yield Finding(
            NOTE,
            "OpenCV",
            f"{' and '.join(there)} are installed into one folder, where the last one wins",
            f"pip uninstall -y {names}; pip install opencv-python-headless",
        )


def imports(_: Wanted) -> Iterator[Finding]:
    """Whether what a run needs can be imported, and is not hidden by a file of the same name."""
    for name in IMPORTED:
        if place := _place_in_way(MODULES.get(name, name)):
            yield Finding(PROBLEM, name, f"{place} hides the installed package", "rename that file")
        elif name in faults() and version_of(name):  # that others are not installed has been said
            yield Finding(PROBLEM, name, *faults()[name])


@cache  # a second try to import a library may say something else, or nothing
def faults() -> dict[str, tuple[str, str]]:
    """Returns why packages cannot be imported that every run needs, each with its remedy."""
    found = {name: _fault_of_import(MODULES.get(name, name)) for name in IMPORTED}
    return {name: fault for name, fault in found.items() if fault}


def _fault_of_import(module: str) -> tuple[str, str] | None:
    """Returns why a module cannot be imported, and the remedy; None if it can."""
    try:
        with system_errors_said():
            importlib.import_module(module)
    except InputError as error:
        found, _, remedy = str(error).partition("; ")
        return found, remedy
    except Exception as error:  # whatever the start of a library does
        return f"importing it fails: {in_short(error)}", "pip install --force-reinstall its package"
    return None


def _place_in_way(module: str) -> Path | None:
    """Returns the file in the current folder that Python takes for an installed package."""
    folder = Path.cwd()
    beside = (folder / f"{module}.py", folder / module / "__init__.py")
    found = next((path for path in beside if path.is_file()), None)
    is_searched = any(Path(place).resolve() == folder for place in sys.path)
    return found if is_searched and "site-packages" not in folder.parts else None


def _required() -> dict[str, str]:
    """Returns the packages of requirements.txt, or of the installed program's own metadata, with least versions."""
    file = REPOSITORY / "requirements.txt"
    lines = file.read_text(encoding="utf-8").splitlines() if file.is_file() else metadata.requires("ensemble-teacher")
    required = {}
    for line in lines or ():
        text, _, condition = line.partition("#")[0].partition(";")
        name = re.match(r"[\w.-]+", text.strip())
        if name and "extra" not in condition:
            least = re.search(r">=\s*([\w.]+)", text)
            required[name[0]] = least[1] if least else "0"
    return required


def version_of(name: str) -> str | None:
    """Returns the version of an installed package, or of one that serves for it; None if it is not there."""
    for each in OPENCV if name in OPENCV else (name,):
        if version := _own_version(each):
            return version
    return UNKNOWN if importlib.util.find_spec(MODULES.get(name, name)) else None  # as some systems install it


def _own_version(name: str) -> str | None:
    try:
        return metadata.version(name)
    except metadata.PackageNotFoundError:
        return None


def release(version: str) -> tuple[int, ...]:
    """Returns the numbers of a version, at least four of them: (2, 6, 0, 0) for `2.6.0+cu124`."""
    found = re.match(r"\d+(\.\d+)*", version)
    numbers = [int(part) for part in found[0].split(".")] if found else []
    return (*numbers, *[0] * (4 - len(numbers)))
