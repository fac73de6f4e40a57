"""A predictor as one ONNX graph, which maps pixels to logits for any number and size of images.

B is the number of images, H and W are their size, and N is the number of classes.
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
    import onnxruntime  # type: ignore[import-untyped]  # the package ships no types

# The file's version of operators, the oldest version of its form that has them, and who reads both.
OPSET, FORM, READER = 18, 8, "onnxruntime 1.14 and newer"
# The size of the images that the graph is recorded with. The recorder treats a dimension of 1 as a constant and may
# take two equal ones for the same, so that none is 1 and no two are equal.
EXAMPLE_SIZE = (2, 3, 337, 391)
# The ranges that the heights and widths of compared images are drawn from. Images of the last range are so large that
# every tap of the dilated kernels meets pixels, and not padding alone.
COMPARED_SIZES = (*3 * [(16, 160)], (304, 352))
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


def onnx_bytes(predictor: PredictorGraph, metadata: Mapping[str, object]) -> bytes:
    """Returns the content of an ONNX file: the graph with its weights.

    Its input `image` is (B, 3, H, W) and its output `logits` is (B, N, H, W), with any B, H and W.

    Args:
        predictor: what is recorded, on the CPU and in eval mode.
        metadata: what the file says about itself. ONNX holds texts; a value that is no text stands there as JSON.
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


def random_images(generator: np.random.Generator, low: int, high: int) -> Tensor:
    """Draws one or two images of one random size.

    Args:
        generator: the source of all random numbers.
        low: the smallest height and width.
        high: one more than the largest height and width.

    Returns:
        Whole numbers from 0 to 255, (B, 3, H, W), float32.
    """
    batch = int(generator.integers(1, 3))
    height, width = generator.integers(low, high, size=2)
    return torch.from_numpy(generator.integers(0, 256, (batch, 3, height, width)).astype(np.float32))
