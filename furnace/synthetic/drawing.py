"""What scenes are drawn with: patterns, two random colours, outlines, and a canvas that keeps the label.

Shapes: H, W height and width of an image; K corners of an outline, (x, y) each. A pattern is float (H, W) in 0..1: how
much of the second of two colours shows. A coverage is float (H, W) in 0..1: how much of each pixel an outline covers.
"""

from collections.abc import Callable, Iterable, Sequence
from typing import NamedTuple

import cv2
import numpy as np

IGNORE_LABEL = 255

# Over coordinates in periods.
TEXTURES: dict[str, Callable[[np.ndarray, np.ndarray], np.ndarray]] = {
    "dots": lambda x, y: 2 * (0.34 - np.hypot((x + 0.5 * (np.floor(y) % 2)) % 1 - 0.5, y % 1 - 0.5)),
    "checks": lambda x, y: 2 * np.sin(np.pi * x) * np.sin(np.pi * y),
    "stripes": lambda x, y: np.sin(2 * np.pi * x),
    "layers": lambda x, y: np.sin(2 * np.pi * y),
    "grid": lambda x, y: np.maximum(np.cos(2 * np.pi * x), np.cos(2 * np.pi * y)) - 0.65,
    "bricks": lambda x, y: 4 * np.minimum(_to_joint(0.8 * x + 0.5 * (np.floor(1.6 * y) % 2)), _to_joint(1.6 * y)) - 0.6,
    "windows": lambda x, y: 4 * np.minimum(_to_joint(x), _to_joint(y)) - 0.9,
}


def _to_joint(x: np.ndarray) -> np.ndarray:
    """How far it is to the nearest whole number, 0..0.5."""
    return 0.5 - np.abs(x % 1 - 0.5)


def noise(rng: np.random.Generator, height: int, width: int, blur: float, blur_down: float = 0) -> np.ndarray:
    """Smooth noise (H, W) of mean 0 and deviation 1; `blur` in pixels, across and, where it differs, down."""
    smooth = cv2.GaussianBlur(rng.standard_normal((height, width), dtype=np.float32), (0, 0), blur, sigmaY=blur_down)
    return (smooth - smooth.mean()) / smooth.std()


# Textures without a period, from (rng, H, W).
NOISES: dict[str, Callable[[np.random.Generator, int, int], np.ndarray]] = {
    "blotches": lambda rng, *size: noise(rng, *size, rng.uniform(1.8, 2.6)),
    "clouds": lambda rng, *size: sum(noise(rng, *size, blur) * blur for blur in (2, 5, 12)) / 14,
    "grain": lambda rng, *size: noise(rng, *size, 0.7),
    "blades": lambda rng, *size: noise(rng, *size, 0.7, 5.0),
}


def texture_pattern(
    rng: np.random.Generator, texture: str, height: int, width: int, lean: float, contrast: float = 1.5
) -> np.ndarray:
    """A texture (H, W). One with a period is turned by up to `lean` radians either way, and a little bent."""
    if texture in NOISES:
        wave = NOISES[texture](rng, height, width)
    else:
        period, angle = rng.uniform(7, 11), rng.uniform(-lean, lean)  # pixels, radians
        bend, wavelength, phase = rng.uniform((0, 40, 0), (1, 80, 2 * np.pi))  # pixels, pixels, radians
        rows, columns = np.mgrid[:height, :width]
        along = rows * np.cos(angle) - columns * np.sin(angle)
        across = rows * np.sin(angle) + columns * np.cos(angle) + bend * np.sin(2 * np.pi * along / wavelength + phase)
        wave = TEXTURES[texture](across / period + phase, along / period + phase)
    return np.clip(0.5 + contrast * wave, 0, 1)  # at 1.5 two tones, with an edge about a pixel wide: no jagged lines


def paint(rng: np.random.Generator, pattern: np.ndarray) -> np.ndarray:
    """Colours a pattern with two random colours, one clearly the brighter: (H, W) -> (H, W, 3) in 0..255."""
    candidates = rng.uniform(45, 210, (5, 1)) + rng.uniform(-45, 45, (5, 3))  # a brightness and a tint each
    darkest_first = np.argsort(candidates @ (0.299, 0.587, 0.114))
    first, second = candidates[rng.permutation(darkest_first[[0, -1]])]
    return first + (second - first) * pattern[..., None]


def corners(count: int, radii: Iterable[float] = (1.0,)) -> np.ndarray:
    """Corners (K, 2) of (x, y) at even angles, the first one on top; `radii` repeat along them."""
    angles = np.arange(count) * (2 * np.pi / count) - np.pi / 2
    return np.stack([np.cos(angles), np.sin(angles)], axis=1) * np.resize(radii, (count, 1))


class Pose(NamedTuple):
    """Where an outline lies in an image: squeezed, turned, enlarged, then moved so that (0, 0) comes to `origin`."""

    origin: np.ndarray  # (x, y) in pixels
    scale: float  # pixels
    turn: np.ndarray  # (2, 2)
    squeeze: np.ndarray  # factors across and down; -1 mirrors


def turned(angle: float) -> np.ndarray:
    """The matrix (2, 2) that turns corners (K, 2) on its left by an angle in radians."""
    return np.array([[np.cos(angle), np.sin(angle)], [-np.sin(angle), np.cos(angle)]])


def fill(outlines: Sequence[np.ndarray], pose: Pose, shape: tuple[int, int]) -> np.ndarray:
    """The coverage (H, W) of outlines; where two overlap is a hole."""
    origin, scale, turn, squeeze = pose
    sixteenths = [np.rint(16 * (origin + scale * (outline * squeeze) @ turn)).astype(np.int32) for outline in outlines]
    return cv2.fillPoly(np.zeros(shape, np.uint8), sixteenths, 255, cv2.LINE_AA, shift=4) / 255


def roomiest(places: np.ndarray, taken: np.ndarray) -> np.ndarray:
    """The one of some places (M, 2) that is farthest from all that are taken (N, 2)."""
    room = np.linalg.norm(places[:, None] - taken, axis=2).min(axis=1, initial=np.inf)
    return places[np.argmax(room)]


class Canvas:
    """A picture that grows from back to front, and the label that follows from it."""

    def __init__(self, ground: np.ndarray, class_index: int) -> None:
        """`ground` (H, W, 3) in 0..255 fills the canvas."""
        self.shape = ground.shape[:2]
        self._image = ground
        self._label = np.full(self.shape, class_index, np.uint8)
        self._visible = np.zeros(self.shape, np.uint8)  # the number of the part that is seen, 0 for the ground
        self._parts = 0

    def add(self, coverage: np.ndarray, painted: np.ndarray, class_index: int) -> None:
        """Puts a part in front of all others: `coverage` (H, W), `painted` (H, W, 3)."""
        self._parts += 1
        self._image += coverage[..., None] * (painted - self._image)
        self._label[coverage > 0.5], self._visible[coverage > 0.5] = class_index, self._parts

    def finish(self, rng: np.random.Generator, graininess: tuple[float, float]) -> tuple[np.ndarray, np.ndarray]:
        """Lights the picture unevenly and adds camera noise, whose deviation is drawn from `graininess`.

        Returns the image, uint8 (H, W, 3) RGB, and its label, uint8 (H, W), with a border two pixels wide of
        IGNORE_LABEL around everything visible.
        """
        (height, width), image, label = self.shape, self._image, self._label
        label[cv2.morphologyEx(self._visible, cv2.MORPH_GRADIENT, np.ones((3, 3), np.uint8)) > 0] = IGNORE_LABEL
        down, right = rng.uniform(-0.2, 0.2, (2, 1)) * (-1, 1)  # how much brighter or darker each end is
        image *= (1 + np.linspace(*down, height)[:, None] + np.linspace(*right, width))[..., None]
        image += rng.normal(0, rng.uniform(*graininess), image.shape)
        return np.clip(image, 0, 255).astype(np.uint8), label
