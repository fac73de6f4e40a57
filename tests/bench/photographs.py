"""Pictures like photographs with label maps, as files that must be decoded and as files that need not be."""

from collections.abc import Sequence
from pathlib import Path

import cv2
import numpy as np

from furnace.data import netpbm
from furnace.data.datasets import VOC
from furnace.data.entries import Split
from furnace.data.file_list import FileList
from furnace.data.images import read_image, read_label

HEIGHT, WIDTH, QUALITY = 360, 480, 90
LARGE_HEIGHT, LARGE_WIDTH, GRAIN = 1024, 2048, 1.5


def write_pictures(folder: Path, count: int) -> list[Path]:
    """Smooth colours, edges, texture and grain, as JPEG files of a photograph's size."""
    random = np.random.default_rng(0)
    paths = [folder / f"{number}.jpg" for number in range(count)]
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


def write_large(folder: Path, pictures: Sequence[Path], count: int) -> list[Path]:
    """PNG files of Cityscapes' size: pictures side by side, with the grain of a camera."""
    random = np.random.default_rng(1)
    down, across = -(-LARGE_HEIGHT // HEIGHT), -(-LARGE_WIDTH // WIDTH)
    paths = [folder / f"large_{number}.png" for number in range(count)]
    for path in paths:
        chosen = random.choice(len(pictures), (down, across))
        rows = [np.hstack([cv2.resize(cv2.imread(str(pictures[n])), (WIDTH, HEIGHT)) for n in row]) for row in chosen]
        image = np.vstack(rows)[:LARGE_HEIGHT, :LARGE_WIDTH].astype(np.float32)
        image += GRAIN * random.standard_normal(image.shape, dtype=np.float32)
        cv2.imwrite(str(path), np.clip(image, 0, 255).astype(np.uint8))
    return paths


def write_label(path: Path, height: int, width: int) -> Path:
    """A PNG of 20 classes, each of them a rectangle; the image's sides are multiples of 4."""
    columns = np.arange(width) * 5 // width
    rows = np.arange(height) * 4 // height
    cv2.imwrite(str(path), (5 * rows[:, None] + columns).astype(np.uint8))
    return path


def write_decoded(path: Path, number: int) -> Path:
    """A copy of an image, or of a label map (PNG), as `prepare --files decoded` stores it."""
    is_label = path.name.startswith("label")
    pixels = read_label(path, VOC.num_classes) if is_label else read_image(path)
    copy = path.with_name(f"{path.stem}_{number}{netpbm.ENDINGS[is_label]}")
    copy.write_bytes(netpbm.file_bytes(pixels))
    return copy


def write_list(folder: Path, name: str, images: Sequence[Path], labels: Sequence[Path], times: int = 1) -> Split:
    """The images with labels, which are repeated where there are fewer, as a list that is as often repeated."""
    lines = [
        f"{image.relative_to(folder)}\t{labels[number % len(labels)].relative_to(folder)}"
        for number, image in enumerate(images)
    ]
    (folder / f"{name}.txt").write_text("\n".join(lines * times))
    return Split(VOC, folder, FileList(folder / f"{name}.txt"), "train_aug")
