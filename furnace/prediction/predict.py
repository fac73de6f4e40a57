"""`python -m furnace predict`: images, folders or videos to label maps, colours and overlays."""

import argparse
import re
import sys
from collections import deque
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

from furnace.errors import InputError, say
from furnace.prediction.trained import ReadTexts, Trained, add_run_options, find_trained

if TYPE_CHECKING:  # torch and OpenCV are not needed to show help
    import numpy as np

    from furnace.prediction.inputs import Source

AHEAD = 2  # images that are read before they are needed
Item = TypeVar("Item")


def add_parser(commands: argparse._SubParsersAction, read_texts: ReadTexts) -> None:
    """Adds `predict` to the commands."""
    command = commands.add_parser(
        "predict",
        help="label images, folders or videos with a trained run",
        formatter_class=argparse.RawDescriptionHelpFormatter,
        epilog='example: python -m furnace predict "exp.voc/ensemble_teacher+cutmix" --weights output_voc/demo photos/',
    )
    add_run_options(command)
    command.add_argument(
        "images",
        nargs="+",
        metavar="IMAGES",
        help="files, folders, patterns in quotes, videos; and settings as NAME=VALUE (eval --settings lists them)",
    )
    command.add_argument("--out", type=Path, metavar="FOLDER", help="what is written (default: RUN/predictions)")
    command.add_argument("--probabilities", action="store_true", help="also write the probability of every class")
    command.add_argument("--disagreement", action="store_true", help="also draw where the networks disagree")
    command.set_defaults(run=lambda options, _: _predict(options, read_texts))


def _predict(options: argparse.Namespace, read_texts: ReadTexts) -> int:
    from furnace.config.settings import FIELDS
    from furnace.engine.files import require_writable
    from furnace.prediction.inputs import find_sources
    from furnace.prediction.outputs import FOLDERS

    pairs = [text for text in options.images if (name := re.match(r"(\w+)=", text)) and name[1] in FIELDS]
    images = [text for text in options.images if text not in pairs]
    trained = find_trained(options, pairs, read_texts)
    output = (options.out or trained.experiment.settings.OUTPUT_PATH / "predictions").absolute()
    if not images:
        raise InputError("no image named; expected files, folders, patterns in quotes or videos; add one")
    sources = find_sources(images, left_out=[output / name for name in FOLDERS])
    require_writable(output)
    require_predictions_alone(output, sources)
    predict_sources(trained, sources, output, options.probabilities, options.disagreement)
    return 0


def require_predictions_alone(output: Path, sources: "Sequence[Source]") -> None:
    """Raises InputError if a folder that predictions are written into holds anything else; claims it otherwise."""
    from furnace.engine.files import write_text
    from furnace.prediction.outputs import FOLDERS

    marker = output / ".predictions"
    for name in FOLDERS:
        folder = output / name
        if not marker.is_file() and folder.is_dir() and any(folder.iterdir()):
            raise InputError(f"--out: {folder} holds files that are no predictions; name another folder")
        if source := next((one.path for one in sources if one.path.resolve().is_relative_to(folder.resolve())), None):
            raise InputError(f"--out: {source} is to be labelled and lies where predictions go; name another folder")
    write_text(marker, "")


def predict_sources(
    trained: Trained, sources: Sequence["Source"], output: Path, probabilities: bool, disagreement: bool
) -> None:
    """Writes the predictions of all sources below `output`; a bad one is said and left out.

    Raises:
        InputError: in the end, how many were bad; at once, if something cannot be written.
    """
    from tqdm import tqdm

    from furnace.prediction.outputs import PredictionPictures
    from furnace.prediction.predictor import Predictor

    predictor = Predictor(trained, probabilities, disagreement)
    total, faults = sum(source.count() for source in sources), 0
    with (
        PredictionPictures(output, trained.experiment.dataset) as pictures,
        tqdm(total=total, desc=trained.predictor, unit="image", dynamic_ncols=True) as bar,
    ):
        for reading in _ahead(_readings(sources)):
            try:
                if isinstance(reading, InputError):
                    raise reading
                prediction = predictor.predict(*reading)
            except InputError as error:
                faults += 1
                with tqdm.external_write_mode(file=sys.stderr):
                    say(error)
            else:
                pictures.add(prediction)
            bar.update()
    done = bar.n - faults
    print(f"{done} images labelled by {trained.predictor} of epoch {trained.epoch}: {output}", flush=True)
    if faults:
        raise InputError(f"{faults} of {bar.n} could not be labelled, for the reasons above")


def _readings(sources: "Sequence[Source]") -> "Iterator[tuple[Path, np.ndarray] | InputError]":
    for source in sources:
        try:
            yield from source.images()
        except InputError as error:
            yield error


def _ahead(items: Iterator[Item]) -> Iterator[Item]:
    """The same items, made by a thread while the ones before are used."""
    end = object()
    with ThreadPoolExecutor(max_workers=1) as reader:
        waiting = deque(reader.submit(next, items, end) for _ in range(AHEAD))
        while (item := waiting.popleft().result()) is not end:
            waiting.append(reader.submit(next, items, end))
            yield item
