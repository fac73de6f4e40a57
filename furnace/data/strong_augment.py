"""The strong view: random photometric changes of a weak view; no pixel moves.

Every operation takes (h, w, 3) uint8 RGB and gives the same. Operations on single values are look-up tables. After
Cubuk et al., "RandAugment" (2020); the published code's list held operations that change nothing at its strength.
"""

from collections.abc import Callable
from statistics import NormalDist

import cv2
import numpy as np

from furnace.data.images import histogram

OPERATIONS_PER_IMAGE = 3
PROBABILITY = 0.5

Operation = Callable[[np.ndarray, np.random.Generator], np.ndarray]

VALUES = np.arange(256, dtype=np.float64)
DEVIATIONS = np.array([NormalDist().inv_cdf((byte + 0.5) / 256) for byte in range(256)])
LUMA = np.array([0.299, 0.587, 0.114], dtype=np.float32)  # ITU-R BT.601


def _table(values: np.ndarray) -> np.ndarray:
    return np.clip(np.round(values), 0, 255).astype(np.uint8)


def _away_from_one(random: np.random.Generator, low: float, high: float) -> float:
    """A factor in [low, high] or its inverse: never so near to 1 that nothing changes."""
    factor = random.uniform(low, high)
    return factor if random.random() < 0.5 else 1 / factor


def brightness(image: np.ndarray, random: np.random.Generator) -> np.ndarray:
    shift = random.uniform(20, 60) * random.choice((-1, 1))
    return cv2.LUT(image, _table(VALUES + shift))


def contrast(image: np.ndarray, random: np.random.Generator) -> np.ndarray:
    return cv2.LUT(image, _table(128 + (VALUES - 128) * _away_from_one(random, 1.3, 2.0)))


def gamma(image: np.ndarray, random: np.random.Generator) -> np.ndarray:
    return cv2.LUT(image, _table(255 * (VALUES / 255) ** _away_from_one(random, 1.4, 2.2)))


def posterize(image: np.ndarray, random: np.random.Generator) -> np.ndarray:
    dropped_bits = int(random.integers(3, 6))
    return cv2.LUT(image, _table(np.right_shift(np.arange(256), dropped_bits) << dropped_bits))


def solarize(image: np.ndarray, random: np.random.Generator) -> np.ndarray:
    threshold = random.uniform(128, 224)
    return cv2.LUT(image, _table(np.where(VALUES < threshold, VALUES, 255 - VALUES)))


def autocontrast(image: np.ndarray, random: np.random.Generator) -> np.ndarray:
    """Stretches every channel to the full range, cutting a random share off both ends."""
    cut = random.uniform(1, 8)
    stretched = []
    for channel in cv2.split(image):
        low, high = _percentiles(channel, (cut, 100 - cut))
        stretched.append(cv2.LUT(channel, _table((VALUES - low) * 255 / max(high - low, 1))))
    return cv2.merge(stretched)


def _percentiles(channel: np.ndarray, percent: tuple[float, ...]) -> np.ndarray:
    """As `numpy.percentile`, which would sort: linear between neighbours."""
    place = np.array(percent) / 100 * (channel.size - 1)
    counts = np.cumsum(histogram(channel))
    below, above = (np.searchsorted(counts, rounded(place), side="right") for rounded in (np.floor, np.ceil))
    return below + (above - below) * (place % 1)


def equalize(image: np.ndarray, random: np.random.Generator) -> np.ndarray:
    return cv2.merge([cv2.equalizeHist(channel) for channel in cv2.split(image)])


def saturation(image: np.ndarray, random: np.random.Generator) -> np.ndarray:
    """Blends with the grey image; factor 0 is grey, above 1 is more colourful. A linear map of the channels."""
    factor = random.choice((random.uniform(0, 0.5), random.uniform(1.6, 2.5)))
    return cv2.transform(image, factor * np.eye(3, dtype=np.float32) + (1 - factor) * np.tile(LUMA, (3, 1)))


def hue(image: np.ndarray, random: np.random.Generator) -> np.ndarray:
    """Turns the colours about the grey axis by 30 to 330 degrees (Rodrigues' rotation)."""
    angle = np.deg2rad(random.uniform(30, 330))
    third, root = (1 - np.cos(angle)) / 3, np.sqrt(1 / 3) * np.sin(angle)
    turn = np.full((3, 3), third) + np.cos(angle) * np.eye(3)
    turn += root * np.array([[0, -1, 1], [1, 0, -1], [-1, 1, 0]])
    return cv2.transform(image, turn.astype(np.float32))


def swap_channels(image: np.ndarray, random: np.random.Generator) -> np.ndarray:
    order = ((0, 2, 1), (1, 0, 2), (1, 2, 0), (2, 0, 1), (2, 1, 0))[random.integers(5)]
    channels = cv2.split(image)
    return cv2.merge([channels[index] for index in order])


def blur(image: np.ndarray, random: np.random.Generator) -> np.ndarray:
    sigma = random.uniform(0.6, 1.8)
    return cv2.GaussianBlur(image, (0, 0), sigma)


def sharpen(image: np.ndarray, random: np.random.Generator) -> np.ndarray:
    amount = random.uniform(0.5, 1.5)
    blurred = cv2.GaussianBlur(image, (5, 5), 0)  # 1 4 6 4 1 over 16: its deviation is one pixel
    return cv2.addWeighted(image, 1 + amount, blurred, -amount, 0)


def noise(image: np.ndarray, random: np.random.Generator) -> np.ndarray:
    """Gaussian noise: for every pixel and channel a random byte, looked up among 256 equally likely deviations."""
    table = _table(128 + random.uniform(8, 20) * DEVIATIONS)
    words = random.integers(2**64, size=image.size // 8 + 1, dtype=np.uint64)  # the fastest way to random bytes
    grain = cv2.LUT(words.view(np.uint8)[: image.size].reshape(image.shape), table)
    return cv2.addWeighted(image, 1, grain, 1, -128)


OPERATIONS: tuple[Operation, ...] = (
    brightness,
    contrast,
    gamma,
    posterize,
    solarize,
    autocontrast,
    equalize,
    saturation,
    hue,
    swap_channels,
    blur,
    sharpen,
    noise,
)


def strong_view(image: np.ndarray, random: np.random.Generator) -> np.ndarray:
    """Half of the time the image itself, else three different operations, in the order of OPERATIONS."""
    if random.random() >= PROBABILITY:
        return image
    chosen = random.choice(len(OPERATIONS), size=OPERATIONS_PER_IMAGE, replace=False)
    for index in sorted(chosen):
        image = OPERATIONS[index](image, random)
    return image
