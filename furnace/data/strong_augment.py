"""The strong view: random photometric changes of a weak view, which move no pixel.

Every operation takes an image (h, w, 3) uint8 RGB and a generator, and returns an image of the same shape. Operations
that treat each value by itself are look-up tables. The list follows Cubuk et al., "RandAugment" (2020), but not the
published code, whose list has operations that change nothing at its strength. None here turns a colour into another
one, as inverted or exchanged channels do: students learn what was said of the weak view, so that grass must stay green.
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
# 256 equally likely values of a standard normal distribution.
DEVIATIONS = np.array([NormalDist().inv_cdf((byte + 0.5) / 256) for byte in range(256)])
LUMA = np.array([0.299, 0.587, 0.114], dtype=np.float32)  # ITU-R BT.601


def _table(values: np.ndarray) -> np.ndarray:
    """Rounds and clips (256,) values to a look-up table of uint8."""
    return np.clip(np.round(values), 0, 255).astype(np.uint8)


def _away_from_one(random: np.random.Generator, low: float, high: float) -> float:
    """Draws a factor in [low, high] or its inverse, which is never so near to 1 that nothing changes."""
    factor = random.uniform(low, high)
    return factor if random.random() < 0.5 else 1 / factor


def brightness(image: np.ndarray, random: np.random.Generator) -> np.ndarray:
    """Adds 20 to 60 to every value, or subtracts it."""
    shift = random.uniform(20, 60) * random.choice((-1, 1))
    return cv2.LUT(image, _table(VALUES + shift))


def contrast(image: np.ndarray, random: np.random.Generator) -> np.ndarray:
    """Moves all values away from the middle grey 128, or towards it, by a factor of 1.3 to 2."""
    return cv2.LUT(image, _table(128 + (VALUES - 128) * _away_from_one(random, 1.3, 2.0)))


def gamma(image: np.ndarray, random: np.random.Generator) -> np.ndarray:
    """Raises all values, as parts of 255, to a power of 1.4 to 2.2 or its inverse."""
    return cv2.LUT(image, _table(255 * (VALUES / 255) ** _away_from_one(random, 1.4, 2.2)))


def posterize(image: np.ndarray, random: np.random.Generator) -> np.ndarray:
    """Clears the lowest 3 to 5 bits of every value."""
    dropped_bits = int(random.integers(3, 6))
    return cv2.LUT(image, _table(np.right_shift(np.arange(256), dropped_bits) << dropped_bits))


def autocontrast(image: np.ndarray, random: np.random.Generator) -> np.ndarray:
    """Stretches the range so that the same 1 to 8 percent of the pixels are cut off at both ends of their luma."""
    cut = random.uniform(1, 8)
    low, high = _percentiles(_luma(image), (cut, 100 - cut))
    return cv2.LUT(image, _table((VALUES - low) * 255 / max(high - low, 1)))


def _luma(image: np.ndarray) -> np.ndarray:
    """Returns how bright each pixel is, (h, w) uint8. One curve for all channels that goes by it turns no colour."""
    return cv2.cvtColor(image, cv2.COLOR_RGB2GRAY)


def _percentiles(channel: np.ndarray, percent: tuple[float, ...]) -> np.ndarray:
    """Computes what `numpy.percentile` does, linear between neighbours, but without sorting the channel."""
    place = np.array(percent) / 100 * (channel.size - 1)
    counts = np.cumsum(histogram(channel))
    below, above = (np.searchsorted(counts, rounded(place), side="right") for rounded in (np.floor, np.ceil))
    return below + (above - below) * (place % 1)


def equalize(image: np.ndarray, random: np.random.Generator) -> np.ndarray:
    """Maps all values by the curve that makes every luma equally frequent; draws nothing at random."""
    darker = np.cumsum(histogram(_luma(image)))  # (256,): pixels that are at most so bright
    return cv2.LUT(image, _table(255 * darker / darker[-1]))


def saturation(image: np.ndarray, random: np.random.Generator) -> np.ndarray:
    """Blends the image with its grey version, by a factor of 0.3 to 0.7 or of 1.4 to 2.

    Factor 0 would give the grey image, and factors above 1 give more colourful ones.
    """
    factor = random.choice((random.uniform(0.3, 0.7), random.uniform(1.4, 2)))
    return cv2.transform(image, factor * np.eye(3, dtype=np.float32) + (1 - factor) * np.tile(LUMA, (3, 1)))


def hue(image: np.ndarray, random: np.random.Generator) -> np.ndarray:
    """Turns the colours about the grey axis by 10 to 30 degrees either way (Rodrigues' rotation)."""
    angle = np.deg2rad(random.uniform(10, 30) * random.choice((-1, 1)))
    third, root = (1 - np.cos(angle)) / 3, np.sqrt(1 / 3) * np.sin(angle)
    turn = np.full((3, 3), third) + np.cos(angle) * np.eye(3)
    turn += root * np.array([[0, -1, 1], [1, 0, -1], [-1, 1, 0]])
    return cv2.transform(image, turn.astype(np.float32))


def blur(image: np.ndarray, random: np.random.Generator) -> np.ndarray:
    """Blurs with a Gaussian whose deviation is 0.6 to 1.8 pixels."""
    sigma = random.uniform(0.6, 1.8)
    return cv2.GaussianBlur(image, (0, 0), sigma)


def sharpen(image: np.ndarray, random: np.random.Generator) -> np.ndarray:
    """Adds 0.5 to 1.5 times the difference between the image and a blurred one."""
    amount = random.uniform(0.5, 1.5)
    blurred = cv2.GaussianBlur(image, (5, 5), 0)  # the kernel is 1 4 6 4 1 over 16, whose deviation is one pixel
    return cv2.addWeighted(image, 1 + amount, blurred, -amount, 0)


def noise(image: np.ndarray, random: np.random.Generator) -> np.ndarray:
    """Adds Gaussian noise with a deviation of 8 to 20.

    A random byte for every pixel and channel selects one of 256 equally likely deviations.
    """
    table = _table(128 + random.uniform(8, 20) * DEVIATIONS)
    words = random.integers(2**64, size=image.size // 8 + 1, dtype=np.uint64)  # the fastest way to draw bytes
    grain = cv2.LUT(words.view(np.uint8)[: image.size].reshape(image.shape), table)
    return cv2.addWeighted(image, 1, grain, 1, -128)


OPERATIONS: tuple[Operation, ...] = (
    brightness,
    contrast,
    gamma,
    posterize,
    autocontrast,
    equalize,
    saturation,
    hue,
    blur,
    sharpen,
    noise,
)


def strong_view(image: np.ndarray, random: np.random.Generator) -> np.ndarray:
    """Draws a strong view of `image`, (h, w, 3) uint8 RGB.

    Half of the time it is the image itself, and else the image after three different operations, which are applied in
    the order of OPERATIONS.
    """
    if random.random() >= PROBABILITY:
        return image
    chosen = random.choice(len(OPERATIONS), size=OPERATIONS_PER_IMAGE, replace=False)
    for index in sorted(chosen):
        image = OPERATIONS[index](image, random)
    return image
