"""Writes a predictor as one ONNX graph, and its networks as plain state dicts, for use in other programs."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from safetensors.torch import save
from torch import nn

from furnace import __version__
from furnace.data.normalization import IMAGENET_MEAN, IMAGENET_STD
from furnace.engine.checkpoint import write_tensors
from furnace.engine.files import require_writable, write_atomically
from furnace.errors import InputError, in_short, say_note
from furnace.evaluation.validation import filled_networks
from furnace.prediction import onnx_graph
from furnace.prediction.trained import Trained
from furnace.semi.ensemble import PREDICTORS


def export(trained: Trained, out: Path, formats: Mapping[str, str]) -> None:
    """Writes a predictor in every format asked for.

    Args:
        trained: the run and its predictor.
        out: the one file to write if it has the ending of a format, otherwise a folder.
        formats: `onnx`, `state_dict` or `safetensors`, each with its file's ending.

    Raises:
        InputError: one file would have to hold several networks, or ONNX Runtime differs from PyTorch.
    """
    members, is_file = PREDICTORS[trained.predictor], out.suffix in formats.values()
    if is_file and "onnx" not in formats and len(members) > 1:
        raise InputError(
            f"--out: {out} would hold one network, {trained.predictor} has {len(members)}; "
            "name a folder, or one of v0, v0_2, v1, v1_2 as --ensemble"
        )
    networks = filled_networks(trained.experiment, trained.snapshots, trained.epoch, [trained.predictor])
    require_writable(out.absolute().parent if is_file else out)
    metadata = metadata_of(trained)
    for name, ending in sorted(formats.items(), key=lambda entry: entry[0] == "onnx"):  # last, because it needs most
        if name == "onnx":
            path = out if is_file else out / f"{trained.predictor}{ending}"
            write_onnx(path, [networks[member] for member in members], metadata)
        else:
            for member in members:
                path = out if is_file else out / f"{member}{ending}"
                if name == "state_dict":  # network.load_state_dict(torch.load(path, weights_only=True)) takes it
                    write_tensors(path, networks[member].state_dict())
                else:
                    write_safetensors(path, networks[member], {**metadata, "network": member})
                print(path, flush=True)


def metadata_of(trained: Trained) -> dict[str, Any]:
    """Returns what ONNX and safetensors files say about themselves: where they come from and what input they expect."""
    dataset, settings = trained.experiment.dataset, trained.experiment.settings
    return {
        "classes": list(dataset.classes),
        "palette": [list(colour) for colour in dataset.palette],
        "mean": list(IMAGENET_MEAN),
        "std": list(IMAGENET_STD),
        "backbone": settings.backbone,
        "width": settings.width,
        "image_size": settings.image_size,
        "run": settings.OUTPUT_PATH.name,
        "epoch": trained.epoch,
        "ensemble": trained.predictor,
        "furnace": __version__,
    }


def write_onnx(path: Path, networks: list[nn.Module], metadata: Mapping[str, Any]) -> None:
    """Writes the networks as one graph, after comparing ONNX Runtime with PyTorch on images of random sizes.

    Where ONNX Runtime cannot be used, the graph is written all the same, which is said.

    Args:
        path: the file to write.
        networks: a predictor's networks, on the CPU; the graph gives the mean of their logits.
        metadata: what the file says about itself.

    Raises:
        InputError: the two differ by more than rounding; nothing is written.
    """
    print(f"{path}: recording and comparing, which takes half a minute or so", flush=True)
    predictor = onnx_graph.PredictorGraph(networks).eval()
    graph = onnx_graph.onnx_bytes(predictor, metadata)
    try:
        session, generator = onnx_graph.session_of(graph), np.random.default_rng(0)
    except Exception as error:  # it is not installed, or does not fit what is
        write_atomically(path, lambda file: file.write(graph))
        say_note(f"{path} is written, but not compared with PyTorch: {in_short(error)}; see whether onnxruntime works")
        return
    found = [
        onnx_graph.difference(session, predictor, onnx_graph.random_images(generator, low, high))
        for low, high in onnx_graph.COMPARED_SIZES
    ]
    largest, share = max(entry.largest for entry in found), max(entry.share for entry in found)
    said = f"{largest:.2g} ({share:.1g} of the largest logit)"
    if share > onnx_graph.GAP or any(entry.other_labels for entry in found):
        raise InputError(
            f"{path}: ONNX Runtime differs from PyTorch by up to {said}, expected rounding alone; "
            "update torch, onnxscript and onnxruntime"
        )
    write_atomically(path, lambda file: file.write(graph))
    print(
        f"{path}: compared on {len(found)} random sizes, largest difference {said}; "
        f"opset {onnx_graph.OPSET}, IR version {onnx_graph.FORM}: for {onnx_graph.READER}",
        flush=True,
    )


def write_safetensors(path: Path, network: nn.Module, metadata: Mapping[str, Any]) -> None:
    """Writes a network's tensors as safetensors.

    The metadata stands in the file's head, which holds only texts: a value that is no text stands there as JSON.
    """
    texts = {name: value if isinstance(value, str) else json.dumps(value) for name, value in metadata.items()}
    content = save(network.state_dict(), metadata=texts)
    write_atomically(path, lambda file: file.write(content))
