"""Batch norm over processes: its function and gradients in a group of one, and its exchanges counted."""

import copy
from functools import partial

import pytest
import torch
import torch.distributed as dist
from timm.layers import BatchNormAct2d
from torch import nn

from furnace.engine.sync_batch_norm import SyncBatchNorm, synchronized
from furnace.errors import InputError


@pytest.fixture
def group():
    dist.init_process_group("gloo", store=dist.HashStore(), rank=0, world_size=1)
    yield
    dist.destroy_process_group()


@pytest.mark.parametrize("compiled", [False, True], ids=["eager", "compiled"])
@pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.bfloat16])
def test_alone_it_is_batch_norm(group: None, dtype: torch.dtype, compiled: bool) -> None:
    plain = nn.BatchNorm2d(5)
    nn.init.uniform_(plain.weight), nn.init.uniform_(plain.bias)
    plain = plain.to(torch.float32 if dtype == torch.bfloat16 else dtype)
    ours = synchronized(copy.deepcopy(plain), None)
    if compiled:
        torch.compiler.reset()
        ours.compile(backend="aot_eager", fullgraph=True)
    feature = (3 + torch.randn(4, 5, 7, 6)).to(dtype).contiguous(memory_format=torch.channels_last)
    weights = torch.randn(4, 5, 7, 6).to(dtype)
    results = []
    for norm in (plain, ours):
        leaf = feature.clone().requires_grad_()
        output = norm(leaf)
        (output * weights).sum().backward()
        results.append([output, leaf.grad, norm.weight.grad, norm.bias.grad, norm.running_mean, norm.running_var])
    exact = {torch.float64: 1e-12, torch.float32: 1e-5, torch.bfloat16: 2e-2}[dtype]
    for expected, found in zip(*results, strict=True):
        assert found.dtype == expected.dtype
        torch.testing.assert_close(found, expected, rtol=exact, atol=exact)
    assert ours.num_batches_tracked == plain.num_batches_tracked == 1
    assert ours.state_dict().keys() == plain.state_dict().keys()
    torch.testing.assert_close(ours.eval()(feature), plain.eval()(feature), rtol=exact, atol=exact)


class Named(nn.BatchNorm2d):
    """A batch norm that only its name and its making tell from another."""

    def __init__(self) -> None:
        super().__init__(5, eps=1e-3)


@pytest.mark.parametrize("compiled", [False, True], ids=["eager", "compiled"])
@pytest.mark.parametrize(
    ("plain", "shape"),
    [
        (nn.BatchNorm1d(5), (6, 5)),
        (nn.BatchNorm1d(5), (4, 5, 7)),
        (nn.BatchNorm3d(5), (2, 5, 3, 4, 3)),
        (nn.SyncBatchNorm(5), (4, 5, 3, 3)),
        (nn.BatchNorm2d(5), (2, 5, 1, 1)),  # after a pooling of the whole image: one number for each of them
        (nn.BatchNorm2d(5, affine=False), (4, 5, 3, 3)),
        (nn.BatchNorm2d(5, momentum=None), (4, 5, 3, 3)),
        (nn.BatchNorm2d(5, track_running_stats=False), (4, 5, 3, 3)),
        (Named(), (4, 5, 3, 3)),
        (BatchNormAct2d(5), (4, 5, 3, 3)),
        (BatchNormAct2d(5, act_layer=nn.SiLU, drop_layer=partial(nn.Dropout, 1.0)), (4, 5, 3, 3)),
        (BatchNormAct2d(5, apply_act=False), (4, 5, 3, 3)),
    ],
    ids=lambda value: type(value).__name__ if isinstance(value, nn.Module) else "x".join(map(str, value)),
)
def test_every_kind_alone_is_what_it_was(group: None, plain: nn.Module, shape: tuple[int, ...], compiled: bool) -> None:
    """Several batches, because the mean of all batches begins with the second; then eval mode."""
    plain = plain.double()
    for parameter in plain.parameters():
        nn.init.uniform_(parameter)
    ours = synchronized(nn.Sequential(copy.deepcopy(plain)), None)
    assert isinstance(ours[0], SyncBatchNorm) and isinstance(ours[0], type(plain))
    names = ours[0].state_dict().keys()
    assert names == plain.state_dict().keys()
    if compiled:
        torch.compiler.reset()
        ours.compile(backend="aot_eager", fullgraph=True)
    expected = plain if not isinstance(plain, nn.SyncBatchNorm) else copy_as(nn.BatchNorm2d, plain)
    for _ in range(3):
        feature, weights = 2 + torch.randn(shape).double(), torch.randn(shape).double()
        results = []
        for norm in (expected, ours):
            norm.zero_grad()
            leaf = feature.clone().requires_grad_()
            output = norm(leaf)
            (output * weights).sum().backward()
            gradients = [parameter.grad for parameter in norm.parameters()]
            results.append([output, leaf.grad, *gradients, *norm.state_dict().values()])
        for theirs, found in zip(*results, strict=True):
            torch.testing.assert_close(found, theirs, rtol=1e-10, atol=1e-10)
    torch.testing.assert_close(ours.eval()(feature), expected.eval()(feature), rtol=1e-10, atol=1e-10)


def copy_as(kind: type[nn.Module], norm: nn.Module) -> nn.Module:
    other = kind(norm.num_features).double()
    other.load_state_dict(norm.state_dict())
    return other


def test_one_that_computes_in_its_own_way_is_refused(group: None) -> None:
    """Nobody could tell that its statistics were those of one process."""

    class Own(nn.BatchNorm2d):
        def forward(self, feature: torch.Tensor) -> torch.Tensor:
            return super().forward(feature).relu()

    for norm in (Own(3), nn.LazyBatchNorm2d()):
        with pytest.raises(InputError) as refused:
            synchronized(nn.Sequential(nn.BatchNorm2d(3), nn.Sequential(norm)), None)
        assert f"found {type(norm).__name__} at 1.0, which computes in its own way; " in str(refused.value)
        assert str(refused.value).endswith("or train in one process (NGPUS=1)")


def test_norms_of_single_images_stay(group: None) -> None:
    norms = [nn.GroupNorm(1, 4), nn.LayerNorm(4), nn.InstanceNorm2d(4, affine=True)]
    assert [type(module) for module in synchronized(nn.Sequential(*norms), None)] == [type(norm) for norm in norms]


@pytest.mark.parametrize("compiled", [False, True], ids=["eager", "compiled"])
def test_one_exchange_each_way(group: None, monkeypatch: pytest.MonkeyPatch, compiled: bool) -> None:
    calls: list[torch.Tensor] = []
    exchange = dist.all_reduce
    monkeypatch.setattr(
        dist, "all_reduce", lambda tensor, **options: (calls.append(tensor), exchange(tensor, **options))
    )
    network = synchronized(nn.Sequential(nn.BatchNorm2d(3), nn.BatchNorm2d(3)), None)
    if compiled:
        torch.compiler.reset()
        network.compile(backend="aot_eager", fullgraph=True)
    output = network(torch.randn(2, 3, 4, 4, requires_grad=True))
    assert [tensor.shape for tensor in calls] == [(1, 2, 3)] * 2  # of one process: mean and variance of three channels
    output.square().sum().backward()
    # Gradients go back: in a graph those of what each process has sent.
    assert [tensor.shape for tensor in calls[2:]] == [(1, 2, 3) if compiled else (2, 3)] * 2
    calls.clear()
    with torch.no_grad():
        network.eval()(torch.randn(2, 3, 4, 4))
    assert calls == []
