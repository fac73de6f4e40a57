"""What the loader costs beside decoding its files, how it grows with the list, and what workers do.

    python -m tests.bench.loader                                   # pictures made on the spot
    python -m tests.bench.loader --images DATA/camvid/train/images

48 JPEGs of 480 x 360, the VOC recipe's crop of 512, its scales, batches of 8; 8 PNGs of 2048 x 1024, Cityscapes' crop
of 800, its scales, batches of 4. One process, one thread, except where workers are counted; works that are compared run
in turn, every time is a median with least and most behind it. The last line is one JSON object: `weak_over_decode` and
`pair_over_decode` are images/s of a weak view, and of a weak and a strong view together, over those of reading and
decoding the same files with OpenCV alone; `decoded_...` are the same of views of the files as `prepare --files decoded`
stores them, over decoding the originals, `large_...` those of the large images; `large_validation_over_decode` compares
whole images with their labels, decoded files with PNGs, both copied once as workers do that hand them over;
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
from functools import partial
from itertools import count
from pathlib import Path
from typing import NamedTuple

import cv2
import numpy as np
import torch

from furnace.data.entries import Split
from furnace.data.loaders import training_batches
from furnace.data.samples import UNLABELED_0, Plan, TrainingSamples
from furnace.semi.cutmix import cutmix_masks
from tests.bench.measure import Times, in_turn, markdown
from tests.bench.photographs import (
    HEIGHT,
    LARGE_HEIGHT,
    LARGE_WIDTH,
    WIDTH,
    write_decoded,
    write_label,
    write_large,
    write_list,
    write_pictures,
)

IMAGES, CROP, BATCH = 48, 512, 8
LARGE_IMAGES, LARGE_CROP, LARGE_BATCH, LARGE_TURNS = 8, 800, 4, 12
SCALES = (0.5, 0.75, 1, 1.5, 1.75, 2)
TURNS = 40
LENGTHS = (1, 2, 4, 8)
WORKERS = (0, 1, 2)
EPOCH, EPOCHS = 5, 100  # an odd number of iterations: two workers answer by turns


def samples_of(
    split: Split,
    with_strong: bool = True,
    iterations_per_epoch: int | None = None,
    crop: int = CROP,
    batch: int = BATCH,
) -> TrainingSamples:
    per_epoch = iterations_per_epoch or len(split.files) // batch
    plan = Plan(batch, per_epoch, per_epoch * EPOCHS, 0, crop, SCALES, with_strong, seed=0)
    return TrainingSamples(split, split, plan, lambda size, random: cutmix_masks(1, size, random)[0])


def decode(paths: list[Path]) -> None:
    """The quickest that OpenCV offers: `cv2.imread` takes longer than reading the bytes and decoding those."""
    for path in paths:
        cv2.imdecode(np.fromfile(path, dtype=np.uint8), cv2.IMREAD_COLOR)


def views(samples: TrainingSamples) -> Callable[[], None]:
    """Batches of one stream until each image was shown once, other views every time."""
    epochs = count()

    def show() -> None:
        epoch, batch = next(epochs), samples.plan.batch_size
        for first in range(0, len(samples.streams[UNLABELED_0].files), batch):
            samples.unlabeled(UNLABELED_0, [(epoch, first + row) for row in range(batch)])

    return show


def validation(split: Split) -> Callable[[], None]:
    """Every image of the list with its label, copied as when a worker hands it over."""

    def show() -> None:
        for number in range(len(split.files)):
            for pixels in split.labeled(number):
                np.array(pixels)

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


def beside_decoding(
    works: dict[str, tuple[str, Callable[[], None]]], images: int, turns: int
) -> tuple[list[list[object]], dict[str, float]]:
    """Rows and ratios of works by their names in JSON; `decode` is the one that they stand beside."""
    found = in_turn({name: work for name, (_, work) in works.items()}, turns)
    ratios = {name: found["decode"].median / times.median for name, times in found.items()}
    rows: list[list[object]] = []
    for name, (what, _) in works.items():
        each = Times(*(seconds / images for seconds in found[name]))
        rows.append([f"{what}, an image", each, f"{1 / each.median:.0f} images/s", f"{ratios[name]:.2f}"])
    return rows, {f"{name}_over_decode": ratio for name, ratio in ratios.items() if name != "decode"}


def measure_large(folder: Path, pictures: list[Path]) -> tuple[list[list[object]], dict[str, float]]:
    """Rows and ratios of large images: what training and validation take of decoded files, beside the PNGs."""
    paths = write_large(folder, pictures, LARGE_IMAGES)
    label = write_label(folder / "label_large.png", LARGE_HEIGHT, LARGE_WIDTH)
    original = write_list(folder, "large", paths, [label])
    stored = write_list(
        folder,
        "large_decoded",
        [write_decoded(path, number) for number, path in enumerate(paths)],
        [write_decoded(label, number) for number in range(LARGE_IMAGES)],
    )
    of_large = partial(samples_of, stored, crop=LARGE_CROP, batch=LARGE_BATCH)
    rows, ratios = beside_decoding(
        {
            "decode": ("OpenCV alone, 2048 x 1024 PNG", lambda: decode(paths)),
            "large_weak": ("weak view of it decoded, crop 800", views(of_large(with_strong=False))),
            "large_pair": ("weak and strong view of it decoded", views(of_large())),
        },
        LARGE_IMAGES,
        LARGE_TURNS,
    )
    more_rows, more = beside_decoding(
        {
            "decode": ("PNG and its mask to validate", validation(original)),
            "large_validation": ("the same decoded", validation(stored)),
        },
        LARGE_IMAGES,
        LARGE_TURNS,
    )
    return rows + more_rows, ratios | more


def measure(folder: Path, paths: list[Path]) -> tuple[list[list[object]], dict[str, float]]:
    """The table's rows and the ratios."""
    label = write_label(folder / "label.png", HEIGHT, WIDTH)
    splits = {times: write_list(folder, f"list_{times}", paths, [label], times) for times in LENGTHS}
    one = splits[1]
    stored = write_list(folder, "decoded", [write_decoded(path, 0) for path in paths], [label])
    rows, ratios = beside_decoding(
        {
            "decode": ("OpenCV alone", lambda: decode(paths)),
            "weak": ("weak view", views(samples_of(one, with_strong=False))),
            "pair": ("weak and strong view", views(samples_of(one))),
            "decoded_weak": ("weak view of decoded files", views(samples_of(stored, with_strong=False))),
            "decoded_pair": ("weak and strong view of decoded files", views(samples_of(stored))),
        },
        IMAGES,
        TURNS,
    )
    large_rows, large_ratios = measure_large(folder, paths)
    rows, ratios = rows + large_rows, ratios | large_ratios

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
            paths = [folder / "images" / path.name for path in sorted(options.images.glob("*.jpg"))[:IMAGES]]
            for path in paths:
                path.symlink_to((options.images / path.name).resolve())
        else:
            paths = write_pictures(folder / "images", IMAGES)
        size = sum(path.stat().st_size for path in paths) / len(paths)
        print(
            f"{len(paths)} files of {size / 1e3:.0f} kB on average, OpenCV {cv2.__version__}, {os.cpu_count()} cores\n"
        )
        rows, ratios = measure(folder, paths)
    print(markdown(["what", "median (least to most)", "throughput", "ratio"], rows))
    print(json.dumps(ratios))


if __name__ == "__main__":
    main()
