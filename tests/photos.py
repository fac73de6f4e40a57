"""Photographs to be labelled."""

from pathlib import Path

import cv2
import numpy as np


def noise(height: int, width: int) -> np.ndarray:
    return np.random.default_rng(height).integers(0, 256, (height, width, 3), dtype=np.uint8)


def write(path: Path, picture: np.ndarray) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    assert cv2.imwrite(str(path), picture)


def write_photos(root: Path) -> Path:
    """a.png, sub/b.jpg, sub/deep er/c.png of different sizes, and files that are no images."""
    for number, name in enumerate(("a.png", "sub/b.jpg", "sub/deep er/c.png")):
        write(root / name, noise(20 + 15 * number, 50 - number))
    (root / "notes.txt").write_text("nothing to see")
    (root / ".hidden.png").write_bytes(b"")
    return root


def write_clip(path: Path) -> Path:
    """A video of 12 frames."""
    writer = cv2.VideoWriter(str(path), cv2.VideoWriter_fourcc(*"MJPG"), 10, (48, 32))
    for number in range(12):
        writer.write(cv2.resize(noise(3, 4 + number), (48, 32)))
    writer.release()
    return path


def files_below(folder: Path) -> list[str]:
    return sorted(path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file())
