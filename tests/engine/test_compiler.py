"""What torch.compile lacks is one line; every other error stays what it is."""

import pytest
import torch
from torch import nn

from furnace.engine.compiler import compiler_named
from furnace.errors import CommonInputError


def failing_with(error: Exception) -> nn.Module:
    def backend(*_: object) -> None:
        raise error

    torch.compiler.reset()
    return torch.compile(nn.Linear(2, 2), backend=backend)


@pytest.mark.parametrize(
    "error",
    [
        RuntimeError("No working C++ compiler found\nand much more"),
        PermissionError(13, "Permission denied", "/nowhere/torchinductor"),
        KeyError("getpwuid(): uid not found: 1234"),
        ImportError("no triton"),
    ],
)
def test_whatever_fails_while_a_network_is_compiled_names_the_setting(error: Exception) -> None:
    with pytest.raises(CommonInputError) as caught, compiler_named():
        failing_with(error)(torch.zeros(1, 2))
    said = str(caught.value)
    assert said.startswith("compile: torch could not compile the networks: ") and said.endswith("or set compile=0")
    assert "\n" not in said and any(str(part).split("\n")[0] in said for part in (error, *error.args))


def test_a_python_without_a_compiler_is_said(monkeypatch: pytest.MonkeyPatch) -> None:
    """Dynamo does not know the newest Pythons; torch then raises a RuntimeError as plain as any other."""
    monkeypatch.setattr("sys.version_info", (3, 99, 0, "final", 0))
    with pytest.raises(CommonInputError, match=r"compile: .*set compile=0"), compiler_named():
        torch.compile(nn.Linear(2, 2))


@pytest.mark.parametrize("error", [RuntimeError("CUDA error"), ValueError("bad"), MemoryError()])
def test_other_errors_pass(error: Exception) -> None:
    with pytest.raises(type(error)) as caught, compiler_named():
        raise error
    assert caught.value is error
