"""Labels images, folders or videos: reads them ahead, predicts each one, and has the results written."""

from collections import deque
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TypeVar

from furnace.engine.bars import above_bars, bar
from furnace.engine.files import write_text
from furnace.errors import InputError, say
from furnace.prediction.inputs import FOLDERS, MARKER, Picture, Source, real
from furnace.prediction.outputs import Prediction, PredictionPictures
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
    marker = output / MARKER
    for name in FOLDERS:
        folder = output / name
        if folder.exists() and not folder.is_dir():
            raise InputError(f"--out: {folder} is a file, expected a folder or nothing; name another folder")
        if not marker.is_file() and folder.is_dir() and any(folder.iterdir()):
            raise InputError(f"--out: {folder} holds files that are no predictions; name another folder")
        if source := next((one.path for one in sources if real(one.path).is_relative_to(real(folder))), None):
            raise InputError(f"--out: {source} is to be labelled and lies where predictions go; name another folder")
    write_text(marker, "")


def predict_sources(
    trained: Trained, sources: Sequence[Source], output: Path, probabilities: bool, disagreement: bool, left_out: str
) -> None:
    """Writes the predictions of all sources below `output`; a bad image is reported and left out.

    Args:
        trained: the run and its predictor.
        sources: the images and videos.
        output: the folder to write into.
        probabilities: whether to write the probability of every class.
        disagreement: whether to draw where the networks disagree.
        left_out: in words, how many files are no images by their endings; said beside what was labelled.

    Raises:
        InputError: nothing can be written, which is raised at once; or images were bad, too large, or had names that
            cannot be written, which is raised in the end and says how many.
    """
    predictor = Predictor(trained, probabilities, disagreement)
    seen = faults = 0

    def refuse(error: InputError) -> None:
        nonlocal faults
        with above_bars():  # one thread at a time
            faults += 1
            say(error)

    with (
        PredictionPictures(output, trained.experiment.dataset, refuse) as pictures,
        bar(total=sum(source.count() for source in sources), desc=trained.predictor, unit="image") as progress,
    ):
        for picture in _ahead(_pictures(sources)):
            seen += 1
            try:
                prediction = _predict(predictor, picture, pictures)
            except InputError as error:
                refuse(error)
            else:
                pictures.add(prediction)
            progress.update()
    others = f" (left out: {left_out})" if left_out else ""
    print(
        f"{seen - faults} images labelled by {trained.predictor} of epoch {trained.epoch}: {output}{others}", flush=True
    )
    if faults:
        raise InputError(f"{faults} of {seen} could not be labelled, for the reasons above")


def _predict(predictor: Predictor, picture: Picture | InputError, pictures: PredictionPictures) -> Prediction:
    """Predicts one image; raises InputError if it cannot be read, or is too large."""
    if isinstance(picture, InputError):
        raise picture
    try:
        predictor.require_room(picture)
    except InputError:
        pictures.finish()  # because predictions that wait to be written take memory too
        predictor.require_room(picture)
    return predictor.predict(picture)


def _pictures(sources: Sequence[Source]) -> Iterator[Picture | InputError]:
    """Yields every image. An error is yielded, not raised, so that those behind it still come."""
    for source in sources:
        try:
            yield from source.pictures()
        except InputError as error:
            yield error


def _ahead(items: Iterator[Item]) -> Iterator[Item]:
    """Yields the same items, none of them None, which a thread makes while the ones before are used."""
    reader = ThreadPoolExecutor(max_workers=1)
    try:
        waiting = deque(reader.submit(next, items, None) for _ in range(AHEAD))
        while (item := waiting.popleft().result()) is not None:
            waiting.append(reader.submit(next, items, None))
            yield item
    finally:
        reader.shutdown(wait=False, cancel_futures=True)  # what ends the command early may be that a disk stands still
