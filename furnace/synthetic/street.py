"""The scenes of the demo in Cityscapes' layout: toy streets, seen from the opposite side.

From far to near, a scene shows the sky; houses and trees; walls and fences in front of them; grass and pavement; the
road; and often grass or pavement once more. Things stand on the ground, and nearer things are larger and in front.
Every part has two random colours, so only its form, its texture and its place tell its class.

H and W are the height and width of an image. Lengths are in parts of H, unless they are said to be in pixels or metres.
y grows downward from the top of the image.
"""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from furnace.data.datasets import CITYSCAPES
from furnace.synthetic import street_forms as forms
from furnace.synthetic.drawing import Canvas, Pose, fill, paint, roomiest, texture_pattern, turned
from furnace.synthetic.street_forms import Form

LEAN = 0.04  # radians: how far anything turns either way
LEVEL = 0.012  # radians: how far the ground turns either way


class Kind(NamedTuple):
    """How a class looks and where it stands."""

    place: str  # sky, back, front or ground; that of things is pavement, road or rails
    texture: str
    forms: Sequence[Form]  # one of them is chosen at random
    carriers: Sequence[str] = ()  # a thing of one of these classes stands below and behind it


# fmt: off
KINDS = {
    "road":          Kind("ground",   "grain",    [forms.LANE]),
    "sidewalk":      Kind("ground",   "grid",     [forms.STRIP]),
    "building":      Kind("back",     "windows",  [forms.FLAT_ROOF, forms.GABLE, forms.STEPS]),
    "wall":          Kind("front",    "bricks",   [forms.STRIP]),
    "fence":         Kind("front",    "stripes",  [forms.PALINGS]),
    "pole":          Kind("pavement", "plain",    [forms.POLE]),
    "traffic light": Kind("pavement", "plain",    [forms.LAMPS], ["pole"]),
    "traffic sign":  Kind("pavement", "plain",    [forms.ROUND_SIGN, forms.WARNING_SIGN, forms.SQUARE_SIGN], ["pole"]),
    "vegetation":    Kind("back",     "blotches", [forms.BUSH, forms.TREE]),
    "terrain":       Kind("ground",   "blades",   [forms.STRIP]),
    "sky":           Kind("sky",      "clouds",   [forms.STRIP]),
    "person":        Kind("pavement", "plain",    [forms.PERSON]),
    "rider":         Kind("road",     "plain",    [forms.RIDER], ["bicycle", "motorcycle"]),
    "car":           Kind("road",     "plain",    [forms.CAR]),
    "truck":         Kind("road",     "checks",   [forms.TRUCK]),
    "bus":           Kind("road",     "plain",    [forms.BUS]),
    "train":         Kind("rails",    "layers",   [forms.TRAIN]),
    "motorcycle":    Kind("road",     "plain",    [forms.MOTORCYCLE]),
    "bicycle":       Kind("road",     "plain",    [forms.BICYCLE]),
}
# fmt: on

FAINT = {"grain": 0.25, "blades": 0.2, "clouds": 0.12}  # contrasts; textures that are not here show two tones
LARGE = ("truck", "bus", "train")  # a scene has one of them, because more would hide everything


class Band(NamedTuple):
    """A strip of ground across the image."""

    name: str
    top: float
    bottom: float


def draw_street(rng: np.random.Generator, height: int) -> tuple[np.ndarray, np.ndarray]:
    """Draws a street with five to seven things, in uneven light and with a little camera noise.

    Returns:
        The image, (H, 2H, 3) uint8 RGB, and its label, (H, 2H) uint8: Cityscapes' train ids, and 255 for borders.
    """
    width = 2 * height
    canvas = Canvas(paint(rng, _texture(rng, KINDS["sky"], (height, width))), CITYSCAPES.classes.index("sky"))
    bands = _draw_bands(rng)
    foot = bands[0].top + 0.03  # the first band hides it
    _add_row(canvas, rng, foot, _standing("back"), heights=(0.22, 0.4))
    _add_row(canvas, rng, foot, _standing("front"), heights=(0.13, 0.19))
    for band in bands:
        _add_band(canvas, rng, band)
    for name, x, y in _draw_things(rng, bands):
        metre = 0.1 + 0.1 * (y - bands[0].top) / (1 - bands[0].top)  # nearer is larger
        _add_thing(canvas, rng, name, (x * height, y * height), metre * height)
    return canvas.finish(rng, graininess=(0.5, 1.5))  # not more: PNG stores noise without loss, so files would grow


def _standing(*places: str) -> list[str]:
    return [name for name, kind in KINDS.items() if kind.place in places]


def _draw_bands(rng: np.random.Generator) -> list[Band]:
    """Draws the bands of a scene: grass, pavement or both behind the road, and often one of them in front of it."""
    behind = rng.permutation(["terrain", "sidewalk"])[: rng.integers(1, 3)].tolist()
    before = [[], ["terrain"], ["sidewalk"]][rng.integers(3)]
    names = [*behind, "road", *before]
    shares = np.array([rng.uniform(2.4, 3) if name == "road" else rng.uniform(0.8, 1.2) for name in names])
    edges = 1 - rng.uniform(0.5, 0.62) * (1 - np.cumsum([0, *shares]) / shares.sum())
    return [Band(*band) for band in zip(names, edges[:-1], edges[1:], strict=True)]


def _draw_things(rng: np.random.Generator, bands: Sequence[Band]) -> list[tuple[str, float, float]]:
    """Draws some things, the far ones first: the name of each, and x and y of its foot."""
    small = [name for name in _standing("pavement", "road") if name not in LARGE]
    things, taken = [], np.empty((0, 2))
    for name in [rng.choice(LARGE), *rng.choice(small, rng.integers(4, 7), replace=False)]:
        top, bottom = _draw_feet(rng, KINDS[name].place, bands)
        x, y = roomiest(rng.uniform((0.1, top), (1.9, bottom), (3, 2)), taken)
        taken = np.vstack([taken, (x, y)])
        things.append((str(name), x, y))
    return sorted(things, key=lambda thing: thing[2])


def _draw_feet(rng: np.random.Generator, place: str, bands: Sequence[Band]) -> tuple[float, float]:
    """Returns the smallest and the largest y of a thing's foot; of several pavements, it draws one."""
    road = next(band for band in bands if band.name == "road")
    if place == "rails":
        return road.top + 0.03, road.top + 0.06
    if place == "road":
        return road.top + 0.1, road.bottom - 0.02
    pavements = [band for band in bands if band.name == "sidewalk"] or bands[:1]
    pavement = pavements[int(rng.integers(len(pavements)))]
    return pavement.top + 0.03, pavement.bottom - 0.01


def _add_row(
    canvas: Canvas, rng: np.random.Generator, foot: float, names: Sequence[str], heights: tuple[float, float]
) -> None:
    """Adds parts side by side, with gaps, all across the image."""
    height = canvas.shape[0]
    left = rng.uniform(-0.3, 0)
    while left < 2:
        wide, high = rng.uniform(0.35, 0.8), rng.uniform(*heights)
        choice = rng.integers(len(names) + 1)  # the last one is a gap
        if choice < len(names):
            pose = _pose(rng, (left * height, foot * height), (wide * height, high * height))
            _add(canvas, rng, names[int(choice)], pose)
        left += wide


def _add_band(canvas: Canvas, rng: np.random.Generator, band: Band) -> None:
    """Adds a band from its top to below the bottom of the image; the next band hides what is too much of it."""
    height = canvas.shape[0]
    corner, size = (-0.1 * height, 1.05 * height), (2.2 * height, (1.05 - band.top) * height)
    _add(canvas, rng, band.name, _pose(rng, corner, size, LEVEL))


def _add_thing(canvas: Canvas, rng: np.random.Generator, name: str, foot: tuple[float, float], metre: float) -> None:
    """Adds a thing that looks either way, and behind it what carries it; `foot` and `metre` are in pixels."""
    width, height = rng.uniform(0.9, 1.1, 2) * (rng.choice([-1, 1]) * metre, metre)
    carriers = KINDS[name].carriers
    for part in [str(rng.choice(carriers)), name] if carriers else [name]:
        _add(canvas, rng, part, _pose(rng, foot, (width, height)))


def _pose(rng: np.random.Generator, foot: tuple[float, float], size: tuple[float, float], lean: float = LEAN) -> Pose:
    """Draws a pose; `foot` and `size`, that of one unit across and up, are in pixels."""
    return Pose(np.array(foot), 1, turned(rng.uniform(-lean, lean)), np.array(size) * (1, -1))


def _add(canvas: Canvas, rng: np.random.Generator, name: str, pose: Pose) -> None:
    kind = KINDS[name]
    form = kind.forms[int(rng.integers(len(kind.forms)))]
    pattern = _texture(rng, kind, canvas.shape)
    if form.details:  # they have the second colour, and the texture stays in the half of the first one
        pattern = np.maximum(pattern / 2, _union(form.details, pose, canvas.shape))
    coverage = _union(form.outlines, pose, canvas.shape)
    canvas.add(coverage, paint(rng, pattern), CITYSCAPES.classes.index(name))


def _texture(rng: np.random.Generator, kind: Kind, shape: tuple[int, int]) -> np.ndarray:
    if kind.texture == "plain":
        return np.zeros(shape)
    return texture_pattern(rng, kind.texture, *shape, LEAN, FAINT.get(kind.texture, 1.5))


def _union(outlines: Sequence[np.ndarray], pose: Pose, shape: tuple[int, int]) -> np.ndarray:
    """Returns the coverage (H, W) of outlines together, without holes."""
    return np.max([fill([outline], pose, shape) for outline in outlines], axis=0)
