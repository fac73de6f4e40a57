"""`python -m furnace export`: a predictor as one ONNX graph, its networks as plain state dicts."""

import argparse
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from furnace.errors import InputError
from furnace.prediction.trained import ReadTexts, Trained, add_run_options, find_trained

if TYPE_CHECKING:  # torch is not needed to show help
    from torch import nn

ENDINGS = {"onnx": ".onnx", "state_dict": ".pth", "safetensors": ".safetensors"}  # by format


def add_parser(commands: argparse._SubParsersAction, read_texts: ReadTexts) -> None:
    """Adds `export` to the commands."""
    command = commands.add_parser(
        "export",
        help="write a predictor as ONNX, and its networks as plain state dicts",
        formatter_class=argparse.RawDescriptionHelpFormatter,
        epilog='example: python -m furnace export "exp.voc/ensemble_teacher+cutmix" --weights output_voc/demo '
        "--out exported",
    )
    add_run_options(command)
    command.add_argument("settings", nargs="*", metavar="NAME=VALUE", help="settings; eval --settings lists them")
    command.add_argument(
        "--out",
        type=Path,
        required=True,
        metavar="FOLDER_OR_FILE",
        help=f"a file's ending decides its format: {', '.join(ENDINGS.values())}",
    )
    command.add_argument(
        "--format",
        type=_formats,
        default=None,
        metavar="LIST",
        help=f"what a folder receives, with commas (default {','.join(ENDINGS)})",
    )
    command.set_defaults(run=lambda options, _: _export(options, read_texts))


def _formats(text: str) -> tuple[str, ...]:
    formats = tuple(dict.fromkeys(text.split(",")))
    for name in formats:
        if name not in ENDINGS:
            raise argparse.ArgumentTypeError(f"expected {', '.join(ENDINGS)}, with commas, found {name!r}")
    return formats


def _export(options: argparse.Namespace, read_texts: ReadTexts) -> int:
    from furnace.engine.files import require_writable
    from furnace.evaluation.validation import filled_networks
    from furnace.semi.ensemble import PREDICTORS

    formats = _wanted_formats(options.out, options.format)
    trained = find_trained(options, options.settings, read_texts)
    members = PREDICTORS[trained.predictor]
    is_file = options.out.suffix in ENDINGS.values()
    if is_file and formats != ("onnx",) and len(members) > 1:
        raise InputError(
            f"--out: {options.out} would hold one network, {trained.predictor} has {len(members)}; "
            "name a folder, or one of v0, v0_2, v1, v1_2 as --ensemble"
        )
    networks = filled_networks(trained.experiment, trained.snapshots, trained.epoch, [trained.predictor])
    require_writable(options.out.absolute().parent if is_file else options.out)
    metadata = metadata_of(trained)
    for name in formats:
        if name == "onnx":
            path = options.out if is_file else options.out / f"{trained.predictor}.onnx"
            write_onnx(path, [networks[member] for member in members], metadata)
        else:
            for member in members:
                path = options.out if is_file else options.out / f"{member}{ENDINGS[name]}"
                WRITERS[name](path, networks[member], {**metadata, "network": member})
                print(path, flush=True)
    return 0


def _wanted_formats(out: Path, asked: tuple[str, ...] | None) -> tuple[str, ...]:
    """Those of the file's ending, or those asked for; InputError if these are not the same."""
    endings = ENDINGS.values()
    if out.suffix.lower() in (*endings, ".pt", ".bin", ".ckpt") and (out.suffix not in endings or out.is_dir()):
        raise InputError(f"--out: expected a folder, or a file that ends in {', '.join(endings)}, found {out}")
    by_ending = tuple(name for name, ending in ENDINGS.items() if out.suffix == ending)
    if by_ending and asked not in (None, by_ending):
        raise InputError(f"--format: {out} is {by_ending[0]}, found {','.join(asked)}; name a folder, or leave it out")
    return by_ending or asked or tuple(ENDINGS)


def metadata_of(trained: Trained) -> dict[str, Any]:
    """What every exported file says about itself."""
    from furnace import __version__
    from furnace.evaluation.sliding_window import IMAGENET_MEAN, IMAGENET_STD

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


def write_onnx(path: Path, networks: "list[nn.Module]", metadata: Mapping[str, Any]) -> None:
    """Writes the networks as one graph, once ONNX Runtime has agreed with PyTorch on images of random sizes.

    Raises:
        InputError: it does not; nothing is written.
    """
    import numpy as np

    from furnace.engine.files import write_atomically
    from furnace.prediction.onnx_graph import (
        COMPARED_SIZES,
        GAP,
        PredictorGraph,
        difference,
        onnx_bytes,
        random_images,
        session_of,
    )

    print(f"{path}: recording and comparing, which takes half a minute or so", flush=True)
    predictor = PredictorGraph(networks).eval()
    graph = onnx_bytes(predictor, metadata)
    session, generator = session_of(graph), np.random.default_rng(0)
    found = [difference(session, predictor, random_images(generator, low, high)) for low, high in COMPARED_SIZES]
    largest, share = max(entry.largest for entry in found), max(entry.share for entry in found)
    said = f"{largest:.2g} ({share:.1g} of the largest logit)"
    if share > GAP or any(entry.other_labels for entry in found):
        raise InputError(
            f"{path}: ONNX Runtime differs from PyTorch by up to {said}, expected rounding alone; "
            "update torch, onnxscript and onnxruntime"
        )
    write_atomically(path, lambda file: file.write(graph))
    print(f"{path}: compared on {len(found)} random sizes, largest difference {said}", flush=True)


def write_state_dict(path: Path, network: "nn.Module", _: Mapping[str, Any]) -> None:
    """Writes what `network.load_state_dict(torch.load(path, weights_only=True))` takes."""
    from furnace.engine.checkpoint import write_tensors

    write_tensors(path, network.state_dict())


def write_safetensors(path: Path, network: "nn.Module", metadata: Mapping[str, Any]) -> None:
    """Writes the same tensors, with the metadata in the file's head: text, or JSON of whatever is none."""
    import json

    from safetensors.torch import save

    from furnace.engine.files import write_atomically

    texts = {name: value if isinstance(value, str) else json.dumps(value) for name, value in metadata.items()}
    content = save(network.state_dict(), metadata=texts)
    write_atomically(path, lambda file: file.write(content))


WRITERS: dict[str, Callable[[Path, "nn.Module", Mapping[str, Any]], None]] = {
    "state_dict": write_state_dict,
    "safetensors": write_safetensors,
}
