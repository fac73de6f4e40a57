"""The means of drawing toy scenes: patterns, pairs of random colours, outlines, and a canvas that keeps the label.

H and W are the height and width of an image in pixels. An outline has K corners, (x, y) each. A pattern is float (H, W)
in 0..1 and says how much of the second of two colours shows. A coverage is float (H, W) in 0..1 and says how much of
each pixel an outline covers.
"""

from collections.abc import Callable, Sequence
from typing import NamedTuple

import cv2
import numpy as np

from furnace.labels import IGNORE

# Textures with a period: functions of x and y, which count periods.
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
    """Returns how far each value is from the nearest whole number, 0..0.5."""
    return 0.5 - np.abs(x % 1 - 0.5)


def noise(rng: np.random.Generator, height: int, width: int, blur: float, blur_down: float = 0) -> np.ndarray:
    """Draws smooth noise (H, W) float32 of mean 0 and deviation 1.

    Args:
        blur: the deviation of the Gaussian that smoothes it, in pixels.
        blur_down: the same for the vertical direction; 0 if it is `blur` too.
    """
    smooth = cv2.GaussianBlur(rng.standard_normal((height, width), dtype=np.float32), (0, 0), blur, sigmaY=blur_down)
    return (smooth - smooth.mean()) / smooth.std()


def _clouds(rng: np.random.Generator, height: int, width: int) -> np.ndarray:
    small, middle, large = (blur * noise(rng, height, width, blur) for blur in (2, 5, 12))
    return (small + middle + large) / 14


# Textures without a period: functions of rng, H and W.
NOISES: dict[str, Callable[[np.random.Generator, int, int], np.ndarray]] = {
    "blotches": lambda rng, height, width: noise(rng, height, width, rng.uniform(1.8, 2.6)),
    "clouds": _clouds,
    "grain": lambda rng, height, width: noise(rng, height, width, 0.7),
    "blades": lambda rng, height, width: noise(rng, height, width, 0.7, 5.0),
}


def texture_pattern(
    rng: np.random.Generator, texture: str, height: int, width: int, lean: float, contrast: float = 1.5
) -> np.ndarray:
    """Draws the pattern (H, W) of a texture.

    Args:
        texture: a name in TEXTURES or NOISES.
        lean: a texture with a period is turned by up to so many radians either way, and is bent a little.
        contrast: the factor by which the texture's values differ from the mean of the two colours.
    """
    if texture in NOISES:
        wave = NOISES[texture](rng, height, width)
    else:
        period, angle = rng.uniform(7, 11), rng.uniform(-lean, lean)  # pixels, radians
        bend, wavelength, phase = rng.uniform((0, 40, 0), (1, 80, 2 * np.pi))  # pixels, pixels, radians
        rows, columns = np.mgrid[:height, :width]
        along = rows * np.cos(angle) - columns * np.sin(angle)
        across = rows * np.sin(angle) + columns * np.cos(angle) + bend * np.sin(2 * np.pi * along / wavelength + phase)
        wave = TEXTURES[texture](across / period + phase, along / period + phase)
    # A contrast of 1.5 gives two tones with edges about a pixel wide, so that no line is jagged.
    return np.clip(0.5 + contrast * wave, 0, 1)


def paint(rng: np.random.Generator, pattern: np.ndarray) -> np.ndarray:
    """Paints a pattern (H, W) with two random colours, one clearly brighter; returns (H, W, 3) in 0..255."""
    candidates = rng.uniform(45, 210, (5, 1)) + rng.uniform(-45, 45, (5, 3))  # each is a brightness and a tint
    darkest_first = np.argsort(candidates @ (0.299, 0.587, 0.114))
    first, second = candidates[rng.permutation(darkest_first[[0, -1]])]
    return first + (second - first) * pattern[..., None]


def corners(count: int, radii: Sequence[float] = (1.0,)) -> np.ndarray:
    """Returns corners (K, 2) of (x, y) at even angles around (0, 0), the first one on top.

    Args:
        count: K.
        radii: how far the corners are from (0, 0); repeated until there is one for each corner.
    """
    angles = np.arange(count) * (2 * np.pi / count) - np.pi / 2
    return np.stack([np.cos(angles), np.sin(angles)], axis=1) * np.resize(radii, (count, 1))


class Pose(NamedTuple):
    """Where an outline lies in an image.

    The outline is squeezed, turned, enlarged, and then moved so that its point (0, 0) comes to `origin`.
    """

    origin: np.ndarray  # (x, y) in pixels
    scale: float  # pixels in a unit of the outline
    turn: np.ndarray  # (2, 2), made by `turned`
    squeeze: np.ndarray  # (2,) factors across and down; a negative one mirrors


def turned(angle: float) -> np.ndarray:
    """Returns the matrix (2, 2) that turns the corners (K, 2) on its left by an angle in radians."""
    return np.array([[np.cos(angle), np.sin(angle)], [-np.sin(angle), np.cos(angle)]])


def fill(outlines: Sequence[np.ndarray], pose: Pose, shape: tuple[int, int]) -> np.ndarray:
    """Returns the coverage (H, W) of outlines; there is a hole where two of them overlap."""
    origin, scale, turn, squeeze = pose
    sixteenths = [np.rint(16 * (origin + scale * (outline * squeeze) @ turn)).astype(np.int32) for outline in outlines]
    return cv2.fillPoly(np.zeros(shape, np.uint8), sixteenths, 255, cv2.LINE_AA, shift=4) / 255


def roomiest(places: np.ndarray, taken: np.ndarray) -> np.ndarray:
    """Returns the one of `places` (M, 2) whose distance from the nearest of the `taken` places (N, 2) is largest."""
    room = np.linalg.norm(places[:, None] - taken, axis=2).min(axis=1, initial=np.inf)
    return places[np.argmax(room)]


class Canvas:
    """A picture that is drawn from back to front, and the label that follows from it.

    Args:
        ground: (H, W, 3) in 0..255, which fills the canvas at first.
        class_index: the class of the ground.
    """

    def __init__(self, ground: np.ndarray, class_index: int) -> None:
        self.shape = ground.shape[:2]
        self._image = ground
        self._label = np.full(self.shape, class_index, np.uint8)
        self._visible = np.zeros(self.shape, np.uint8)  # the number of the part that shows; 0 for the ground
        self._parts = 0

    def add(self, coverage: np.ndarray, painted: np.ndarray, class_index: int) -> None:
        """Puts a part in front of all others.

        Args:
            coverage: (H, W), how much of each pixel the part covers.
            painted: (H, W, 3) in 0..255, its colours.
            class_index: its class, which the label has where the part covers more than half of a pixel.
        """
        self._parts += 1
        self._image += coverage[..., None] * (painted - self._image)
        self._label[coverage > 0.5], self._visible[coverage > 0.5] = class_index, self._parts

    def finish(self, rng: np.random.Generator, graininess: tuple[float, float]) -> tuple[np.ndarray, np.ndarray]:
        """Lights the picture unevenly and adds camera noise, whose deviation is drawn from `graininess`.

        Returns:
            The image, (H, W, 3) uint8 RGB, and its label, (H, W) uint8. A border two pixels wide around everything
            visible is ignored.
        """
        (height, width), image, label = self.shape, self._image, self._label
        label[cv2.morphologyEx(self._visible, cv2.MORPH_GRADIENT, np.ones((3, 3), np.uint8)) > 0] = IGNORE
        (top, bottom), (left, right) = rng.uniform(-0.2, 0.2, (2, 1)) * (-1, 1)  # how much brighter each end is
        image *= (1 + np.linspace(top, bottom, height)[:, None] + np.linspace(left, right, width))[..., None]
        image += rng.normal(0, rng.uniform(*graininess), image.shape)
        return np.clip(image, 0, 255).astype(np.uint8), label
