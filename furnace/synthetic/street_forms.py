"""How the classes of the toy streets look: their outlines, and their details in a second colour.

An outline is (K, 2): K corners, (x, y) each. y grows upward, and the foot of everything is at (0, 0).
"""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from furnace.synthetic.drawing import corners

Outlines = Sequence[np.ndarray]


class Form(NamedTuple):
    """Outlines that together show one part, and details that are drawn upon the part."""

    outlines: Outlines
    details: Outlines = ()


def _outline(*points: tuple[float, float]) -> np.ndarray:
    return np.array(points, float)


def _box(left: float, bottom: float, right: float, top: float) -> np.ndarray:
    return _outline((left, bottom), (right, bottom), (right, top), (left, top))


def _disc(x: float, y: float, radius: float) -> np.ndarray:
    return corners(16) * radius + (x, y)


def _bar(x: float, y: float, to_x: float, to_y: float, width: float) -> np.ndarray:
    """Returns a thick line from (x, y) to (to_x, to_y) as an outline."""
    start, end = np.array([[x, y], [to_x, to_y]])
    along = (end - start) / np.linalg.norm(end - start)
    aside = along[::-1] * (width / 2, -width / 2)
    return np.array([start + aside, start - aside, end - aside, end + aside])


def _crown(y: float, height: float) -> np.ndarray:
    """Returns the crown of a tree, as wide as the strip; `y` is its middle."""
    return corners(18, (1, 0.84)) * (0.5, height / 2) + (0.5, y)


def _wheels(radius: float, *places: float) -> list[np.ndarray]:
    return [_disc(x, radius, radius) for x in places]


def _boxes(bottom: float, top: float, width: float, *lefts: float) -> list[np.ndarray]:
    return [_box(left, bottom, left + width, top) for left in lefts]


# These fill a strip, whose x and y go from 0 to 1.
STRIP = Form([_box(0, 0, 1, 1)])
LANE = Form([_box(0, 0, 1, 1)], _boxes(0.62, 0.7, 0.1, 0.03, 0.23, 0.43, 0.63, 0.83))
FLAT_ROOF = Form([_box(0, 0, 1, 1)])
GABLE = Form([_outline((0, 0), (1, 0), (1, 0.75), (0.5, 1), (0, 0.75))])
STEPS = Form([_box(0, 0, 1, 0.8), _box(0.2, 0.7, 0.8, 1)])
PALINGS = Form([_box(0, 0, 1, 0.85), *(_box(left, 0, left + 0.06, 1) for left in np.arange(0.02, 1, 0.1))])
BUSH = Form([_crown(0.5, 1), _box(0.15, 0, 0.85, 0.5)])
TREE = Form([_crown(0.65, 0.7), _box(0.4, 0, 0.6, 0.5)])

# These are things, in metres. They look to the right, and are shorter and thicker than real ones.
POLE = Form([_box(-0.16, 0, 0.16, 3.1), _box(-0.3, 0, 0.3, 0.25)])
LAMPS = Form([_box(-0.45, 1.7, 0.45, 3.45)], [_disc(0, y, 0.23) for y in (2.02, 2.57, 3.12)])
ROUND_SIGN = Form([_disc(0, 2.75, 0.75)], [_disc(0, 2.75, 0.48)])
WARNING_SIGN = Form([_outline((-0.9, 2.0), (0.9, 2.0), (0, 3.5))], [_outline((-0.48, 2.22), (0.48, 2.22), (0, 3.0))])
SQUARE_SIGN = Form([_box(-0.68, 2.05, 0.68, 3.4)], [_box(-0.42, 2.31, 0.42, 3.14)])
PERSON = Form(
    [
        _disc(0, 2.0, 0.3),
        _outline((-0.42, 0.85), (0.42, 0.85), (0.52, 1.55), (0.32, 1.75), (-0.32, 1.75), (-0.52, 1.55)),
        _box(-0.36, 0, -0.07, 1.0),
        _box(0.07, 0, 0.36, 1.0),
    ],
    [_disc(0, 2.0, 0.3), _box(-0.52, 0, 0.52, 0.9)],
)
RIDER = Form(
    [
        _disc(0.28, 2.02, 0.24),
        _outline((-0.45, 0.95), (-0.1, 0.95), (0.4, 1.6), (0.1, 1.85), (-0.2, 1.6)),
        _bar(0.2, 1.6, 0.65, 1.15, 0.17),
        _bar(-0.3, 1.05, 0.15, 0.85, 0.24),
        _bar(0.12, 0.9, 0.02, 0.35, 0.2),
    ],
    [_disc(0.28, 2.02, 0.24)],
)
BICYCLE = Form(
    [
        *_wheels(0.42, -0.62, 0.62),
        _outline((-0.62, 0.42), (0, 0.32), (0.5, 0.95), (-0.3, 1.0)),
        _bar(0.55, 0.42, 0.45, 1.15, 0.14),
        _box(-0.45, 0.95, -0.15, 1.07),
    ],
    [_disc(x, 0.42, 0.24) for x in (-0.62, 0.62)],
)
MOTORCYCLE = Form(
    [
        *_wheels(0.42, -0.75, 0.75),
        _outline((-1.1, 0.75), (-0.6, 0.3), (0.45, 0.25), (0.75, 0.8), (0.4, 1.15), (0.1, 0.95), (-1.0, 0.98)),
        _bar(0.78, 0.42, 0.4, 1.3, 0.16),
    ],
    _wheels(0.42, -0.75, 0.75),
)
CAR = Form(
    [
        _outline(
            (-2.1, 0.35), (2.1, 0.35), (2.05, 0.85), (1.2, 1.0), (0.65, 1.6), (-0.9, 1.6), (-1.5, 1.0), (-2.1, 0.9)
        ),
        *_wheels(0.4, -1.25, 1.25),
    ],
    [
        *_wheels(0.4, -1.25, 1.25),
        _outline((-1.2, 1.0), (-0.2, 1.0), (-0.2, 1.45), (-0.8, 1.45)),
        _outline((0, 1.0), (0.9, 1.0), (0.5, 1.45), (0, 1.45)),
    ],
)
TRUCK = Form(
    [
        _box(-2.9, 0.75, 1.2, 3.2),
        _box(-2.9, 0.5, 2.5, 0.9),
        _outline((1.4, 0.5), (2.7, 0.5), (2.7, 1.5), (2.3, 2.4), (1.4, 2.4)),
        *_wheels(0.48, -2.2, -1.1, 1.9),
    ],
    [*_wheels(0.48, -2.2, -1.1, 1.9), _outline((1.6, 1.5), (2.5, 1.5), (2.2, 2.2), (1.6, 2.2))],
)
BUS = Form(
    [_outline((-3.2, 0.4), (3.2, 0.4), (3.2, 2.9), (3.0, 3.1), (-3.0, 3.1), (-3.2, 2.9)), *_wheels(0.48, -2.0, 2.0)],
    [*_wheels(0.48, -2.0, 2.0), *_boxes(1.7, 2.7, 0.75, -2.95, -1.95, -0.95, 0.05, 1.05, 2.05)],
)
TRAIN = Form(
    [
        _outline((-4.8, 0.3), (4.8, 0.3), (4.8, 1.2), (4.0, 3.2), (-4.0, 3.2), (-4.8, 1.2)),
        *_wheels(0.3, -3.8, -3.0, -2.2, 2.2, 3.0, 3.8),
        _bar(-0.6, 3.1, 0, 3.8, 0.16),
        _bar(0.6, 3.1, 0, 3.8, 0.16),
        _box(-0.7, 3.72, 0.7, 3.9),
    ],
    [*_wheels(0.3, -3.8, -3.0, -2.2, 2.2, 3.0, 3.8), _box(-4.2, 2.0, 4.2, 2.7)],
)
