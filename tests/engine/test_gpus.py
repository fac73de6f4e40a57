"""How many GPUs a run takes, and what is said where they cannot be used; torch's answers are made up."""

import re
import warnings
from collections.abc import Callable

import pytest
import torch

from furnace.engine import gpus
from furnace.engine.backend import memory_failure
from furnace.engine.place import NEEDED
from furnace.errors import CommonInputError, InputError

WHEEL = ["sm_75", "sm_80", "sm_86", "sm_90", "sm_100", "sm_120"]


@pytest.fixture
def machine(monkeypatch: pytest.MonkeyPatch) -> Callable[..., None]:
    """Makes a machine with so many GPUs of one capability, for a torch that is built for WHEEL."""
    for name in (*NEEDED, "LOCAL_WORLD_SIZE", "NNODES"):
        monkeypatch.delenv(name, raising=False)

    def put(
        visible: int, capability: tuple[int, int] = (9, 0), init: Callable = lambda: None, **variables: str
    ) -> None:
        monkeypatch.setattr(torch.cuda, "device_count", lambda: visible)
        monkeypatch.setattr(torch.cuda, "init", init)
        monkeypatch.setattr(torch.cuda, "set_device", lambda _: None)
        monkeypatch.setattr(torch.cuda, "get_device_capability", lambda _: capability)
        monkeypatch.setattr(torch.cuda, "get_device_name", lambda number: f"Card {number}")
        monkeypatch.setattr(torch.cuda, "get_arch_list", lambda: WHEEL)
        for name, value in variables.items():
            monkeypatch.setenv(name, value)

    return put


def place(local_rank: int, size: int) -> dict[str, str]:
    """Torchrun's variables for one of so many processes on one machine."""
    numbers = {"RANK": local_rank, "LOCAL_RANK": local_rank, "WORLD_SIZE": size, "LOCAL_WORLD_SIZE": size}
    return {"MASTER_ADDR": "here", "MASTER_PORT": "1", **{name: str(number) for name, number in numbers.items()}}


@pytest.mark.parametrize(
    ("visible", "batch", "machines", "expected"),
    [(8, 4, 1, 4), (3, 8, 1, 2), (5, 8, 1, 4), (6, 8, 1, 4), (7, 7, 1, 7), (8, 7, 1, 7), (5, 7, 1, 1), (8, 4, 2, 2),
     (8, 8, 1, 8), (8, 64, 8, 8), (0, 5, 1, 0), (1, 3, 1, 1)],
)  # fmt: skip
def test_all_takes_as_many_gpus_as_have_equal_shares(
    machine: Callable, capsys: pytest.CaptureFixture, visible: int, batch: int, machines: int, expected: int
) -> None:
    machine(visible, NNODES=str(machines))
    assert gpus.gpus_for_batch("all", batch) == expected
    notes = [line for line in capsys.readouterr().err.splitlines() if " visible, " in line]
    on_each = f" on each of {machines} machines" if machines > 1 else ""
    line = f"note: {visible} GPUs are visible, batch_size={batch} is shared out over {expected} of them{on_each}"
    assert notes == ([line] if expected < visible else [])


@pytest.mark.parametrize(("wanted", "batch", "machines"), [(8, 4, 1), (3, 8, 1), ("all", 4, 3), (2, 2, 2)])
def test_a_number_that_does_not_divide_stays_an_error(
    machine: Callable, wanted: int | str, batch: int, machines: int
) -> None:
    machine(8, NNODES=str(machines))
    with pytest.raises(InputError, match=f"^batch_size: {batch} cannot be shared out over "):
        gpus.gpus_for_batch(wanted, batch)


def test_what_torchrun_started_is_not_changed(machine: Callable, capsys: pytest.CaptureFixture) -> None:
    machine(8, **place(local_rank=0, size=4))
    assert gpus.gpus_for_batch("all", 8) == 8  # of which four are used
    assert not capsys.readouterr().err
    with pytest.raises(InputError, match="over 4 processes"):
        gpus.gpus_for_batch("all", 6)


@pytest.mark.parametrize(
    ("wanted", "batch", "said"), [(8, 8, 1), ("all", 8, 1), (2, 6, 3), (2, 8, 0), (1, 2, 0), (0, 2, 0)]
)
def test_a_small_share_is_said(
    machine: Callable, capsys: pytest.CaptureFixture, wanted: int | str, batch: int, said: int
) -> None:
    machine(8)
    gpus.gpus_for_batch(wanted, batch)
    lines = capsys.readouterr().err.splitlines()
    assert [line.startswith(f"note: each GPU gets {said} of the {batch} images") for line in lines] == [True] * bool(
        said
    )


def test_a_launching_process_leaves_the_gpus_alone(machine: Callable) -> None:
    """Neither a context nor the driver: the processes that it starts have them."""

    def touched() -> None:
        raise AssertionError("the driver is asked")

    machine(8, init=touched)
    torch.cuda.get_device_capability = torch.cuda.set_device = lambda _: touched()  # the fixture puts them back
    assert gpus.gpus_to_use("all") == 8 and gpus.gpus_for_batch("all", 4) == 4


def too_old() -> None:
    raise RuntimeError(
        "The NVIDIA driver on your system is too old (found version 11040). Please update your GPU driver by "
        "downloading and installing a new version from the URL: http://www.nvidia.com/Download/index.aspx"
    )


@pytest.mark.parametrize(("local_rank", "kind"), [(0, InputError), (1, CommonInputError)])
def test_a_driver_that_is_too_old_is_said_once_a_machine(machine: Callable, local_rank: int, kind: type) -> None:
    machine(2, init=too_old, **place(local_rank, size=2))
    with pytest.raises(InputError) as error:
        gpus.take_device(2)
    assert type(error.value) is kind
    assert str(error.value) == (
        f"NGPUS: 2 GPUs are visible, torch {torch.__version__} cannot use them: The NVIDIA driver on your system is "
        "too old (found version 11040); update the driver, install a torch that is built for it, or set NGPUS=0"
    )


def test_a_card_that_torch_is_not_built_for(machine: Callable) -> None:
    machine(1, capability=(7, 0), init=lambda: warnings.warn("Found GPU0 Card which is ...\nmany lines", stacklevel=1))
    with warnings.catch_warnings(record=True) as heard:
        warnings.simplefilter("always")
        with pytest.raises(InputError, match=re.escape(f"GPU 0 (Card 0) is of sm_70, torch {torch.__version__} is")):
            gpus.take_device(1)
    assert not heard  # the line says it
    machine(1, init=lambda: warnings.warn("something else", stacklevel=1))
    with pytest.warns(UserWarning, match="something else"):
        assert gpus.take_device(1) == torch.device("cuda", 0)


@pytest.mark.parametrize(
    ("error", "remedy"),
    [
        (
            "CUDA error: CUDA-capable device(s) is/are busy or unavailable\nCUDA kernel errors might be",
            "see what nvidia",
        ),
        (
            "CUDA error: out of memory\nCUDA kernel errors might be asynchronously reported",
            "end other programs on it, ",
        ),
    ],
)
def test_a_gpu_of_others(machine: Callable, monkeypatch: pytest.MonkeyPatch, error: str, remedy: str) -> None:
    machine(2, **place(local_rank=1, size=2))

    def refuse(_: object) -> None:
        raise RuntimeError(error)

    monkeypatch.setattr(torch.cuda, "set_device", refuse)
    with pytest.raises(InputError, match=f"^NGPUS: GPU 1 cannot be used: CUDA error: .*; {remedy}") as caught:
        gpus.take_device(2)
    assert type(caught.value) is InputError and "\n" not in str(caught.value)  # this process alone knows it


@pytest.mark.parametrize(
    ("built_for", "capability", "runs"),
    [
        (WHEEL, (7, 0), False), (WHEEL, (7, 5), True), (WHEEL, (8, 0), True), (WHEEL, (8, 9), True),
        (WHEEL, (9, 0), True), (WHEEL, (10, 3), True), (WHEEL, (11, 0), False), (WHEEL, (12, 1), True),
        (["sm_86"], (8, 0), False), (["sm_50", "compute_90"], (12, 0), True), (["compute_90"], (8, 9), False),
        (["sm_90a"], (9, 0), True), (["sm_100a"], (10, 3), False), (["sm_100f"], (10, 3), True),
        (["compute_90a"], (12, 0), False), ([], (3, 5), True), (["gfx90a", "gfx942"], (9, 0), True),
    ],
)  # fmt: skip
def test_what_code_runs_on_what_card(built_for: list[str], capability: tuple[int, int], runs: bool) -> None:
    assert gpus._runs_on(built_for, *capability) == runs


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("CUDA error: out of memory\nCUDA kernel errors might be asynchronously reported at some other API call", True),
        ("CUDA error: CUBLAS_STATUS_ALLOC_FAILED when calling `cublasCreate(handle)`", True),
        ("cuDNN error: CUDNN_STATUS_ALLOC_FAILED", True),
        ("cuDNN error: CUDNN_STATUS_INTERNAL_ERROR_DEVICE_ALLOCATION_FAILED", True),
        ("NCCL error in: ProcessGroupNCCL.cpp:1\nLast error:\nCuda failure 2 'out of memory'", True),
        ("CUDA error: device-side assert triggered", False),
        ("CUDA error: CUBLAS_STATUS_EXECUTION_FAILED when calling `cublasSgemm`", False),
        ("cuDNN error: CUDNN_STATUS_EXECUTION_FAILED", False),
    ],
)
def test_what_libraries_say_without_memory(text: str, found: bool) -> None:
    kind = getattr(torch, "AcceleratorError", RuntimeError)  # torch 2.8 and newer raise it for errors of CUDA
    reason = memory_failure(kind(text))
    assert (reason is not None) == found and "\n" not in (reason or "")
    assert memory_failure(ValueError(text)) is None
