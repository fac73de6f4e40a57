"""Files of tensors, and networks that are filled from them: whole, without a key missing or left over.

Files hold tensors and plain values only: `weights_only` refuses a file that would run code when it is read.
"""

import pickle
import re
import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file
from torch import Tensor, nn

from furnace.errors import InputError, because
from furnace.network.forms import form_of, is_safetensors

COUNTER = "num_batches_tracked"  # batch norm's counter, which files from before PyTorch 0.4.1 lack


def read_tensors(path: Path, lazily: bool = False) -> dict[Any, Any]:
    """Reads a dictionary of tensors and plain values that `torch.save` wrote, or a file of safetensors, to the CPU.

    Args:
        path: the file.
        lazily: whether each tensor is read only when it is used. Then checksums are not looked at. Files that are not
            in the zip format of PyTorch 1.6 and later are always read at once. safetensors have no checksums.

    Raises:
        InputError: the file is missing or damaged, or holds anything else.
    """
    try:
        if is_safetensors(path):
            return dict(load_file(path))
        zipped = zipfile.is_zipfile(path)
        if zipped and not lazily:
            _require_checksums(path)
        content = torch.load(path, map_location="cpu", weights_only=True, mmap=lazily and zipped)
    except FileNotFoundError:
        raise InputError(f"file not found: {path}: expected a file of weights; name one that exists") from None
    except MemoryError:
        raise
    except Exception as error:
        raise InputError(_why_not_read(path, error)) from None
    if not isinstance(content, dict):
        raise InputError(
            f"{path} holds a {type(content).__name__}, expected a dictionary of tensors; name another file"
        )
    return content


def _why_not_read(path: Path, error: Exception) -> str:
    """Returns a line about a file that torch.load cannot read; it raises whatever damage leads the unpickler to."""
    try:
        form = form_of(path)
    except Exception:  # damage leads zipfile to anything, too
        form = None
    if form:
        return f"no file of weights: {path} is {form}"
    if isinstance(error, pickle.UnpicklingError):
        found = re.search(r"GLOBAL (?:builtins\.)?(\S+)", str(error))  # as in OpenMMLab's training checkpoints
        holding = f" (it holds {found[1]})" if found else ""
        return (
            f"refused: {path} is not a file of plain tensors{holding}; expected a state_dict alone, saved by torch.save"
        )
    if isinstance(error, OSError) and error.filename:  # it could not be opened
        return f"cannot read {path}: {because(error)}"
    reason = str(error).splitlines()[0][:120] if str(error) else type(error).__name__
    if isinstance(error, EOFError):  # it says nothing else
        reason = "it is empty, or ends too early"
    return f"damaged file: {path}: {reason}; replace it"


def _require_checksums(path: Path) -> None:
    """Raises BadZipFile if bytes are not those that were written; torch.load itself does not look."""
    with zipfile.ZipFile(path) as file:
        if bad := file.testzip():
            raise zipfile.BadZipFile(f"the checksum of {bad} differs")


def require_named(state: object, source: str | Path) -> dict[str, Any]:
    """Returns `state` itself, or raises InputError if it is no dictionary by name."""
    if not isinstance(state, dict) or not all(isinstance(name, str) for name in state):
        raise InputError(f"weights do not fit: {source}: expected a dictionary of tensors by name; name another file")
    return state


def fill(network: nn.Module, state: Mapping[str, Tensor], source: str | Path) -> None:
    """Copies all of `state` into the network, or nothing if it does not fit.

    Args:
        network: what is filled.
        state: tensors by the names of `network.state_dict()`; only counters of batches may be missing.
        source: where they come from, for messages.

    Raises:
        InputError: a key is missing, unknown or of another shape. The message names `source` and the first such key.
    """
    require_fit(network.state_dict(), state, source)
    network.load_state_dict(state, strict=False)  # only counters can be missing here


def require_fit(expected: Mapping[str, Tensor], state: Mapping[str, Any], source: str | Path) -> None:
    """Raises InputError if a key of `state` is missing, unknown, no tensor, or of another shape than `expected`."""
    missing = [name for name in expected if name not in state and not name.endswith(COUNTER)]
    unknown = [name for name in state if name not in expected]
    remedy = "check backbone, width and the number of classes, or name another file"
    if missing:
        raise InputError(f"weights do not fit: {source}: {name_some(missing)} missing; {remedy}")
    if unknown:
        raise InputError(f"weights do not fit: {source}: {name_some(unknown)} not in the network; {remedy}")
    for name, value in state.items():
        if not isinstance(value, Tensor):
            raise InputError(f"weights do not fit: {source}: {name} is no tensor; {remedy}")
        if value.shape != expected[name].shape:
            raise InputError(
                f"weights do not fit: {source}: {name} has shape {tuple(value.shape)}, "
                f"the network expects {tuple(expected[name].shape)}; {remedy}"
            )


def name_some(names: list[str]) -> str:
    """Returns `a` for one name, `a and 3 more` for several."""
    return names[0] if len(names) == 1 else f"{names[0]} and {len(names) - 1} more"
