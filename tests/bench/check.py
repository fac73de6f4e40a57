"""What `prepare check` costs beside decoding: its speed over that of opening the same files and nothing else.

    python -m tests.bench.check                # 400 pictures made on the spot (40 MB) and their masks
    python -m tests.bench.check --turns 20

Pictures have the size of VOC's, 500 x 375, are photo-like and saved as JPEG of quality 92, masks are PNGs of a few
regions. Both works go through the same `map_numbers`, in turn: `check` opens what the lists name and reports on it,
`decode` calls cv2.imread for every image and mask. Times are medians with least and most behind them. The last line is
one JSON object: images/s of check over images/s of decode, the smaller of the figures for one and two processes.
"""

import argparse
import json
import tempfile
from collections.abc import Iterable
from functools import partial
from pathlib import Path

import cv2
import numpy as np

from furnace.data.datasets import VOC
from furnace.data.entries import Split
from furnace.data.file_list import FileList
from furnace.engine.files import write_lines
from furnace.prepare.check import check
from furnace.prepare.lists import write_splits
from furnace.prepare.parallel import map_numbers
from tests.bench.measure import Times, in_turn, markdown

TRAIN, VAL = 320, 80
HEIGHT, WIDTH, QUALITY = 375, 500, 92
REGIONS = 6
PROCESSES = (1, 2)


def photograph(random: np.random.Generator) -> np.ndarray:
    """(H, W, 3) uint8: smooth noise at several scales, and grain."""
    image = np.full((HEIGHT, WIDTH, 3), random.uniform(80, 160, 3), dtype=np.float32)
    for cells, strength in ((4, 40), (16, 20), (64, 12), (200, 8)):
        noise = random.standard_normal((cells, cells, 3), dtype=np.float32)
        image += strength * cv2.resize(noise, (WIDTH, HEIGHT), interpolation=cv2.INTER_CUBIC)
    image += 4 * random.standard_normal(image.shape, dtype=np.float32)
    return np.clip(image, 0, 255).astype(np.uint8)


def mask(random: np.random.Generator) -> np.ndarray:
    """(H, W) uint8: objects with ignored borders on a background."""
    found = np.zeros((HEIGHT, WIDTH), dtype=np.uint8)
    for _ in range(REGIONS):
        corners = cv2.convexHull(random.uniform(0, (WIDTH, HEIGHT), (7, 2)).astype(np.int32))
        cv2.fillConvexPoly(found, corners, int(random.integers(1, VOC.num_classes)))
        cv2.polylines(found, [corners], True, VOC.ignore_value, thickness=3)
    return found


def write_data_set(folder: Path) -> None:
    """VOC's layout, with all its lists."""
    random = np.random.default_rng(0)
    for split, count, name in (("train_aug", TRAIN, VOC.train_list), ("val", VAL, VOC.val_list)):
        for part in ("image", "label"):
            (folder / split / part).mkdir(parents=True)
        for number in range(count):
            image, label = folder / split / f"image/{number}.jpg", folder / split / f"label/{number}.png"
            cv2.imwrite(str(image), photograph(random), [cv2.IMWRITE_JPEG_QUALITY, QUALITY])
            cv2.imwrite(str(label), mask(random))
        entries = (f"/{split}/image/{number}.jpg\t/{split}/label/{number}.png" for number in range(count))
        write_lines(folder / name, entries)
    write_splits(VOC, folder, folder, (8, 4), seed=0, first=(), replace=False)


def silent(steps: Iterable, total: int) -> Iterable:
    return steps


def run_check(folder: Path, processes: int) -> None:
    report = check(VOC, folder, folder, processes, silent)
    assert report.images == TRAIN + VAL and not report.problems


def run_decode(paths: list[tuple[str, str]], processes: int) -> None:
    """Every image and mask decoded, and dropped."""

    def decode(number: int) -> None:
        image, label = paths[number]
        cv2.imread(image, cv2.IMREAD_COLOR)
        cv2.imread(label, cv2.IMREAD_UNCHANGED)

    for _ in map_numbers(decode, len(paths), processes):
        pass


def measure(turns: int) -> dict[str, Times]:
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        write_data_set(folder)
        splits = [
            Split(VOC, folder, FileList(folder / VOC.val_list), "val"),
            Split(VOC, folder, FileList(folder / VOC.train_list), VOC.train_folder),
        ]
        paths = [(str(s.image_path(i)), str(s.label_path(i))) for s in splits for i in range(len(s.files))]
        works = {}
        for processes in PROCESSES:
            works[f"check, {processes}"] = partial(run_check, folder, processes)
            works[f"decode, {processes}"] = partial(run_decode, paths, processes)
        return in_turn(works, turns)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--turns", type=int, default=9)
    found = measure(parser.parse_args().turns)
    rows, ratios = [], []
    for processes in PROCESSES:
        checked, decoded = found[f"check, {processes}"], found[f"decode, {processes}"]
        ratios.append(decoded.median / checked.median)
        speeds = [f"{(TRAIN + VAL) / times.median:.0f}" for times in (checked, decoded)]
        rows.append([processes, checked, decoded, *speeds, f"{ratios[-1]:.2f}"])
    header = ("processes", "check", "decode only", "check, images/s", "decode, images/s", "check / decode, speed")
    print(markdown(header, rows))
    print(json.dumps({"check_over_decode": round(min(ratios), 3)}))


if __name__ == "__main__":
    main()
