"""torch.compile needs more than torch: a C++ compiler, on a GPU Triton, and folders that it may write into."""

import traceback
from collections.abc import Iterator
from contextlib import contextmanager

from torch import nn

from furnace.errors import CommonInputError, in_short

PARTS = ("torch._dynamo", "torch._inductor", "torch._functorch", "triton")


def compiled(module: nn.Module) -> nn.Module:
    """Has torch compile a module when it first runs, and returns it; its state and its names stay what they are.

    Sizes do not change while a run trains, so a graph is made for the sizes that it sees.
    """
    module.compile(dynamic=False)
    return module


@contextmanager
def compiler_named() -> Iterator[None]:
    """Turns a failure of torch.compile within this context into an InputError that names the setting `compile`."""
    try:
        yield
    except Exception as error:
        if not _is_of_compiler(error):
            raise
        inner = getattr(error, "inner_exception", error)  # what the compiler's backend raised
        raise CommonInputError(
            f"compile: torch could not compile the networks: {in_short(inner)}; "
            "install a C++ compiler (g++), for a GPU also triton, or set compile=0"
        ) from error


def _is_of_compiler(error: BaseException | None) -> bool:
    """Returns whether an error, or one that it follows from, is of torch's compiler."""
    if error is None:
        return False
    frames = [frame.f_code for frame, _ in traceback.walk_tb(error.__traceback__)]
    # A compiled network runs through the compiler's files too, so that errors of other kinds mean nothing there.
    within = isinstance(error, OSError | LookupError | ImportError) and any(
        "/torch/_inductor/" in code.co_filename for code in frames
    )
    refused = bool(frames) and frames[-1].co_name == "compile" and frames[-1].co_filename.endswith("torch/__init__.py")
    of_part = type(error).__module__.startswith(PARTS)
    return of_part or within or refused or _is_of_compiler(error.__cause__ or error.__context__)
