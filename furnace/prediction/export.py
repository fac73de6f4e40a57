"""Writes a predictor as one ONNX graph, and its networks as plain state dicts, for use in other programs."""

import json
from collections.abc import Mapping
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save
from torch import nn

from furnace import __version__
from furnace.data.normalization import IMAGENET_MEAN, IMAGENET_STD
from furnace.engine.checkpoint import write_tensors
from furnace.engine.files import require_writable, write_atomically
from furnace.errors import InputError, in_short, say_note
from furnace.evaluation.validation import filled_networks
from furnace.network.protocol import takes
from furnace.prediction import onnx_graph
from furnace.prediction.image_sizes import ImageSizes, attempts, declared_multiple
from furnace.prediction.time_limit import OutOfTime, computing_limit
from furnace.prediction.trained import Trained
from furnace.semi.ensemble import PREDICTORS

RECORDING_SECONDS = 120  # for each network; as a rule 10 to 40 are enough
SHORT = 120  # characters of an error that are repeated


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
    metadata = metadata_of(trained, [networks[member] for member in members])
    for name, ending in sorted(formats.items(), key=lambda entry: entry[0] == "onnx"):  # last, because it needs most
        if name == "onnx":
            path = out if is_file else out / f"{trained.predictor}{ending}"
            settings = trained.experiment.settings
            write_onnx(path, [networks[member] for member in members], metadata, settings.image_size)
        else:
            for member in members:
                path = out if is_file else out / f"{member}{ending}"
                if name == "state_dict":  # network.load_state_dict(torch.load(path, weights_only=True)) takes it
                    write_tensors(path, networks[member].state_dict())
                else:
                    write_safetensors(path, networks[member], {**metadata, "network": member})
                print(path, flush=True)


def metadata_of(trained: Trained, networks: list[nn.Module]) -> dict[str, Any]:
    """Returns what ONNX and safetensors files say about themselves: where they come from and what input they expect."""
    dataset, settings = trained.experiment.dataset, trained.experiment.settings
    first, second = settings.student(1), settings.student(2)
    of_network = {
        "decoder": settings.decoder,
        "backbone": settings.backbone,
        **{
            f"{name}_2": getattr(second, name)
            for name in ("decoder", "backbone")
            if getattr(second, name) != getattr(first, name)
        },
        "width": settings.width,
        **({"atrous_rates": list(settings.atrous_rates)} if settings.atrous_rates else {}),
    }
    build_network = trained.experiment.build_network
    return {
        "classes": list(dataset.classes),
        "palette": [list(colour) for colour in dataset.palette],
        "mean": list(IMAGENET_MEAN),
        "std": list(IMAGENET_STD),
        **{name: value for name, value in of_network.items() if takes(build_network, name.removesuffix("_2"))},
        "multiple": declared_multiple(networks),
        "image_size": settings.image_size,
        "run": settings.OUTPUT_PATH.name,
        "epoch": trained.epoch,
        "ensemble": trained.predictor,
        "furnace": __version__,
    }


def write_onnx(path: Path, networks: list[nn.Module], metadata: Mapping[str, Any], image_size: int) -> None:
    """Writes the networks as one graph, after comparing ONNX Runtime with PyTorch on images of random sizes.

    The graph takes images of any size. Where that does not work, it takes the sizes that do, which is said and stands
    in the metadata: a graph is written only for sizes at which the two agree. Where ONNX Runtime cannot be used, the
    graph is written all the same, which is said.

    Args:
        path: the file to write.
        networks: a predictor's networks, on the CPU; the graph gives the mean of their logits.
        metadata: what the file says about itself.
        image_size: the side of the windows that the networks were trained with, which every graph takes.

    Raises:
        InputError: nothing can be recorded, or the two differ by more than rounding; nothing is written.
    """
    print(f"{path}: recording and comparing, which takes half a minute or so", flush=True)
    predictor = onnx_graph.PredictorGraph(networks).eval()
    fault = onnx_graph.fault_of_runtime()
    reasons: list[str] = []  # why sizes that were tried are not written
    differ = late = False
    for sizes in attempts(predictor, networks, image_size):
        if late and sizes.step:
            continue  # sizes that are free may take hours to record; those that are not are left
        about = {**metadata, "sizes": str(sizes), "multiple": sizes.step or declared_multiple(networks)}
        try:
            with computing_limit(len(networks) * RECORDING_SECONDS) if sizes.step else nullcontext():
                graph = onnx_graph.onnx_bytes(predictor, about, sizes)
            found = None if fault else onnx_graph.compared(graph, predictor, sizes, image_size)
        except (Exception, OutOfTime) as error:  # torch, ONNX Runtime and a user's network may raise anything
            late = late or isinstance(error, OutOfTime)
            reasons.append(_reason(error))
            continue
        if found is not None and found.differs:
            reasons.append(f"ONNX Runtime differs from PyTorch by up to {found}")
            differ = True
            continue
        _write(path, graph)
        _tell(path, sizes, found, fault, reasons)
        return
    if differ:
        first = next(reason for reason in reasons if reason.startswith("ONNX Runtime"))
        raise InputError(f"{path}: {first}, expected rounding alone; update torch, onnxscript and onnxruntime")
    raise InputError(
        f"{path}: torch cannot record the networks as an ONNX graph ({reasons[-1]}); update torch and onnxscript, or "
        "set --format state_dict,safetensors"
    )


def _reason(error: BaseException) -> str:
    """Returns what an error says in a few words; torch wraps the one that tells something in one that does not."""
    told = error.__cause__ or error
    return in_short(told)[:SHORT] if isinstance(told, Exception) else str(told)


def _tell(
    path: Path, sizes: ImageSizes, found: onnx_graph.Comparison | None, fault: str | None, reasons: list[str]
) -> None:
    """Says for which sizes a graph was written, how it was compared, and who reads it."""
    if sizes.step != 1:
        other = f"; other sizes: {reasons[0]}" if reasons else ""
        print(f"{path}: for images of certain sizes: {sizes}{other}", flush=True)
    if found is None:
        say_note(f"{path} is written, but not compared with PyTorch: {fault}; see whether onnxruntime works")
        return
    drawn = "random sizes" if sizes.step == 1 else "images"
    print(
        f"{path}: compared on {found.count} {drawn}, largest difference {found}; "
        f"opset {onnx_graph.OPSET}, IR version {onnx_graph.FORM}: for {onnx_graph.READER}",
        flush=True,
    )


def write_safetensors(path: Path, network: nn.Module, metadata: Mapping[str, Any]) -> None:
    """Writes a network's tensors as safetensors.

    The metadata stands in the file's head, which holds only texts: a value that is no text stands there as JSON. The
    file takes no tensors that share memory, so that a module with two names stands there twice.
    """
    texts = {name: value if isinstance(value, str) else json.dumps(value) for name, value in metadata.items()}
    tensors = {
        name: tensor.clone(memory_format=torch.contiguous_format) for name, tensor in network.state_dict().items()
    }
    _write(path, save(tensors, metadata=texts))


def _write(path: Path, content: bytes) -> None:
    write_atomically(path, lambda file: file.write(content))
