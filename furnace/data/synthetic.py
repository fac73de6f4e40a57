"""A small data set made on the spot, so that the whole program runs with no download.

Five kinds of object lie on a textured ground. Each kind is one form with one texture; colours come from the same distribution for
every object and every ground, so that colour says nothing. A network learns the textures in minutes on two CPU cores.

    label   VOC's name   form        texture            (a form is turned, squeezed and dented; a texture turned, scaled and bent)
    0       background   ground      clouds, grain, flagstones or brush strokes
    1       aeroplane    disc        dots
    2       bicycle      rectangle   checks
    3       bird         triangle    stripes
    4       boat         star        grid of lines
    5       bottle       ring        blotches
    255     (ignored)    a border two pixels wide around everything visible

The first half of this file draws one scene and knows no files; the second half writes scenes in a layout that the project reads.
Shapes: H, W image height and width; K corners of an outline. A pattern is float32 (H, W) in 0..1: how much of the second colour shows.
"""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterable
from pathlib import Path

import cv2
import numpy as np

from furnace.errors import InputError

NUM_CLASSES_DRAWN = 6
IGNORE_LABEL = 255
LABELED_RATIOS = (16, 8, 4, 2)
LEAST_IMAGES = 10
JPEG_QUALITY = 92
MARKER = "made_by_demo_data.txt"
LUMINANCE = np.array([0.299, 0.587, 0.114])

Outline = list[np.ndarray]  # contours (K, 2) of (x, y) within the unit circle; the even-odd rule makes the second one a hole


def _corners(angles: np.ndarray, radii: np.ndarray | float = 1.0) -> np.ndarray:
    return np.stack([np.cos(angles), np.sin(angles)], axis=1) * np.reshape(radii, (-1, 1))  # (K, 2)


def _turns(count: int) -> np.ndarray:
    return np.arange(count) * (2 * np.pi / count)


DISC: Outline = [_corners(_turns(24))]
RECTANGLE: Outline = [_corners(np.array([0.7, np.pi - 0.7, np.pi + 0.7, -0.7]))]
TRIANGLE: Outline = [_corners(_turns(3), 1.15)]
STAR: Outline = [_corners(_turns(10), np.tile([1.2, 0.55], 5))]
RING: Outline = [_corners(_turns(24), 1.1), _corners(_turns(24), 0.45)]


def _ink(wave: np.ndarray) -> np.ndarray:
    """A wave about zero as a nearly black-and-white pattern; the soft edge, about a pixel wide, prevents jagged lines."""
    return np.clip(0.5 + 1.5 * wave, 0, 1)


def _dots(x: np.ndarray, y: np.ndarray) -> np.ndarray:
    row = np.floor(y)
    return _ink(2 * (0.34 - np.hypot((x + 0.5 * (row % 2)) % 1 - 0.5, y - row - 0.5)))


def _checks(x: np.ndarray, y: np.ndarray) -> np.ndarray:
    return _ink(2 * np.sin(np.pi * x) * np.sin(np.pi * y))


def _stripes(x: np.ndarray, y: np.ndarray) -> np.ndarray:
    return _ink(np.sin(2 * np.pi * x))


def _grid(x: np.ndarray, y: np.ndarray) -> np.ndarray:
    return _ink(np.maximum(np.cos(2 * np.pi * x), np.cos(2 * np.pi * y)) - 0.65)


OBJECTS = {1: (DISC, _dots), 2: (RECTANGLE, _checks), 3: (TRIANGLE, _stripes), 4: (STAR, _grid), 5: (RING, None)}


def _noise(rng: np.random.Generator, height: int, width: int, blur: float) -> np.ndarray:
    """Smooth noise (H, W) of mean 0 and deviation 1, whose spots measure about three times `blur` pixels."""
    noise = cv2.GaussianBlur(rng.standard_normal((height, width), dtype=np.float32), (0, 0), blur)
    return (noise - noise.mean()) / noise.std()


def _object_pattern(rng: np.random.Generator, texture: Callable | None, height: int, width: int) -> np.ndarray:
    if texture is None:
        return _ink(_noise(rng, height, width, rng.uniform(1.3, 2.0)))
    period, angle = rng.uniform(6.5, 10), rng.uniform(0, 2 * np.pi)  # pixels, radians
    bend, wavelength, phase = rng.uniform(0, 1.5), rng.uniform(40, 80), rng.uniform(0, 2 * np.pi)
    rows, columns = np.mgrid[:height, :width].astype(np.float32)
    x = (columns * np.cos(angle) + rows * np.sin(angle)) / period
    y = (rows * np.cos(angle) - columns * np.sin(angle)) / period
    shift = bend / period * np.sin(2 * np.pi * period / wavelength * y + phase)
    return texture(x + shift + phase, y + phase)


def _ground_pattern(rng: np.random.Generator, height: int, width: int) -> np.ndarray:
    kind = rng.integers(4)
    if kind == 0:  # clouds
        wave = sum(_noise(rng, height, width, blur) * blur for blur in (2, 5, 12)) / 14
    elif kind == 1:  # grain
        wave = _noise(rng, height, width, 0.7)
    elif kind == 2:  # flagstones: every pixel takes the tone of the nearest of many points
        points = rng.uniform((0, 0), (height, width), (rng.integers(25, 60), 2))
        rows, columns = np.ogrid[:height, :width]
        nearest = np.argmin([(rows - row) ** 2 + (columns - column) ** 2 for row, column in points], axis=0)
        wave = rng.standard_normal(len(points))[nearest]
    else:  # brush strokes: noise smeared along one direction
        along = _corners(rng.uniform(0, np.pi, 1))[0] * 10
        kernel = cv2.line(np.zeros((21, 21), np.float32), np.rint(10 - along).astype(int), np.rint(10 + along).astype(int), 1.0)
        wave = cv2.filter2D(_noise(rng, height, width, 0.8), -1, kernel)
        wave = wave / wave.std()
    return np.clip(0.5 + 0.3 * wave, 0, 1)


def _paint(rng: np.random.Generator, pattern: np.ndarray) -> np.ndarray:
    """Colours a pattern with two random colours of clearly different brightness: (H, W) -> (H, W, 3), 0..255."""
    candidates = rng.uniform(25, 230, (8, 3))
    order = np.argsort(candidates @ LUMINANCE)
    first, second = candidates[rng.permutation(order[[0, -1]])]
    return (first + (second - first) * pattern[..., None]).astype(np.float32)


def _outline_mask(rng: np.random.Generator, outline: Outline, centre: np.ndarray, radius: float, size: tuple[int, int]) -> np.ndarray:
    """Turns, squeezes and dents an outline and fills it: coverage (H, W), 0..1."""
    turn, squeeze_along = rng.uniform(0, 2 * np.pi, 2)
    squeeze = _rotation(squeeze_along) @ np.diag([1, rng.uniform(0.7, 1)]) @ _rotation(-squeeze_along)
    contours = []
    for corners in outline:
        dented = corners * rng.uniform(0.92, 1.08, (len(corners), 1))
        points = centre + radius * dented @ (squeeze @ _rotation(turn)).T  # (K, 2)
        contours.append(np.rint(points * 16).astype(np.int32))  # OpenCV's fixed point: shift=4 keeps sixteenths of a pixel
    mask = cv2.fillPoly(np.zeros(size, np.uint8), contours, 255, cv2.LINE_AA, shift=4)
    return mask.astype(np.float32) / 255


def _rotation(angle: float) -> np.ndarray:
    return np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]])


def draw_scene(rng: np.random.Generator, height: int, width: int) -> tuple[np.ndarray, np.ndarray]:
    """Draws two to four objects, the later ones in front, on a textured ground, under uneven light and with camera noise.

    Returns the image, uint8 (H, W, 3) RGB, and its label, uint8 (H, W) with 0 for the ground, 1..5, and 255 on every border.
    """
    image = _paint(rng, _ground_pattern(rng, height, width))  # (H, W, 3)
    label = np.zeros((height, width), np.uint8)
    visible = np.zeros((height, width), np.uint8)  # the number of the object seen at a pixel, 0 for the ground
    centres = np.empty((0, 2))
    for number in range(1, rng.integers(2, 5) + 1):
        places = rng.uniform((0.12 * width, 0.12 * height), (0.88 * width, 0.88 * height), (3, 2))
        # The roomiest of three random places: objects overlap often, but seldom hide each other.
        room = np.linalg.norm(places[:, None] - centres[None], axis=2).min(axis=1, initial=np.inf)
        centres = np.vstack([centres, places[np.argmax(room)]])
        class_index = int(rng.integers(1, NUM_CLASSES_DRAWN))
        outline, texture = OBJECTS[class_index]
        radius = rng.uniform(0.17, 0.31) * min(height, width)
        mask = _outline_mask(rng, outline, centres[-1], radius, (height, width))
        painted = _paint(rng, _object_pattern(rng, texture, height, width))
        image += mask[..., None] * (painted - image)
        label[mask > 0.5] = class_index
        visible[mask > 0.5] = number
    box = np.ones((3, 3), np.uint8)
    label[cv2.dilate(visible, box) != cv2.erode(visible, box)] = IGNORE_LABEL

    rows, columns = np.ogrid[-1:1:height * 1j, -1:1:width * 1j]
    slope = rng.uniform(-0.2, 0.2, 2)
    image *= (1 + slope[0] * rows + slope[1] * columns)[..., None]
    image += rng.normal(0, rng.uniform(3, 9), image.shape)
    return np.clip(image, 0, 255).astype(np.uint8), label


def write_voc_layout(
    folder: str | Path, images: int = 250, seed: int = 0, progress: Callable[[Iterable], Iterable] = iter
) -> None:
    """Writes a demo data set in the layout of `DATA/pascal_voc`: four fifths of the images for training, the rest for validation.

    Image i depends on (seed, i) alone. The labelled list of a ratio is contained in the list of every smaller ratio and begins with
    images that together show all classes. An earlier demo in `folder` is replaced. Raises InputError, before anything is written,
    for fewer than 10 images, a negative seed, or a folder that holds something else.
    """
    folder = Path(folder)
    _check_request(folder, images, seed)
    _clear(folder)
    (folder / MARKER).write_text(f"python -m furnace demo-data: {images} images, seed {seed}. Safe to delete.\n")

    train_count = images * 4 // 5
    lines: dict[str, list[tuple[str, str]]] = {"train_aug": [], "val": []}
    classes_shown: list[set[int]] = []
    for split in lines:
        for kind in ("image", "label"):
            (folder / split / kind).mkdir(parents=True)
    for index in progress(range(images)):
        rng = np.random.default_rng([seed, index])
        height, width = int(rng.integers(112, 145)), int(rng.integers(144, 177))
        image, label = draw_scene(rng, height, width)
        split = "train_aug" if index < train_count else "val"
        paths = f"/{split}/image/scene_{index:05d}.jpg", f"/{split}/label/scene_{index:05d}.png"
        _write_image(folder / paths[0][1:], image[..., ::-1], [cv2.IMWRITE_JPEG_QUALITY, JPEG_QUALITY])  # OpenCV wants BGR
        _write_image(folder / paths[1][1:], label, [])
        lines[split].append(paths)
        classes_shown.append(set(np.unique(label).tolist()) - {0, IGNORE_LABEL})

    # The lists come last, and val.txt last of all: a demo that was interrupted has none, so nothing can train on half of it.
    (folder / "subset_train_aug").mkdir()
    order = _labelling_order(classes_shown[:train_count], seed)
    for ratio in LABELED_RATIOS:
        labelled = max(1, train_count // ratio)
        stem = folder / "subset_train_aug" / "train_aug"
        _write_lines(Path(f"{stem}_labeled_1-{ratio}.txt"), ["\t".join(lines["train_aug"][i]) for i in order[:labelled]])
        _write_lines(Path(f"{stem}_unlabeled_1-{ratio}.txt"), [lines["train_aug"][i][0] for i in order[labelled:]])
    _write_lines(folder / "val.txt", ["\t".join(paths) for paths in lines["val"]])


def _labelling_order(classes_shown: list[set[int]], seed: int) -> list[int]:
    """A random order of the training images, moved about only so far that the first few together show every class there is."""
    rest = np.random.default_rng(seed).permutation(len(classes_shown)).tolist()
    missing = set().union(*classes_shown)
    first = []
    while missing:
        best = max(rest, key=lambda index: len(missing & classes_shown[index]))
        rest.remove(best)
        first.append(best)
        missing -= classes_shown[best]
    return first + rest


def _check_request(folder: Path, images: int, seed: int) -> None:
    if images < LEAST_IMAGES:
        raise InputError(f"demo data: expected at least {LEAST_IMAGES} images, found images={images}; ask for more, for example 250")
    if seed < 0:
        raise InputError(f"demo data: expected a seed of 0 or more, found seed={seed}; choose another")
    if folder.exists() and not folder.is_dir():
        raise InputError(f"demo data: expected a folder, found the file {folder}; name another place")
    if folder.is_dir() and any(folder.iterdir()) and not (folder / MARKER).is_file():
        # Looking for lists would not do: the real PASCAL VOC has the same layout and must never be replaced.
        raise InputError(
            f"demo data: expected a new folder or an earlier demo, found other files in {folder} (no {MARKER}); "
            "name another folder, or empty this one first"
        )


def _clear(folder: Path) -> None:
    """Removes what an earlier demo wrote, and nothing else."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "val.txt").unlink(missing_ok=True)
    for name in ("subset_train_aug", "train_aug", "val"):
        if (folder / name).exists():
            shutil.rmtree(folder / name)


def _write_image(path: Path, image: np.ndarray, options: list[int]) -> None:
    # imencode and write_bytes rather than imwrite, which reports a full disk by returning False
    path.write_bytes(cv2.imencode(path.suffix, image, options)[1].tobytes())


def _write_lines(path: Path, lines: list[str]) -> None:
    path.write_text("".join(line + "\n" for line in lines))
