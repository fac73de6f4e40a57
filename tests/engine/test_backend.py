"""What PyTorch keeps for a whole process is set, whatever it was before."""

import warnings
from collections.abc import Iterator

import pytest
import torch
from torch.backends import cuda, cudnn

from furnace.engine.backend import evaluation_dtype, prepare_backends, training_dtype

CPU = torch.device("cpu")


@pytest.fixture(autouse=True)
def flags_kept(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.delenv("CUBLAS_WORKSPACE_CONFIG", raising=False)
    kept = cudnn.allow_tf32, cuda.matmul.allow_tf32, cudnn.benchmark, torch.are_deterministic_algorithms_enabled()
    yield
    cudnn.allow_tf32, cuda.matmul.allow_tf32, cudnn.benchmark = kept[:3]
    torch.use_deterministic_algorithms(kept[3])


@pytest.mark.parametrize("deterministic", [False, True])
def test_tf32_is_off_without_a_warning(deterministic: bool) -> None:
    cudnn.allow_tf32 = cuda.matmul.allow_tf32 = True
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        prepare_backends(deterministic)
    assert not cudnn.allow_tf32 and not cuda.matmul.allow_tf32
    assert torch.get_float32_matmul_precision() == "highest"


def test_a_later_trainer_may_be_faster_than_a_deterministic_one() -> None:
    for deterministic in (True, False, True):
        prepare_backends(deterministic)
        assert torch.are_deterministic_algorithms_enabled() == deterministic
        assert cudnn.benchmark != deterministic


def test_evaluation_is_faster_only_where_it_is_told() -> None:
    assert evaluation_dtype("auto", CPU) == torch.float32
    assert evaluation_dtype("bf16", CPU) == training_dtype("bf16", CPU) == torch.bfloat16
    with pytest.MonkeyPatch.context() as patched:  # as on a GPU that has bf16
        patched.setattr(torch.cuda, "is_bf16_supported", lambda **_: True)
        assert training_dtype("auto", torch.device("cuda")) == torch.bfloat16
        assert evaluation_dtype("auto", torch.device("cuda")) == torch.float32
