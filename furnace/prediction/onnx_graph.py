"""A predictor as one ONNX graph: from pixels to logits, for any number and size of images.

B images, H and W their size, N classes.
"""

import io
import json
import logging
import warnings
from collections.abc import Mapping, Sequence
from contextlib import redirect_stdout
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
import torch
from torch import Tensor, nn

from furnace.data.normalization import IMAGENET_MEAN, IMAGENET_STD

if TYPE_CHECKING:
    import onnxruntime

OPSET = 18
EXAMPLE_SIZE = (2, 3, 337, 391)  # of what the graph is recorded with: no dimension is 1, or equals another
COMPARED_SIZES = (*3 * [(16, 160)], (304, 352))  # from, to; in the last, no tap of a dilated kernel is blind
GAP = 1e-4  # between the two largest logits, as a share of the largest: below, rounding may decide


class PredictorGraph(nn.Module):
    """Normalisation, the networks of a predictor, and the mean of their logits."""

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
    """How far two ways to compute logits are apart."""

    largest: float
    share: float  # the same as a share of the largest logit
    other_labels: int  # pixels of another argmax, although their two largest logits are not nearly equal


def onnx_bytes(predictor: PredictorGraph, metadata: Mapping[str, object]) -> bytes:
    """The graph with its weights as an ONNX file holds it: input `image`, output `logits`, dynamic B, H and W.

    Args:
        predictor: on the CPU, in eval mode.
        metadata: what the file says about itself, as text or, whatever is none, as JSON.
    """
    dynamic = {axis: torch.export.Dim(name) for axis, name in ((0, "batch"), (2, "height"), (3, "width"))}
    logging.getLogger("torch.onnx").setLevel(logging.ERROR)
    with warnings.catch_warnings(action="ignore"), redirect_stdout(io.StringIO()):
        program = torch.onnx.export(
            predictor,
            (torch.zeros(EXAMPLE_SIZE),),
            input_names=["image"],
            output_names=["logits"],
            dynamic_shapes=(dynamic,),
            opset_version=OPSET,
            dynamo=True,
            external_data=False,
            verbose=False,
        )
    model = program.model_proto
    for name, value in metadata.items():
        entry = model.metadata_props.add()
        entry.key, entry.value = name, value if isinstance(value, str) else json.dumps(value)
    return model.SerializeToString()


def session_of(graph: bytes) -> "onnxruntime.InferenceSession":
    """The graph, ready to run on the CPU with as many threads as torch has."""
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = torch.get_num_threads()
    return onnxruntime.InferenceSession(graph, options, providers=["CPUExecutionProvider"])


@torch.inference_mode()
def difference(session: "onnxruntime.InferenceSession", predictor: PredictorGraph, image: Tensor) -> Difference:
    """Compares ONNX Runtime with PyTorch on images (B, 3, H, W) of 0 to 255."""
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


def random_images(generator: np.random.Generator, low: int, high: int) -> Tensor:
    """One or two images of a random size, (B, 3, H, W) of whole numbers from 0 to 255, float32."""
    batch = int(generator.integers(1, 3))
    height, width = generator.integers(low, high, size=2)
    return torch.from_numpy(generator.integers(0, 256, (batch, 3, height, width)).astype(np.float32))
