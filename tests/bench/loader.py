"""What the loader costs beside decoding its files, how it grows with the list, and what workers do.

    python -m tests.bench.loader                                   # pictures made on the spot
    python -m tests.bench.loader --images DATA/camvid/train/images

48 JPEGs of 480 x 360, the VOC recipe's crop of 512, its scales, batches of 8. One process, one thread, except where
workers are counted; works that are compared run in turn, every time is a median with least and most behind it. The
last line is one JSON object: `weak_over_decode` and `pair_over_decode` are images/s of a weak view, and of a weak and
a strong view together, over those of reading and decoding the same files with OpenCV alone;
`epoch_start_over_iteration` is the time from the last batch of an epoch to the first of the next over that between two
others of the same epoch, from one worker that nothing but the loader keeps waiting; `iteration_8_lists_over_1` is an
iteration's time with a list eight times as long over that with the list itself.
"""

import argparse
import json
import os
import tempfile
import time
from collections.abc import Callable, Iterator
from itertools import count
from pathlib import Path
from typing import NamedTuple

import cv2
import numpy as np
import torch

from furnace.data.datasets import VOC
from furnace.data.entries import Split
from furnace.data.file_list import FileList
from furnace.data.loaders import training_batches
from furnace.data.samples import UNLABELED_0, Plan, TrainingSamples
from furnace.semi.cutmix import cutmix_masks
from tests.bench.measure import Times, in_turn, markdown

IMAGES, HEIGHT, WIDTH, QUALITY = 48, 360, 480, 90
CROP, BATCH = 512, 8
SCALES = (0.5, 0.75, 1, 1.5, 1.75, 2)
TURNS = 40
LENGTHS = (1, 2, 4, 8)
WORKERS = (0, 1, 2)
EPOCH, EPOCHS = 5, 100  # an odd number of iterations: two workers answer by turns


def write_pictures(folder: Path) -> list[Path]:
    """Smooth colours, edges, texture and grain, as JPEG files of a photograph's size."""
    random = np.random.default_rng(0)
    paths = [folder / f"{number}.jpg" for number in range(IMAGES)]
    for path in paths:
        image = np.full((HEIGHT, WIDTH, 3), random.uniform(90, 150, 3), dtype=np.float32)
        for blur, strength in ((60, 30), (15, 15), (4, 10), (1.2, 8)):
            noise = cv2.GaussianBlur(random.standard_normal((HEIGHT, WIDTH, 3), dtype=np.float32), (0, 0), blur)
            image += strength * noise / noise.std()
        for _ in range(12):
            corners = random.uniform(0, (WIDTH, HEIGHT), (4, 2)).astype(np.int32)
            cv2.fillConvexPoly(image, cv2.convexHull(corners), random.uniform(20, 235, 3).tolist(), cv2.LINE_AA)
        image += 3 * random.standard_normal(image.shape, dtype=np.float32)
        cv2.imwrite(str(path), np.clip(image, 0, 255).astype(np.uint8), [cv2.IMWRITE_JPEG_QUALITY, QUALITY])
    return paths


def write_split(folder: Path, paths: list[Path], times: int = 1) -> Split:
    """The pictures as a list, repeated; all of them share one label."""
    cv2.imwrite(str(folder / "label.png"), np.kron(np.arange(20).reshape(4, 5), np.ones((90, 96))).astype(np.uint8))
    file = folder / f"list_{times}.txt"
    file.write_text("\n".join([f"images/{path.name}\tlabel.png" for path in paths] * times))
    return Split(VOC, folder, FileList(file), "train_aug")


def samples_of(split: Split, with_strong: bool = True, iterations_per_epoch: int | None = None) -> TrainingSamples:
    per_epoch = iterations_per_epoch or len(split.files) // BATCH
    plan = Plan(BATCH, per_epoch, per_epoch * EPOCHS, 0, CROP, SCALES, with_strong, seed=0)
    return TrainingSamples(split, split, plan, lambda size, random: cutmix_masks(1, size, random)[0])


def decode(paths: list[Path]) -> None:
    """The quickest that OpenCV offers: `cv2.imread` takes longer than reading the bytes and decoding those."""
    for path in paths:
        cv2.imdecode(np.fromfile(path, dtype=np.uint8), cv2.IMREAD_COLOR)


def views(samples: TrainingSamples) -> Callable[[], None]:
    """Batches of one stream until each image was shown once, other views every time."""
    epochs = count()

    def show() -> None:
        epoch = next(epochs)
        for first in range(0, IMAGES, BATCH):
            samples.unlabeled(UNLABELED_0, [(epoch, first + row) for row in range(BATCH)])

    return show


def iterations(samples: TrainingSamples) -> Callable[[], None]:
    """Whole batches of the running epoch, labelled images, pairs and masks, each from another place."""
    firsts: Iterator[int] = count(0, BATCH)

    def make() -> None:
        first = next(firsts) % (samples.plan.iterations_per_epoch * BATCH)
        samples[range(first, first + BATCH)]

    return make


class Waits(NamedTuple):
    """Seconds between two batches of one epoch, and before the first of the next; their ratio within each epoch."""

    iteration: Times
    start: Times
    ratio: Times


def through_workers(samples: TrainingSamples, workers: int) -> Waits:
    """A run of several epochs by one set of workers; the first epoch, in which they start, is not counted."""
    arrivals = []
    for _ in training_batches(samples, 0, 0, 1, workers, pin_memory=False):
        arrivals.append(time.perf_counter())
    waits = np.diff(arrivals)[EPOCH - 1 :].reshape(EPOCHS - 1, EPOCH)
    starts, others = waits[:, 0], waits[:, 1:]
    return Waits(*map(_times, (others.ravel(), starts, starts / np.median(others, axis=1))))


def _times(values: np.ndarray) -> Times:
    return Times(float(np.median(values)), float(values.min()), float(values.max()))


def measure(folder: Path, paths: list[Path]) -> tuple[list[list[object]], dict[str, float]]:
    """The table's rows and the ratios."""
    splits = {times: write_split(folder, paths, times) for times in LENGTHS}
    one = splits[1]
    works = {
        "decode": lambda: decode(paths),
        "weak": views(samples_of(one, with_strong=False)),
        "pair": views(samples_of(one)),
    }
    found = in_turn(works, TURNS)
    ratios = {f"{name}_over_decode": found["decode"].median / found[name].median for name in ("weak", "pair")}
    rows = []
    for name, what in {"decode": "OpenCV alone", "weak": "weak view", "pair": "weak and strong view"}.items():
        each = Times(*(seconds / IMAGES for seconds in found[name]))
        rows.append(
            [
                f"{what}, an image",
                each,
                f"{1 / each.median:.0f} images/s",
                f"{found['decode'].median / found[name].median:.2f}",
            ]
        )

    grown = in_turn({str(times): iterations(samples_of(split)) for times, split in splits.items()}, TURNS)
    for times, split in splits.items():
        lasting = grown[str(times)]
        rows.append(
            [
                f"iteration, list of {len(split.files)}",
                lasting,
                _rate(lasting),
                f"{lasting.median / grown['1'].median:.2f}",
            ]
        )
    ratios["iteration_8_lists_over_1"] = grown["8"].median / grown["1"].median

    for workers in WORKERS:
        waits = through_workers(samples_of(one, iterations_per_epoch=EPOCH), workers)
        rows.append([f"iteration, workers {workers}", waits.iteration, _rate(waits.iteration), "1"])
        rows.append([f"an epoch's start, workers {workers}", waits.start, "", f"{waits.ratio.median:.2f}"])
        if workers == 1:
            ratios["epoch_start_over_iteration"] = waits.ratio.median
    return rows, {name: round(value, 3) for name, value in ratios.items()}


def _rate(iteration: Times) -> str:
    return f"{BATCH / iteration.median:.0f} samples/s"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--images", type=Path, metavar="FOLDER", help="take JPEGs from here")
    options = parser.parse_args()
    cv2.setNumThreads(0)
    torch.set_num_threads(1)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        (folder / "images").mkdir()
        if options.images:
            paths = sorted(options.images.resolve().glob("*.jpg"))[:IMAGES]
            for path in paths:
                (folder / "images" / path.name).symlink_to(path)
        else:
            paths = write_pictures(folder / "images")
        size = sum(path.stat().st_size for path in paths) / len(paths)
        print(
            f"{len(paths)} files of {size / 1e3:.0f} kB on average, OpenCV {cv2.__version__}, {os.cpu_count()} cores\n"
        )
        rows, ratios = measure(folder, paths)
    print(markdown(["what", "median (least to most)", "throughput", "ratio"], rows))
    print(json.dumps(ratios))


if __name__ == "__main__":
    main()
