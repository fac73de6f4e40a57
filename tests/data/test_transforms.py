"""The weak view shows the right part at the right size, image and label alike, and padding is centred."""

import cv2
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from furnace.data.transforms import WeakView, draw_weak_view, inside_of
from furnace.labels import IGNORE

SCALES = (0.5, 0.75, 1, 1.5, 1.75, 2)


def random_image(height: int, width: int) -> np.ndarray:
    return np.random.default_rng(height * 1000 + width).integers(0, 256, (height, width, 3), dtype=np.uint8)


def random_label(height: int, width: int) -> np.ndarray:
    return np.random.default_rng(height * 1000 + width).integers(0, 20, (height, width), dtype=np.uint8)


def shown_image(view: WeakView, image: np.ndarray) -> np.ndarray:
    """The view alone, on a canvas that it fills."""
    canvas = np.full((view.scaled_height, view.scaled_width, 3), 77, dtype=image.dtype)
    view.paint_image(image, canvas)
    return canvas


def shown_label(view: WeakView, label: np.ndarray) -> np.ndarray:
    canvas = np.full((view.scaled_height, view.scaled_width), 77, dtype=label.dtype)
    view.paint_label(label, canvas)
    return canvas


def longhand_image(view: WeakView, image: np.ndarray) -> np.ndarray:
    """Bilinear, pixel by pixel: pixel centres lie at halves, and beyond the border the last pixel goes on."""
    result = np.zeros((view.scaled_height, view.scaled_width, 3))
    for y in range(view.scaled_height):
        for x in range(view.scaled_width):
            across = view.scaled_width - 1 - x if view.mirrored else x
            row = (y + 0.5) * view.height / view.scaled_height - 0.5
            column = (across + 0.5) * view.width / view.scaled_width - 0.5
            for i in (int(np.floor(row)), int(np.floor(row)) + 1):
                for j in (int(np.floor(column)), int(np.floor(column)) + 1):
                    weight = (1 - abs(row - i)) * (1 - abs(column - j))
                    inside = np.clip(i, 0, view.height - 1), np.clip(j, 0, view.width - 1)
                    result[y, x] += weight * image[view.top + inside[0], view.left + inside[1]]
    return result


def longhand_label(view: WeakView, label: np.ndarray) -> np.ndarray:
    """Nearest, pixel by pixel: of the mirrored part, the pixel whose area holds the upper left corner."""
    result = np.zeros((view.scaled_height, view.scaled_width), dtype=label.dtype)
    for y in range(view.scaled_height):
        for x in range(view.scaled_width):
            row, column = y * view.height // view.scaled_height, x * view.width // view.scaled_width
            column = view.width - 1 - column if view.mirrored else column
            result[y, x] = label[view.top + row, view.left + column]
    return result


def draw(seed: int, size: tuple[int, int], crop: int, scale: float) -> WeakView:
    return draw_weak_view(np.random.default_rng(seed), size, crop, (scale,))


@pytest.mark.parametrize("mirrored", [False, True])
@pytest.mark.parametrize(
    ("top", "left", "height", "width", "scaled_height", "scaled_width"),
    [
        (0, 0, 20, 30, 20, 30),  # all of it, as it is
        (3, 5, 8, 8, 8, 8),  # a cut
        (3, 5, 8, 8, 16, 16),  # a cut, enlarged
        (1, 2, 16, 24, 12, 18),  # a cut, reduced
        (4, 0, 7, 30, 10, 13),  # one axis enlarged, the other reduced
        (19, 29, 1, 1, 4, 6),
    ],
)
def test_view_equals_longhand(top, left, height, width, scaled_height, scaled_width, mirrored) -> None:
    view = WeakView(top, left, height, width, scaled_height, scaled_width, mirrored)
    image, label = random_image(20, 30), random_label(20, 30)
    # OpenCV works in fixed point
    assert np.abs(shown_image(view, image) - longhand_image(view, image)).max() <= 1
    assert (shown_label(view, label) == longhand_label(view, label)).all()


def test_mirror_alone_is_a_mirror() -> None:
    image, label = random_image(6, 9), random_label(6, 9)
    view = WeakView(0, 0, 6, 9, 6, 9, mirrored=True)
    assert (shown_image(view, image) == image[:, ::-1]).all()
    assert (shown_label(view, label) == label[:, ::-1]).all()


def test_sources_are_not_changed() -> None:
    image, label = random_image(20, 30), random_label(20, 30)
    for seed in range(20):
        view = draw(seed, (20, 30), 16, SCALES[seed % 6])
        before = image.copy(), label.copy()
        shown_image(view, image), shown_label(view, label)
        assert (image == before[0]).all() and (label == before[1]).all()


@pytest.mark.parametrize("scale", [*SCALES, 0.1, 1.1, 3])
@pytest.mark.parametrize("crop", [16, 33])
@pytest.mark.parametrize(
    "size", [(20, 30), (30, 20), (16, 16), (33, 33), (10, 90), (90, 10), (7, 5), (1, 50), (50, 1), (1, 1)]
)
def test_sizes(size: tuple[int, int], crop: int, scale: float) -> None:
    image, label = random_image(*size), random_label(*size)
    for seed in range(4):
        view = draw(seed, size, crop, scale)
        expected = tuple(max(1, min(crop, int(length * scale))) for length in size)
        canvas, label_canvas = np.full((crop, crop, 3), 77, np.uint8), np.full((crop, crop), 77, np.uint8)
        box = view.paint_image(image, canvas)
        assert box == view.paint_label(label, label_canvas)
        assert (box[1] - box[0], box[3] - box[2]) == expected
        assert (canvas[inside_of(box)] == shown_image(view, image)).all()
        assert (label_canvas[inside_of(box)] == shown_label(view, label)).all()


@settings(max_examples=300, deadline=None)
@given(
    seed=st.integers(0, 2**32),
    height=st.integers(1, 120),
    width=st.integers(1, 120),
    crop=st.integers(1, 90),
    scale=st.floats(0.1, 4),
)
def test_laws(seed: int, height: int, width: int, crop: int, scale: float) -> None:
    view = draw(seed, (height, width), crop, scale)
    axes = ((view.top, view.height, view.scaled_height, height), (view.left, view.width, view.scaled_width, width))
    for start, cut, scaled, length in axes:
        assert start >= 0 and cut >= 1 and start + cut <= length  # never beyond the image
        assert 1 <= scaled <= crop
        if int(length * scale) <= crop:  # all of it is seen
            assert (start, cut, scaled) == (0, length, max(1, int(length * scale)))
        else:  # the crop is full, and true to scale up to the rounding of the cut
            assert scaled == crop and cut in (length, max(1, round(crop / scale)))
            assert abs(cut - crop / scale) <= 0.5 or cut in (1, length)
    # Image and label show the same place: a label painted from the image's own coordinates still fits it.
    rows, columns = np.mgrid[:height, :width]
    image = np.stack([rows, columns, np.zeros_like(rows)], axis=2).astype(np.uint8)
    shown = shown_image(view, image)
    places = shown_label(view, np.arange(height * width, dtype=np.int32).reshape(height, width))
    for axis, place in enumerate(np.unravel_index(places, (height, width))):
        step = max(1, axes[axis][1] / axes[axis][2])  # source pixels per pixel
        assert np.abs(shown[..., axis].astype(int) - place).max() <= step + 1


def test_view_depends_on_its_generator_alone() -> None:
    views = [draw_weak_view(np.random.default_rng(seed), (80, 90), 16, SCALES) for seed in range(30)]
    assert views == [draw_weak_view(np.random.default_rng(seed), (80, 90), 16, SCALES) for seed in range(30)]
    assert len(set(views)) > 25


def test_half_are_mirrored_and_every_scale_is_drawn_alike() -> None:
    random = np.random.default_rng(0)
    views = [draw_weak_view(random, (10, 10), 40, SCALES) for _ in range(3000)]
    assert 0.47 < np.mean([view.mirrored for view in views]) < 0.53
    sizes, counts = np.unique([view.scaled_height for view in views], return_counts=True)
    assert sizes.tolist() == [5, 7, 10, 15, 17, 20]
    assert counts.min() > 420 and counts.max() < 580


@pytest.mark.parametrize(
    ("length", "crop", "scale", "starts"), [(12, 8, 1, 5), (12, 8, 2, 9), (40, 8, 0.5, 25), (8, 8, 1, 1)]
)
def test_starts_reach_both_ends_alike(length: int, crop: int, scale: float, starts: int) -> None:
    """The published code drew one start too many, whose last row was padding."""
    views = [draw(seed, (length, length), crop, scale) for seed in range(2000)]
    for found in ([view.top for view in views], [view.left for view in views]):
        values, counts = np.unique(found, return_counts=True)
        assert values.tolist() == list(range(starts))
        assert counts.min() > 0.5 * len(views) / starts and counts.max() < 1.6 * len(views) / starts
    assert max(view.top + view.height for view in views) == length


@pytest.mark.parametrize(
    ("height", "width", "box"), [(4, 6, (2, 6, 1, 7)), (3, 5, (2, 5, 1, 6)), (8, 1, (0, 8, 3, 4)), (8, 8, (0, 8, 0, 8))]
)
def test_padding_is_centred_and_ignored(height: int, width: int, box: tuple[int, int, int, int]) -> None:
    """The odd row or column goes below and right."""
    image, label = random_image(height, width), random_label(height, width)
    view = WeakView(0, 0, height, width, height, width, mirrored=False)
    canvas, padded = np.full((8, 8, 3), 77, dtype=np.uint8), np.full((8, 8), 77, dtype=np.uint8)
    assert view.paint_image(image, canvas) == view.paint_label(label, padded) == box
    inside = np.zeros((8, 8), dtype=bool)
    inside[box[0] : box[1], box[2] : box[3]] = True
    assert (canvas[inside] == image.reshape(-1, 3)).all() and (canvas[~inside] == 0).all()
    assert (padded[inside] == label.ravel()).all() and (padded[~inside] == IGNORE).all()


def test_enlarged_view_is_the_part_of_the_enlarged_image() -> None:
    """Cutting first shows what the published order (resize, then cut) shows, away from the cut's edge."""
    image = cv2.GaussianBlur(random_image(60, 80), (0, 0), 3)
    view = draw(5, (60, 80), 32, 2)
    whole = cv2.resize(image, None, fx=2, fy=2, interpolation=cv2.INTER_LINEAR)
    part = whole[2 * view.top : 2 * view.top + 32, 2 * view.left : 2 * view.left + 32]
    expected = part[:, ::-1] if view.mirrored else part
    assert np.abs(shown_image(view, image)[1:-1, 1:-1].astype(int) - expected[1:-1, 1:-1]).max() <= 1
