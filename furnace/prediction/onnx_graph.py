"""A predictor as one ONNX graph, which maps pixels to logits for any number and size of images where that works.

B is the number of images, H and W are their size, and N is the number of classes.
"""

import io
import json
import logging
import warnings
from collections.abc import Mapping, Sequence
from contextlib import redirect_stdout
from dataclasses import dataclass
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
import torch
from torch import Tensor, nn

from furnace.data.normalization import IMAGENET_MEAN, IMAGENET_STD
from furnace.errors import in_short
from furnace.prediction.image_sizes import ImageSizes
from furnace.prediction.recordable import recordable

if TYPE_CHECKING:
    import onnxruntime  # type: ignore[import-untyped]  # the package ships no types

# The file's version of operators, the oldest version of its form that has them, and who reads both.
OPSET, FORM, READER = 18, 8, "onnxruntime 1.14 and newer"
GAP = 1e-4  # Where the two largest logits are closer than this share of the largest one, rounding may decide the label.


class PredictorGraph(nn.Module):
    """Normalises images and averages the logits of a predictor's networks."""

    mean: Tensor  # (3, 1, 1)
    std: Tensor  # (3, 1, 1)

    def __init__(self, networks: Sequence[nn.Module]) -> None:
        super().__init__()
        self.networks = nn.ModuleList(networks)
        self.register_buffer("mean", torch.tensor(IMAGENET_MEAN)[:, None, None])
        self.register_buffer("std", torch.tensor(IMAGENET_STD)[:, None, None])

    def forward(self, image: Tensor) -> Tensor:
        """Maps RGB of 0 to 255 (B, 3, H, W), float32, to logits (B, N, H, W)."""
        pixels = (image / 255 - self.mean) / self.std
        first, *others = (network(pixels) for network in self.networks)
        for logits in others:
            first = first + logits
        return first / len(self.networks) if others else first


class Difference(NamedTuple):
    """How far the logits of ONNX Runtime are from those of PyTorch."""

    largest: float  # the largest absolute difference
    share: float  # the largest difference as a share of the largest logit, or of 1 where every logit is below 1
    other_labels: int  # the number of pixels whose argmax differs although their two largest logits are clearly apart


@dataclass(frozen=True)
class Comparison:
    """How far the logits of ONNX Runtime are from those of PyTorch on several images."""

    found: list[Difference]

    @property
    def count(self) -> int:
        """The number of batches of images."""
        return len(self.found)

    @property
    def differs(self) -> bool:
        """Whether the two differ by more than rounding."""
        return any(entry.share > GAP or entry.other_labels for entry in self.found)

    def __str__(self) -> str:
        """Says the largest difference."""
        largest, share = max(entry.largest for entry in self.found), max(entry.share for entry in self.found)
        return f"{largest:.2g} ({share:.1g} of the largest logit)"


def onnx_bytes(predictor: PredictorGraph, metadata: Mapping[str, object], sizes: ImageSizes) -> bytes:
    """Returns the content of an ONNX file: the graph with its weights.

    Its input `image` is (B, 3, H, W) and its output `logits` is (B, N, H, W).

    Args:
        predictor: what is recorded, on the CPU and in eval mode.
        metadata: what the file says about itself. ONNX holds texts; a value that is no text stands there as JSON.
        sizes: which B, H and W the graph takes.
    """
    logging.getLogger("torch.onnx").setLevel(logging.ERROR)
    for name in ("torch.export", "torch._dynamo"):  # what cannot be recorded is an error, which is told by its reader
        logging.getLogger(name).setLevel(logging.CRITICAL)
    with warnings.catch_warnings(action="ignore"), redirect_stdout(io.StringIO()), recordable():
        program = torch.onnx.export(
            predictor,
            (torch.zeros(sizes.example),),
            input_names=["image"],
            output_names=["logits"],
            dynamic_shapes=(sizes.dynamic,) if sizes.dynamic else None,
            opset_version=OPSET,
            dynamo=True,
            external_data=False,
            verbose=False,
        )
    assert program is not None  # torch returns None from its older exporter alone, which dynamo=True leaves aside
    model = program.model_proto
    model.ir_version = FORM  # torch writes a newer one, which older programs refuse, although nothing in it is newer
    for name, value in metadata.items():
        entry = model.metadata_props.add()
        entry.key, entry.value = name, value if isinstance(value, str) else json.dumps(value)
    return model.SerializeToString()


def session_of(graph: bytes) -> "onnxruntime.InferenceSession":
    """Returns the graph, ready to run on the CPU with as many threads as torch has."""
    import onnxruntime  # here, because an export of state dicts alone does without it

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = torch.get_num_threads()
    return onnxruntime.InferenceSession(graph, options, providers=["CPUExecutionProvider"])


@torch.inference_mode()
def difference(session: "onnxruntime.InferenceSession", predictor: PredictorGraph, image: Tensor) -> Difference:
    """Compares ONNX Runtime with PyTorch on images (B, 3, H, W), float32, of values from 0 to 255."""
    expected = predictor(image)  # (B, N, H, W)
    found = torch.from_numpy(session.run(None, {"image": image.numpy()})[0])
    if found.shape != expected.shape:
        raise RuntimeError(f"ONNX Runtime gives {tuple(found.shape)}, PyTorch {tuple(expected.shape)}")
    largest, scale = (found - expected).abs().max().item(), max(1.0, expected.abs().max().item())
    if expected.shape[1] == 1:
        return Difference(largest, largest / scale, 0)
    best = expected.topk(2, dim=1).values  # (B, 2, H, W)
    clear = best[:, 0] - best[:, 1] > GAP * scale
    other = found.argmax(dim=1) != expected.argmax(dim=1)
    return Difference(largest, largest / scale, int((other & clear).sum()))


def fault_of_runtime() -> str | None:
    """Says why ONNX Runtime cannot be used: it is not installed, or does not fit what is; None if it can."""
    try:
        session_of(_smallest_graph())
    except Exception as error:  # whatever its libraries raise
        return in_short(error)
    return None


def compared(graph: bytes, predictor: PredictorGraph, sizes: ImageSizes, image_size: int) -> Comparison:
    """Compares ONNX Runtime with PyTorch on random images of the sizes that a graph takes."""
    session, generator = session_of(graph), np.random.default_rng(0)
    images = sizes.compared_images(generator, image_size)
    return Comparison([difference(session, predictor, image) for image in images])


def _smallest_graph() -> bytes:
    """Returns a graph that does nothing, in the same form as a predictor's."""
    from onnx import TensorProto, helper  # here, because an export of state dicts alone does without it

    ends = [helper.make_tensor_value_info(name, TensorProto.FLOAT, [1]) for name in ("image", "logits")]
    graph = helper.make_graph([helper.make_node("Identity", ["image"], ["logits"])], "nothing", ends[:1], ends[1:])
    model = helper.make_model(graph, ir_version=FORM, opset_imports=[helper.make_opsetid("", OPSET)])
    content: bytes = model.SerializeToString()
    return content
