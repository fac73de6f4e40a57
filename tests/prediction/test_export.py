"""What is written when ONNX Runtime, which only compares, cannot be used."""

from pathlib import Path

import pytest
from torch import nn

from furnace.prediction import onnx_graph
from furnace.prediction.export import write_onnx


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
