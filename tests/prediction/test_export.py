"""What is written when ONNX Runtime, which only compares, cannot be used, and of a module with two names."""

from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file
from torch import nn

from furnace.prediction import onnx_graph
from furnace.prediction.export import write_onnx, write_safetensors


def test_a_graph_that_cannot_be_compared_is_written(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture
) -> None:
    def broken(graph: bytes) -> None:
        raise ImportError("libonnxruntime.so: version `GLIBC_2.38' not found")

    monkeypatch.setattr(onnx_graph, "onnx_bytes", lambda *_: b"graph")
    monkeypatch.setattr(onnx_graph, "session_of", broken)
    write_onnx(tmp_path / "v0.onnx", [nn.Conv2d(3, 2, 1)], {}, 32)
    assert (tmp_path / "v0.onnx").read_bytes() == b"graph"
    assert capsys.readouterr().err == (
        f"note: {tmp_path}/v0.onnx is written, but not compared with PyTorch: ImportError: libonnxruntime.so: version "
        "`GLIBC_2.38' not found; see whether onnxruntime works\n"
    )


def test_a_module_with_two_names_stands_in_the_file_twice(tmp_path: Path) -> None:
    network = nn.Module()
    network.whole = nn.Sequential(nn.Conv2d(3, 2, 1).to(memory_format=torch.channels_last))
    network.backbone = network.whole[0]
    write_safetensors(tmp_path / "v0.safetensors", network, {})
    found = load_file(tmp_path / "v0.safetensors")
    assert found.keys() == network.state_dict().keys() and len(found) == 4
    assert all(torch.equal(found[name], value) for name, value in network.state_dict().items())
