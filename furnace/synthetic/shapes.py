"""The scenes of the demo in VOC's layout: objects of five kinds lie on a textured ground.

A kind is one form with one texture. Forms and textures are deformed, but neither leans far: a narrow network can learn
an upright world from random weights in minutes, and mirroring leaves the world upright.

    label   VOC's name   form        texture
    0       background   ground      clouds, grain, flagstones or brush strokes
    1       aeroplane    disc        dots
    2       bicycle      rectangle   checks
    3       bird         triangle    stripes
    4       boat         star        grid of lines
    5       bottle       ring        blotches
    255     (ignored)    a border two pixels wide around everything visible
"""

import numpy as np

from furnace.synthetic.drawing import (
    NOISES,
    Canvas,
    Pose,
    corners,
    fill,
    noise,
    paint,
    roomiest,
    texture_pattern,
    turned,
)

NUM_CLASSES_DRAWN = 6  # the ground is one of them
LEAN = 0.4  # radians: how far a form or a texture turns either way

# Label: (outlines, texture). Outlines lie about within the unit circle; a second outline is a hole in the first.
OBJECTS = {
    1: ([corners(24)], "dots"),
    2: ([np.array([[-0.8, -0.65], [0.8, -0.65], [0.8, 0.65], [-0.8, 0.65]])], "checks"),
    3: ([corners(3, (1.15,))], "stripes"),
    4: ([corners(10, (1.2, 0.55))], "grid"),
    5: ([corners(24, (1.1,)), corners(24, (0.45,))], "blotches"),
}


def draw_scene(rng: np.random.Generator, height: int, width: int) -> tuple[np.ndarray, np.ndarray]:
    """Draws two to four objects, later ones in front, on a textured ground, in uneven light and with camera noise.

    Returns:
        The image, (H, W, 3) uint8 RGB, and its label, (H, W) uint8: 0 is the ground, 1..5 are objects, 255 borders.
    """
    canvas = Canvas(paint(rng, _ground_pattern(rng, height, width)), class_index=0)
    centres = np.empty((0, 2))
    for _ in range(rng.integers(2, 5)):
        # The roomiest of three random places is taken: objects then overlap often, but seldom hide each other.
        centre = roomiest(rng.uniform(0.12, 0.88, (3, 2)) * (width, height), centres)
        centres = np.vstack([centres, centre])
        outlines, texture = OBJECTS[class_index := int(rng.integers(1, NUM_CLASSES_DRAWN))]
        coverage = _coverage(rng, outlines, centre, rng.uniform(0.22, 0.36) * min(height, width), canvas.shape)
        canvas.add(coverage, paint(rng, texture_pattern(rng, texture, height, width, LEAN)), class_index)
    return canvas.finish(rng, graininess=(2, 6))


def _ground_pattern(rng: np.random.Generator, height: int, width: int) -> np.ndarray:
    kind = rng.integers(4)
    if kind == 0:  # clouds
        wave = NOISES["clouds"](rng, height, width)
    elif kind == 1:  # grain
        wave = NOISES["grain"](rng, height, width)
    elif kind == 2:  # flagstones: every pixel takes the tone of the nearest of many points
        points = rng.uniform((0, 0), (height, width), (rng.integers(25, 60), 2))
        rows, columns = np.ogrid[:height, :width]
        nearest = np.argmin([(rows - row) ** 2 + (columns - column) ** 2 for row, column in points], axis=0)
        wave = rng.standard_normal(len(points))[nearest]
    else:  # brush strokes, upright or sideways
        wave = noise(rng, height, width, *rng.permutation([0.7, 5.0]))
    return np.clip(0.5 + 0.12 * wave, 0, 1)  # fainter than the texture of an object, which must stand out


def _coverage(
    rng: np.random.Generator, outlines: list[np.ndarray], centre: np.ndarray, radius: float, shape: tuple[int, int]
) -> np.ndarray:
    """Leans, squeezes and dents outlines, and returns their coverage (H, W)."""
    lean, squeeze = rng.uniform(-LEAN, LEAN), rng.uniform(0.75, 1.1, 2)  # radians, factors across and down
    dented = [outline * rng.uniform(0.92, 1.08, (len(outline), 1)) for outline in outlines]
    return fill(dented, Pose(centre, radius, turned(lean), squeeze), shape)
