"""A small data set made on the spot, so that the whole program runs with no download.

Five kinds of object lie on a textured ground. A kind is one form with one texture; all colours come from one
distribution, so colour says nothing. Forms and textures are deformed, but neither leans far: a narrow network learns an
upright world from random weights in minutes, and mirroring leaves it upright.

    label   VOC's name   form        texture
    0       background   ground      clouds, grain, flagstones or brush strokes
    1       aeroplane    disc        dots
    2       bicycle      rectangle   checks
    3       bird         triangle    stripes
    4       boat         star        grid of lines
    5       bottle       ring        blotches
    255     (ignored)    a border two pixels wide around everything visible

Shapes: H, W height and width of an image; K corners of an outline. A pattern is float (H, W) in 0..1: how much of the
second of two colours shows.
"""

import shutil
from collections.abc import Callable, Iterable
from pathlib import Path

import cv2
import numpy as np

from furnace.errors import InputError

NUM_CLASSES_DRAWN = 6  # the ground is one
IGNORE_LABEL = 255
LEAST_IMAGES = 10
MARKER = "made_by_demo_data.txt"
LEAN = 0.4  # radians: how far a form or a texture turns either way


def _corners(count: int, radii: Iterable[float] = (1.0,)) -> np.ndarray:
    """Corners (K, 2) of (x, y) at even angles, the first one on top; `radii` repeat along them."""
    angles = np.arange(count) * (2 * np.pi / count) - np.pi / 2
    return np.stack([np.cos(angles), np.sin(angles)], axis=1) * np.resize(radii, (count, 1))


# Over coordinates in periods; blotches are noise, which has none.
TEXTURES: dict[str, Callable[[np.ndarray, np.ndarray], np.ndarray]] = {
    "dots": lambda x, y: 2 * (0.34 - np.hypot((x + 0.5 * (np.floor(y) % 2)) % 1 - 0.5, y % 1 - 0.5)),
    "checks": lambda x, y: 2 * np.sin(np.pi * x) * np.sin(np.pi * y),
    "stripes": lambda x, y: np.sin(2 * np.pi * x),
    "grid": lambda x, y: np.maximum(np.cos(2 * np.pi * x), np.cos(2 * np.pi * y)) - 0.65,
}

# Label: (contours within about the unit circle, of which a second one is a hole; texture)
OBJECTS = {
    1: ([_corners(24)], "dots"),
    2: ([np.array([[-0.8, -0.65], [0.8, -0.65], [0.8, 0.65], [-0.8, 0.65]])], "checks"),
    3: ([_corners(3, (1.15,))], "stripes"),
    4: ([_corners(10, (1.2, 0.55))], "grid"),
    5: ([_corners(24, (1.1,)), _corners(24, (0.45,))], "blotches"),
}


def _noise(rng: np.random.Generator, height: int, width: int, blur: float, blur_down: float = 0) -> np.ndarray:
    """Smooth noise (H, W) of mean 0 and deviation 1; `blur` in pixels, across and, where it differs, down."""
    noise = cv2.GaussianBlur(rng.standard_normal((height, width), dtype=np.float32), (0, 0), blur, sigmaY=blur_down)
    return (noise - noise.mean()) / noise.std()


def _object_pattern(rng: np.random.Generator, texture: str, height: int, width: int) -> np.ndarray:
    if texture == "blotches":
        wave = _noise(rng, height, width, rng.uniform(1.8, 2.6))
    else:
        period, angle = rng.uniform(7, 11), rng.uniform(-LEAN, LEAN)  # pixels, radians
        bend, wavelength, phase = rng.uniform((0, 40, 0), (1, 80, 2 * np.pi))  # pixels, pixels, radians
        rows, columns = np.mgrid[:height, :width]
        along = rows * np.cos(angle) - columns * np.sin(angle)
        across = rows * np.sin(angle) + columns * np.cos(angle) + bend * np.sin(2 * np.pi * along / wavelength + phase)
        wave = TEXTURES[texture](across / period + phase, along / period + phase)
    return np.clip(0.5 + 1.5 * wave, 0, 1)  # two tones, with an edge about a pixel wide so that lines are not jagged


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
    else:  # brush strokes, upright or sideways
        wave = _noise(rng, height, width, *rng.permutation([0.7, 5.0]))
    return np.clip(0.5 + 0.12 * wave, 0, 1)  # fainter than an object's, whose texture must win


def _paint(rng: np.random.Generator, pattern: np.ndarray) -> np.ndarray:
    """Colours a pattern with two random colours, one clearly the brighter: (H, W) -> (H, W, 3) in 0..255."""
    candidates = rng.uniform(45, 210, (5, 1)) + rng.uniform(-45, 45, (5, 3))  # a brightness and a tint each
    darkest_first = np.argsort(candidates @ (0.299, 0.587, 0.114))
    first, second = candidates[rng.permutation(darkest_first[[0, -1]])]
    return first + (second - first) * pattern[..., None]


def _coverage(rng: np.random.Generator, contours: list, centre: np.ndarray, radius: float, shape: tuple) -> np.ndarray:
    """Leans, squeezes and dents an outline and fills it: how much of each pixel (H, W) it covers, 0..1."""
    lean, squeeze = rng.uniform(-LEAN, LEAN), rng.uniform(0.75, 1.1, 2)  # radians, factors across and down
    turn = np.array([[np.cos(lean), np.sin(lean)], [-np.sin(lean), np.cos(lean)]])
    dented = [corners * rng.uniform(0.92, 1.08, (len(corners), 1)) for corners in contours]
    sixteenths = [np.rint(16 * (centre + radius * (corners * squeeze) @ turn)).astype(np.int32) for corners in dented]
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
        contours, texture = OBJECTS[class_index := int(rng.integers(1, NUM_CLASSES_DRAWN))]
        coverage = _coverage(rng, contours, centres[-1], rng.uniform(0.22, 0.36) * min(height, width), (height, width))
        image += coverage[..., None] * (_paint(rng, _object_pattern(rng, texture, height, width)) - image)
        label[coverage > 0.5], visible[coverage > 0.5] = class_index, number
    label[cv2.morphologyEx(visible, cv2.MORPH_GRADIENT, np.ones((3, 3), np.uint8)) > 0] = IGNORE_LABEL

    down, right = rng.uniform(-0.2, 0.2, (2, 1)) * (-1, 1)  # how much brighter or darker each end is
    image *= (1 + np.linspace(*down, height)[:, None] + np.linspace(*right, width))[..., None]
    image += rng.normal(0, rng.uniform(2, 6), image.shape)
    return np.clip(image, 0, 255).astype(np.uint8), label


def write_voc_layout(
    folder: str | Path, images: int = 250, seed: int = 0, progress: Callable[[Iterable], Iterable] = iter
) -> None:
    """Writes a demo in the layout of `DATA/pascal_voc`: four fifths of the images for training, the rest to validate.

    Image i depends on (seed, i) alone. Each labelled list begins with the next smaller one, the smallest with images
    that together show every class. An earlier demo in `folder` is replaced. Raises InputError, before anything is
    written, for fewer than 10 images, a negative seed, or a folder that holds something else.
    """
    folder = Path(folder)
    _check_request(folder, images, seed)
    folder.mkdir(parents=True, exist_ok=True)
    (folder / MARKER).write_text(f"Made by `python -m furnace demo-data`: {images} images, seed {seed}.\n")
    (folder / "val.txt").unlink(missing_ok=True)
    for name in ("subset_train_aug", "train_aug", "val"):  # what an earlier demo wrote, nothing else
        shutil.rmtree(folder / name, ignore_errors=True)  # where that fails, so does mkdir
    for name in ("train_aug/image", "train_aug/label", "val/image", "val/label", "subset_train_aug"):
        (folder / name).mkdir(parents=True)

    train_count = images * 4 // 5
    pairs, classes_shown = [], []
    for index in progress(range(images)):
        rng = np.random.default_rng([seed, index])
        image, label = draw_scene(rng, height=int(rng.integers(112, 145)), width=int(rng.integers(144, 177)))
        split = "train_aug" if index < train_count else "val"
        pairs.append((f"/{split}/image/scene_{index:05d}.jpg", f"/{split}/label/scene_{index:05d}.png"))
        # imencode, not imwrite, which reports a full disk by returning False; OpenCV's channel order is BGR
        jpeg = cv2.imencode(".jpg", image[..., ::-1], [cv2.IMWRITE_JPEG_QUALITY, 92])[1]
        for path, encoded in zip(pairs[-1], (jpeg, cv2.imencode(".png", label)[1]), strict=True):
            (folder / path[1:]).write_bytes(encoded.tobytes())
        classes_shown.append(set(np.unique(label).tolist()) - {0, IGNORE_LABEL})

    order, lists = _labelling_order(classes_shown[:train_count], seed), {}
    for ratio in (16, 8, 4, 2):
        count, stem = max(1, train_count // ratio), "subset_train_aug/train_aug"
        lists[f"{stem}_labeled_1-{ratio}.txt"] = ["\t".join(pairs[index]) for index in order[:count]]
        lists[f"{stem}_unlabeled_1-{ratio}.txt"] = [pairs[index][0] for index in order[count:]]
    lists["val.txt"] = ["\t".join(pair) for pair in pairs[train_count:]]
    for name, lines in lists.items():  # after all images: an interrupted demo has no list, so nothing trains on half
        (folder / name).write_text("\n".join(lines) + "\n")


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
    free = not folder.exists() or (folder.is_dir() and ((folder / MARKER).is_file() or not any(folder.iterdir())))
    for valid, expected, found, remedy in (
        (images >= LEAST_IMAGES, f"at least {LEAST_IMAGES} images", images, "ask for 250, for example"),
        (seed >= 0, "a seed of 0 or more", seed, "choose another"),
        # A marker of our own, because the real PASCAL VOC has the same folders and must never be replaced.
        (free, "a new folder or an earlier demo", f"something else in {folder} (no {MARKER})", "name another folder"),
    ):
        if not valid:
            raise InputError(f"demo data: expected {expected}, found {found}; {remedy}")
