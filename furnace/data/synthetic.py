"""A small data set made on the spot, so that the whole program runs with no download.

Five kinds of object lie on a textured ground. A kind is one form with one texture; colours come from one distribution
for all objects and grounds, so colour says nothing. Forms are leaned, squeezed and dented, textures leaned, scaled and
bent, but neither turns far: a narrow network learns an upright world from random weights in minutes, and mirroring
leaves it upright.

    label   VOC's name   form        texture
    0       background   ground      clouds, grain, flagstones or brush strokes
    1       aeroplane    disc        dots
    2       bicycle      rectangle   checks
    3       bird         triangle    stripes
    4       boat         star        grid of lines
    5       bottle       ring        blotches
    255     (ignored)    a border two pixels wide around everything visible

`draw_scene` knows no files, `write_voc_layout` nothing of what is drawn. Shapes: H, W height and width of an image;
K corners of an outline. A pattern is float (H, W) in 0..1: how much of the second of two colours shows.
"""

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
LEAN = 0.45  # radians: how far a form or a texture turns either way


def _corners(count: int, radii: Iterable[float] = (1.0,)) -> np.ndarray:
    """Corners (K, 2) of (x, y) at even angles, the first one on top; `radii` repeat along them."""
    angles = np.arange(count) * (2 * np.pi / count) - np.pi / 2
    return np.stack([np.cos(angles), np.sin(angles)], axis=1) * np.resize(radii, (count, 1))


def _ink(wave: np.ndarray) -> np.ndarray:
    """A wave about zero as a nearly two-tone pattern; its soft edge, about a pixel wide, prevents jagged lines."""
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


# Label: (contours within about the unit circle, of which a second one is a hole; texture over coordinates in periods)
OBJECTS = {
    1: ([_corners(24)], _dots),
    2: ([np.array([[-0.8, -0.65], [0.8, -0.65], [0.8, 0.65], [-0.8, 0.65]])], _checks),
    3: ([_corners(3, (1.15,))], _stripes),
    4: ([_corners(10, (1.2, 0.55))], _grid),
    5: ([_corners(24, (1.1,)), _corners(24, (0.45,))], None),  # blotches are noise and have no period
}


def _noise(rng: np.random.Generator, height: int, width: int, blur: float) -> np.ndarray:
    """Smooth noise (H, W) of mean 0 and deviation 1; `blur` is in pixels."""
    noise = cv2.GaussianBlur(rng.standard_normal((height, width), dtype=np.float32), (0, 0), blur)
    return (noise - noise.mean()) / noise.std()


def _object_pattern(rng: np.random.Generator, texture: Callable | None, height: int, width: int) -> np.ndarray:
    if texture is None:
        return _ink(_noise(rng, height, width, rng.uniform(1.5, 2.2)))
    period, angle = rng.uniform(7, 11), rng.uniform(-LEAN, LEAN)  # pixels, radians
    bend, wavelength, phase = rng.uniform(0, 1), rng.uniform(40, 80), rng.uniform(0, 2 * np.pi)  # pixels twice, radians
    rows, columns = np.mgrid[:height, :width].astype(np.float32)
    along = rows * np.cos(angle) - columns * np.sin(angle)
    across = rows * np.sin(angle) + columns * np.cos(angle) + bend * np.sin(2 * np.pi * along / wavelength + phase)
    return texture(across / period + phase, along / period + phase)


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
        angle = rng.uniform(0, np.pi)
        reach = np.rint(10 * np.array([np.cos(angle), np.sin(angle)])).astype(int)  # pixels
        stroke = cv2.line(np.zeros((21, 21), np.float32), 10 - reach, 10 + reach, 1.0)
        wave = cv2.filter2D(_noise(rng, height, width, 0.8), -1, stroke)
        wave = wave / wave.std()
    return np.clip(0.5 + 0.15 * wave, 0, 1)  # fainter than an object's pattern: half the classes' worth of work is here


def _paint(rng: np.random.Generator, pattern: np.ndarray) -> np.ndarray:
    """Colours a pattern with two random colours, one clearly the brighter: (H, W) -> (H, W, 3) in 0..255."""
    candidates = rng.uniform(25, 230, (8, 3))
    order = np.argsort(candidates @ LUMINANCE)
    first, second = candidates[rng.permutation(order[[0, -1]])]
    return first + (second - first) * pattern[..., None]


def _coverage(rng: np.random.Generator, contours: list, centre: np.ndarray, radius: float, shape: tuple) -> np.ndarray:
    """Leans, squeezes and dents an outline and fills it: how much of each pixel (H, W) it covers, 0..1."""

    def turn(angle: float) -> np.ndarray:
        return np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]])

    lean, squeezed = rng.uniform(-LEAN, LEAN), rng.uniform(0, np.pi)  # radians
    change = turn(squeezed) @ np.diag([1, rng.uniform(0.7, 1)]) @ turn(lean - squeezed)
    dented = [corners * rng.uniform(0.92, 1.08, (len(corners), 1)) for corners in contours]
    sixteenths = [np.rint(16 * (centre + radius * corners @ change.T)).astype(np.int32) for corners in dented]
    return cv2.fillPoly(np.zeros(shape, np.uint8), sixteenths, 255, cv2.LINE_AA, shift=4) / 255


def draw_scene(rng: np.random.Generator, height: int, width: int) -> tuple[np.ndarray, np.ndarray]:
    """Draws two to four objects, later ones in front, on a textured ground, in uneven light and with camera noise.

    Returns the image, uint8 (H, W, 3) RGB, and its label, uint8 (H, W): 0 ground, 1..5 objects, 255 borders.
    """
    image = _paint(rng, _ground_pattern(rng, height, width))  # (H, W, 3)
    label, visible = np.zeros((2, height, width), np.uint8)  # `visible`: number of the object seen, 0 for the ground
    centres = np.empty((0, 2))
    for number in range(1, rng.integers(2, 5) + 1):
        # The roomiest of three random places: objects overlap often, but seldom hide each other.
        places = rng.uniform(0.12, 0.88, (3, 2)) * (width, height)
        room = np.linalg.norm(places[:, None] - centres, axis=2).min(axis=1, initial=np.inf)
        centres = np.vstack([centres, places[np.argmax(room)]])
        class_index = int(rng.integers(1, NUM_CLASSES_DRAWN))
        contours, texture = OBJECTS[class_index]
        radius = rng.uniform(0.2, 0.35) * min(height, width)
        coverage = _coverage(rng, contours, centres[-1], radius, (height, width))
        image += coverage[..., None] * (_paint(rng, _object_pattern(rng, texture, height, width)) - image)
        label[coverage > 0.5] = class_index
        visible[coverage > 0.5] = number
    box = np.ones((3, 3), np.uint8)
    label[cv2.dilate(visible, box) != cv2.erode(visible, box)] = IGNORE_LABEL

    rows, columns = np.ogrid[-1 : 1 : height * 1j, -1 : 1 : width * 1j]
    down, right = rng.uniform(-0.2, 0.2, 2)
    image *= (1 + down * rows + right * columns)[..., None]
    image += rng.normal(0, rng.uniform(2, 7), image.shape)
    return np.clip(image, 0, 255).astype(np.uint8), label


def write_voc_layout(
    folder: str | Path, images: int = 250, seed: int = 0, progress: Callable[[Iterable], Iterable] = iter
) -> None:
    """Writes a demo in the layout of `DATA/pascal_voc`: four fifths of the images for training, the rest to validate.

    Image i depends on (seed, i) alone. Each labelled list is part of the next larger one and begins with images that
    together show every class. An earlier demo in `folder` is replaced. Raises InputError, before anything is written,
    for fewer than 10 images, a negative seed, or a folder that holds something else.
    """
    folder = Path(folder)
    _check_request(folder, images, seed)
    for name in ("val.txt", "subset_train_aug", "train_aug", "val"):  # what an earlier demo wrote, nothing else
        path = folder / name
        if path.is_dir():
            shutil.rmtree(path)
        else:
            path.unlink(missing_ok=True)
    for name in ("train_aug/image", "train_aug/label", "val/image", "val/label", "subset_train_aug"):
        (folder / name).mkdir(parents=True)
    (folder / MARKER).write_text(f"Made by `python -m furnace demo-data`: {images} images, seed {seed}.\n")

    train_count = images * 4 // 5
    pairs, classes_shown = [], []
    for index in progress(range(images)):
        rng = np.random.default_rng([seed, index])
        image, label = draw_scene(rng, height=int(rng.integers(112, 145)), width=int(rng.integers(144, 177)))
        split = "train_aug" if index < train_count else "val"
        pairs.append((f"/{split}/image/scene_{index:05d}.jpg", f"/{split}/label/scene_{index:05d}.png"))
        # imencode, not imwrite, which reports a full disk by returning False; OpenCV's channel order is BGR
        jpeg = cv2.imencode(".jpg", image[..., ::-1], [cv2.IMWRITE_JPEG_QUALITY, JPEG_QUALITY])[1]
        for path, encoded in zip(pairs[-1], (jpeg, cv2.imencode(".png", label)[1]), strict=True):
            (folder / path[1:]).write_bytes(encoded.tobytes())
        classes_shown.append(set(np.unique(label).tolist()) - {0, IGNORE_LABEL})

    # Lists come last: an interrupted demo has none, so nothing trains on half of it.
    order = _labelling_order(classes_shown[:train_count], seed)
    for ratio in LABELED_RATIOS:
        count = max(1, train_count // ratio)
        stem = "subset_train_aug/train_aug"
        _write_lines(folder / f"{stem}_labeled_1-{ratio}.txt", ["\t".join(pairs[index]) for index in order[:count]])
        _write_lines(folder / f"{stem}_unlabeled_1-{ratio}.txt", [pairs[index][0] for index in order[count:]])
    _write_lines(folder / "val.txt", ["\t".join(pair) for pair in pairs[train_count:]])


def _labelling_order(classes_shown: list[set[int]], seed: int) -> list[int]:
    """A random order of the training images, changed only so far that the first few together show every class."""
    rest = np.random.default_rng(seed).permutation(len(classes_shown)).tolist()
    missing, first = set().union(*classes_shown), []
    while missing:
        first.append(max(rest, key=lambda index: len(missing & classes_shown[index])))
        rest.remove(first[-1])
        missing -= classes_shown[first[-1]]
    return first + rest


def _check_request(folder: Path, images: int, seed: int) -> None:
    if images < LEAST_IMAGES:
        raise InputError(f"demo data: expected at least {LEAST_IMAGES} images, found {images}; ask for 250, for example")
    if seed < 0:
        raise InputError(f"demo data: expected a seed of 0 or more, found {seed}; choose another")
    if folder.exists() and not folder.is_dir():
        raise InputError(f"demo data: expected a folder, found the file {folder}; name another place")
    # The marker, because the real PASCAL VOC has the same folders and must never be replaced.
    if folder.is_dir() and any(folder.iterdir()) and not (folder / MARKER).is_file():
        raise InputError(
            f"demo data: expected a new or empty folder, or an earlier demo ({MARKER} inside), found other files in "
            f"{folder}; name another folder"
        )


def _write_lines(path: Path, lines: list[str]) -> None:
    path.write_text("".join(line + "\n" for line in lines))
