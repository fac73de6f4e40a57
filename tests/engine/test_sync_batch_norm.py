"""Batch norm over processes: its function and gradients in a group of one, and its exchanges counted."""

import copy

import pytest
import torch
import torch.distributed as dist
from torch import nn

from furnace.engine.sync_batch_norm import synchronized


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
