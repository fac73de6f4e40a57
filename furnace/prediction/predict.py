"""Labels images, folders or videos: reads them ahead, predicts each one, and has the results written."""

import sys
from collections import deque
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TypeVar

import numpy as np
from tqdm import tqdm

from furnace.engine.files import write_text
from furnace.errors import InputError, say
from furnace.prediction.inputs import Source
from furnace.prediction.outputs import FOLDERS, PredictionPictures
from furnace.prediction.predictor import Predictor
from furnace.prediction.trained import Trained

AHEAD = 2  # how many images are read before they are needed
Item = TypeVar("Item")


def require_predictions_alone(output: Path, sources: Sequence[Source]) -> None:
    """Makes sure that the folders below `output` that predictions are written into hold nothing but predictions.

    A marker in `output` then says so, and later calls trust it.

    Raises:
        InputError: such a folder holds other files, or one of the sources lies in it.
    """
    marker = output / ".predictions"
    for name in FOLDERS:
        folder = output / name
        if not marker.is_file() and folder.is_dir() and any(folder.iterdir()):
            raise InputError(f"--out: {folder} holds files that are no predictions; name another folder")
        if source := next((one.path for one in sources if one.path.resolve().is_relative_to(folder.resolve())), None):
            raise InputError(f"--out: {source} is to be labelled and lies where predictions go; name another folder")
    write_text(marker, "")


def predict_sources(
    trained: Trained, sources: Sequence[Source], output: Path, probabilities: bool, disagreement: bool
) -> None:
    """Writes the predictions of all sources below `output`; a bad image is reported and left out.

    Args:
        trained: the run and its predictor.
        sources: the images and videos.
        output: the folder to write into.
        probabilities: whether to write the probability of every class.
        disagreement: whether to draw where the networks disagree.

    Raises:
        InputError: something cannot be written, which is raised at once; or images were bad, which is raised in the
            end and says how many.
    """
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


def _readings(sources: Sequence[Source]) -> Iterator[tuple[Path, np.ndarray] | InputError]:
    """Yields name and pixels of every image. An error is yielded, not raised, so that those behind it still come."""
    for source in sources:
        try:
            yield from source.images()
        except InputError as error:
            yield error


def _ahead(items: Iterator[Item]) -> Iterator[Item]:
    """Yields the same items, none of them None, which a thread makes while the ones before are used."""
    with ThreadPoolExecutor(max_workers=1) as reader:
        waiting = deque(reader.submit(next, items, None) for _ in range(AHEAD))
        while (item := waiting.popleft().result()) is not None:
            waiting.append(reader.submit(next, items, None))
            yield item
