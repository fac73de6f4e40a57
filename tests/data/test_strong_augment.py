"""Every photometric operation does what it says, changes what is seen, and leaves its input alone."""

from collections.abc import Callable
from statistics import NormalDist

import cv2
import numpy as np
import pytest

from furnace.data import strong_augment
from furnace.data.strong_augment import OPERATIONS, Operation, strong_view

each_operation = pytest.mark.parametrize("operation", OPERATIONS, ids=lambda operation: operation.__name__)


def natural_image(seed: int, height: int = 48, width: int = 64) -> np.ndarray:
    """Smooth colours, edges, texture and grain, and a range not quite full: what a photograph has."""
    random = np.random.default_rng(seed)
    image = np.zeros((height, width, 3), dtype=np.float32)
    for blur in (12, 4, 1.5):
        noise = cv2.GaussianBlur(random.standard_normal(image.shape, dtype=np.float32), (0, 0), blur)
        image += noise / noise.std()
    image[height // 3 :, width // 2 :] += random.uniform(-2, 2, 3).astype(np.float32)
    image += 0.2 * random.standard_normal(image.shape, dtype=np.float32)
    return np.clip(random.uniform(100, 150) + 25 * image, 0, 255).astype(np.uint8)


@each_operation
@pytest.mark.parametrize("size", [(48, 64), (1, 1), (1, 20), (20, 1), (5, 3)])
def test_shape_and_type_stay_and_the_input_is_untouched(operation: Operation, size: tuple[int, int]) -> None:
    for seed in range(5):
        image = natural_image(seed, *size)
        before = image.copy()
        result = operation(image, np.random.default_rng(seed))
        assert result.shape == image.shape and result.dtype == np.uint8
        assert (image == before).all() and not np.shares_memory(result, image)


@each_operation
def test_really_changes_what_is_seen(operation: Operation) -> None:
    """The published list held operations that changed nothing at its strength."""
    for seed in range(20):
        image = natural_image(seed)
        change = np.abs(operation(image, np.random.default_rng(seed)).astype(int) - image).mean()
        assert 2 < change < 130, f"seed {seed}: mean change {change:.2f} of 255"


@each_operation
def test_is_repeated_by_its_generator_and_varies_with_it(operation: Operation) -> None:
    image = natural_image(0)
    results = [operation(image, np.random.default_rng(seed)).tobytes() for seed in range(12)]
    assert results == [operation(image, np.random.default_rng(seed)).tobytes() for seed in range(12)]
    if operation is not strong_augment.equalize:  # the only one without a strength
        assert len(set(results)) >= 3


@each_operation
def test_works_on_a_part_of_an_image(operation: Operation) -> None:
    """Weak views are windows into a larger array."""
    part = natural_image(3)[5:40, 7:50]
    result = operation(part, np.random.default_rng(1))
    assert (result == operation(part.copy(), np.random.default_rng(1))).all()


def rounded(value: float) -> int:
    return min(255, max(0, round(value)))


def away_from_one(random: np.random.Generator, low: float, high: float) -> float:
    factor = random.uniform(low, high)
    return factor if random.random() < 0.5 else 1 / factor


def longhand_brightness(random: np.random.Generator) -> Callable[[int], int]:
    shift = random.uniform(20, 60)
    shift *= random.choice((-1, 1))
    return lambda value: rounded(value + shift)


def longhand_contrast(random: np.random.Generator) -> Callable[[int], int]:
    factor = away_from_one(random, 1.3, 2.0)
    return lambda value: rounded(128 + (value - 128) * factor)


def longhand_gamma(random: np.random.Generator) -> Callable[[int], int]:
    exponent = away_from_one(random, 1.4, 2.2)
    return lambda value: rounded(255 * (value / 255) ** exponent)


def longhand_posterize(random: np.random.Generator) -> Callable[[int], int]:
    step = 2 ** int(random.integers(3, 6))
    return lambda value: value // step * step


@pytest.mark.parametrize("name", ["brightness", "contrast", "gamma", "posterize"])
def test_tables_equal_longhand(name: str) -> None:
    """The 256 values of each channel, one by one."""
    image = np.stack([np.arange(256), np.arange(256)[::-1], np.roll(np.arange(256), 99)], axis=1)
    image = image.astype(np.uint8).reshape(16, 16, 3)
    for seed in range(20):
        result = getattr(strong_augment, name)(image, np.random.default_rng(seed))
        longhand = globals()[f"longhand_{name}"](np.random.default_rng(seed))
        expected = [longhand(value) for value in image.ravel().tolist()]
        assert result.ravel().tolist() == expected


@pytest.mark.parametrize("size", [(12, 15), (1, 1), (1, 7), (60, 80)])
def test_percentiles_equal_numpy(size: tuple[int, int]) -> None:
    for seed in range(10):
        channel = np.ascontiguousarray(natural_image(seed, *size)[..., 0])
        cut = np.random.default_rng(seed).uniform(1, 8)
        found = strong_augment._percentiles(channel, (cut, 100 - cut))
        np.testing.assert_allclose(found, np.percentile(channel, (cut, 100 - cut)), rtol=0, atol=1e-9)


def luma(image: np.ndarray) -> list[int]:
    """How bright each pixel is, by ITU-R BT.601."""
    pixels = image.reshape(-1, 3).tolist()
    return [rounded(0.299 * red + 0.587 * green + 0.114 * blue) for red, green, blue in pixels]


def test_autocontrast_equals_longhand() -> None:
    for seed in range(10):
        image = natural_image(seed, 12, 15) // 2 + 40
        cut = np.random.default_rng(seed).uniform(1, 8)
        result = strong_augment.autocontrast(image, np.random.default_rng(seed))
        ends, ranked = [], sorted(luma(image))
        for share in (cut / 100, 1 - cut / 100):  # linear between neighbouring values
            below = int(share * (len(ranked) - 1))
            part = share * (len(ranked) - 1) - below
            ends.append(ranked[below] * (1 - part) + ranked[below + 1] * part)
        expected = [rounded((value - ends[0]) * 255 / (ends[1] - ends[0])) for value in image.ravel().tolist()]
        assert np.abs(result.ravel().astype(int) - expected).max() <= 1  # ties may round either way


def test_equalize_maps_a_value_by_how_many_pixels_are_no_brighter() -> None:
    image = natural_image(0, 30, 40)
    result = strong_augment.equalize(image, np.random.default_rng(0))
    lumas = luma(image)
    expected = [rounded(255 * sum(each <= value for each in lumas) / len(lumas)) for value in image.ravel().tolist()]
    assert np.abs(result.ravel().astype(int) - expected).max() <= 1  # one luma may be rounded the other way
    grey = np.repeat(natural_image(0, 100, 100)[..., :1], 3, axis=2)
    flat = strong_augment.equalize(grey, np.random.default_rng(0))
    shares = np.histogram(flat, bins=8, range=(0, 256))[0] / flat.size
    assert shares.min() > 0.08 and shares.max() < 0.17


COLOURS = ((200, 60, 50), (60, 160, 70), (70, 110, 200), (190, 170, 80))  # brick, grass, sky, sand


@each_operation
@pytest.mark.parametrize("colour", COLOURS)
def test_a_colour_stays_what_it_was(operation: Operation, colour: tuple[int, int, int]) -> None:
    """Light and cameras do not turn grass violet: no hue moves by more than a twelfth of the circle or so."""

    def hue_of(image: np.ndarray) -> float:
        red, green, blue = image.reshape(-1, 3).mean(axis=0)
        return float(np.rad2deg(np.arctan2(np.sqrt(3) * (green - blue), 2 * red - green - blue)))

    ramp = np.linspace(0.5, 1.2, 256).reshape(16, 16, 1)
    image = np.clip(np.array(colour) * ramp, 0, 255).astype(np.uint8)
    for seed in range(20):
        turn = hue_of(operation(image, np.random.default_rng(seed))) - hue_of(image)
        assert abs((turn + 180) % 360 - 180) < 40, f"seed {seed}: {turn:.0f} degrees"


def test_saturation_equals_longhand() -> None:
    image = natural_image(0, 6, 7)
    for seed in range(10):
        random = np.random.default_rng(seed)
        factor = random.choice((random.uniform(0.3, 0.7), random.uniform(1.4, 2)))
        result = strong_augment.saturation(image, np.random.default_rng(seed))
        for pixel, found in zip(image.reshape(-1, 3).tolist(), result.reshape(-1, 3).tolist(), strict=True):
            grey = 0.299 * pixel[0] + 0.587 * pixel[1] + 0.114 * pixel[2]
            expected = [rounded(grey + factor * (value - grey)) for value in pixel]
            assert max(abs(a - b) for a, b in zip(expected, found, strict=True)) <= 1


def test_hue_turns_colours_about_grey() -> None:
    grey = np.repeat(np.arange(256, dtype=np.uint8), 3).reshape(16, 16, 3)
    soft = natural_image(0) // 4 + 90  # near grey: nothing is clipped
    for seed in range(10):
        assert np.abs(strong_augment.hue(grey, np.random.default_rng(seed)).astype(int) - grey).max() <= 1
        turned = strong_augment.hue(soft, np.random.default_rng(seed)).astype(float)
        assert np.abs(turned.mean(axis=2) - soft.mean(axis=2)).max() < 1  # the grey part stays
        length = [np.linalg.norm(pixels - pixels.mean(axis=2, keepdims=True), axis=2) for pixels in (turned, soft)]
        assert np.abs(length[0] - length[1]).max() < 2  # and so does the distance from it


def test_blur_takes_detail_away_and_sharpen_adds_it() -> None:
    def detail(image: np.ndarray) -> float:
        return float(cv2.Laplacian(image, cv2.CV_64F).std())

    for seed in range(5):
        image = natural_image(seed)
        assert detail(strong_augment.blur(image, np.random.default_rng(seed))) < 0.6 * detail(image)
        assert detail(strong_augment.sharpen(image, np.random.default_rng(seed))) > 1.2 * detail(image)


def test_sharpen_equals_longhand() -> None:
    """Away from the unsharpened: the image and `amount` times what five binomial weights each way take away."""
    image = natural_image(2, 20, 30)
    weights = np.outer([1, 4, 6, 4, 1], [1, 4, 6, 4, 1]) / 256
    padded = np.pad(image, ((2, 2), (2, 2), (0, 0)), mode="reflect").astype(float)
    blurred = sum(weights[y, x] * padded[y : y + 20, x : x + 30] for y in range(5) for x in range(5))
    for seed in range(5):
        amount = np.random.default_rng(seed).uniform(0.5, 1.5)
        expected = np.clip(image + amount * (image - blurred), 0, 255)
        assert (
            np.abs(strong_augment.sharpen(image, np.random.default_rng(seed)) - expected).max()
            <= 0.5 + amount / 2 + 1e-3
        )


def test_noise_equals_longhand() -> None:
    """Value by value: the deviation whose number is its random byte."""
    image = natural_image(1, 5, 7)
    for seed in range(5):
        random = np.random.default_rng(seed)
        strength = random.uniform(8, 20)
        data = random.integers(2**64, size=5 * 7 * 3 // 8 + 1, dtype=np.uint64).tobytes()
        result = strong_augment.noise(image, np.random.default_rng(seed))
        for value, byte, found in zip(image.ravel().tolist(), data, result.ravel().tolist(), strict=False):
            deviation = NormalDist(0, strength).inv_cdf((byte + 0.5) / 256)
            assert found == rounded(value + round(deviation))


def test_noise_has_no_mean_and_the_strength_promised() -> None:
    image = np.full((64, 64, 3), 128, dtype=np.uint8)
    for seed in range(10):
        grain = strong_augment.noise(image, np.random.default_rng(seed)).astype(float) - 128
        assert abs(grain.mean()) < 0.6 and 7.5 < grain.std() < 20.5
        assert np.corrcoef(grain[..., 0].ravel(), grain[..., 1].ravel())[0, 1] < 0.1  # each channel its own


def test_half_of_the_images_stay_as_they_are() -> None:
    image = natural_image(0, 8, 8)
    random = np.random.default_rng(0)
    same = [strong_view(image, random) is image for _ in range(4000)]
    assert 0.48 < np.mean(same) < 0.52


def test_three_different_operations_come_in_the_order_of_the_list(monkeypatch: pytest.MonkeyPatch) -> None:
    used: list[int] = []

    def recorder(index: int) -> Operation:
        return lambda image, random: used.append(index) or image

    monkeypatch.setattr(strong_augment, "OPERATIONS", tuple(map(recorder, range(len(OPERATIONS)))))
    seen = set()
    for seed in range(200):
        used.clear()
        strong_view(np.zeros((2, 2, 3), dtype=np.uint8), np.random.default_rng(seed))
        assert len(used) in (0, 3) and used == sorted(set(used))
        seen.update(used)
    assert seen == set(range(len(OPERATIONS)))


def test_strong_view_is_repeated_by_its_generator_and_leaves_its_input() -> None:
    image = natural_image(1)
    before = image.copy()
    results = [strong_view(image, np.random.default_rng(seed)).tobytes() for seed in range(40)]
    assert results == [strong_view(image, np.random.default_rng(seed)).tobytes() for seed in range(40)]
    assert (image == before).all()
    assert len(set(results)) > 12
