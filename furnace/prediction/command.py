"""The arguments of `python -m furnace predict` and `export`."""

import argparse
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from furnace.config.arguments import EXPERIMENT_HELP, split_settings, take_any_order
from furnace.engine.files import require_writable
from furnace.errors import InputError, say_note

if TYPE_CHECKING:  # --help must answer without importing torch
    from furnace.prediction.trained import Trained

# Endings of files that are not written, and slips of the pen.
OTHER_FORMATS = frozenset((".pt", ".bin", ".ckpt", ".ts", ".torchscript", ".tflite", ".pb", ".h5", ".keras")) | {
    *(".engine", ".trt", ".plan", ".mlmodel", ".onx", ".safetensor", ".pkl")
}
FORMATS = {"onnx": ".onnx", "state_dict": ".pth", "safetensors": ".safetensors"}  # each with its file's ending


def add_parsers(commands: argparse._SubParsersAction) -> None:
    """Adds `predict` and `export` to the commands."""
    _add_predict(commands)
    _add_export(commands)


def _add_run_options(command: argparse.ArgumentParser) -> None:
    """Adds the arguments that name a run, an epoch and a predictor; the settings decide what is left out."""
    command.add_argument("experiment", metavar="EXPERIMENT", help=EXPERIMENT_HELP)
    command.add_argument(
        "--weights", type=Path, metavar="RUN", help="the run's folder (default: the setting OUTPUT_PATH, as for eval)"
    )
    command.add_argument("--epoch", metavar="N", help="last (default), or the number of an epoch with a snapshot")
    command.add_argument(
        "--ensemble", metavar="CODE", help="v0, v0_2, v1, v1_2, v2, v3 or v4 (default: v3, or v2 without teachers)"
    )
    take_any_order(command)


def _find_trained(options: argparse.Namespace, pairs: Sequence[str]) -> "Trained":
    from furnace.prediction.trained import find_trained

    return find_trained(options.experiment, pairs, options.weights, options.epoch, options.ensemble)


def _add_predict(commands: argparse._SubParsersAction) -> None:
    command = commands.add_parser(
        "predict",
        help="label images, folders or videos with a trained run",
        formatter_class=argparse.RawDescriptionHelpFormatter,
        epilog='example: python -m furnace predict "exp.voc/ensemble_teacher+cutmix" --weights output_voc/demo photos/',
    )
    _add_run_options(command)
    command.add_argument(
        "images",
        nargs="+",
        metavar="IMAGES",
        help="files, folders, patterns in quotes, videos; and settings as NAME=VALUE (eval --settings lists them)",
    )
    command.add_argument("--out", type=Path, metavar="FOLDER", help="what is written (default: RUN/predictions)")
    command.add_argument("--probabilities", action="store_true", help="also write the probability of every class")
    command.add_argument("--disagreement", action="store_true", help="also draw where the networks disagree")
    command.set_defaults(run=_predict)


def _predict(options: argparse.Namespace, _: Sequence[str]) -> int:
    from furnace.data.entries import FILE
    from furnace.prediction.inputs import FOLDERS, find_sources
    from furnace.prediction.predict import predict_sources, require_predictions_alone
    from furnace.prediction.videos import VIDEO

    pairs, images = split_settings(options.images)
    trained = _find_trained(options, pairs)
    output = (options.out or trained.experiment.settings.OUTPUT_PATH / "predictions").absolute()
    if not images:
        raise InputError("no image named; expected files, folders, patterns in quotes or videos; add one")
    sources, left_out = find_sources(images, barred=[output / name for name in FOLDERS])
    if left_out:
        say_note(f"left out: {left_out}; a file that is named itself is tried, and so is a video that a pattern finds")
    if not output.exists() and (FILE.fullmatch(output.name) or VIDEO.fullmatch(output.name)):
        raise InputError(f"--out: expected a folder, below which predictions go, found {output}; name one")
    require_writable(output)
    require_predictions_alone(output, sources)
    predict_sources(trained, sources, output, options.probabilities, options.disagreement, left_out)
    return 0


def _add_export(commands: argparse._SubParsersAction) -> None:
    command = commands.add_parser(
        "export",
        help="write a predictor as ONNX, and its networks as plain state dicts",
        formatter_class=argparse.RawDescriptionHelpFormatter,
        epilog='example: python -m furnace export "exp.voc/ensemble_teacher+cutmix" --weights output_voc/demo '
        "--out exported",
    )
    _add_run_options(command)
    command.add_argument("settings", nargs="*", metavar="NAME=VALUE", help="settings; eval --settings lists them")
    command.add_argument(
        "--out",
        type=Path,
        required=True,
        metavar="FOLDER_OR_FILE",
        help=f"a file's ending decides its format: {', '.join(FORMATS.values())}",
    )
    command.add_argument(
        "--format",
        type=_formats,
        default=None,
        metavar="LIST",
        help=f"what a folder receives, with commas (default {','.join(FORMATS)})",
    )
    command.set_defaults(run=_export)


def _formats(text: str) -> tuple[str, ...]:
    """Reads the names of formats from `text`, each once."""
    formats = tuple(dict.fromkeys(text.split(",")))
    for name in formats:
        if name not in FORMATS:
            raise argparse.ArgumentTypeError(f"expected {', '.join(FORMATS)}, with commas, found {name!r}")
    return formats


def _export(options: argparse.Namespace, _: Sequence[str]) -> int:
    from furnace.prediction.export import export

    formats = {name: FORMATS[name] for name in _wanted_formats(options.out, options.format)}
    export(_find_trained(options, options.settings), options.out, formats)
    return 0


def _wanted_formats(out: Path, asked: tuple[str, ...] | None) -> tuple[str, ...]:
    """Returns the one format that the ending of `out` names; for a folder the formats asked for, by default all.

    Raises:
        InputError: `out` has another ending of weight files, is a folder with such an ending, or is a file of another
            format than the one asked for.
    """
    endings = FORMATS.values()
    if out.suffix.lower() in (*endings, *OTHER_FORMATS) and (out.suffix not in endings or out.is_dir()):
        raise InputError(f"--out: expected a folder, or a file that ends in {', '.join(endings)}, found {out}")
    by_ending = tuple(name for name, ending in FORMATS.items() if out.suffix == ending)
    if by_ending and asked not in (None, by_ending):
        raise InputError(f"--format: {out} is {by_ending[0]}, found {','.join(asked)}; name a folder, or leave it out")
    return by_ending or asked or tuple(FORMATS)
