"""What the study compares: parts, each of which answers one question by several cells.

A cell is a data set, a share of labels, a method, and the settings in which it differs from the data set's experiment
(`msrc21/config.py`, `camvid/config.py`). It is trained once with each seed, also if it stands in several parts.
"""

from dataclasses import dataclass
from pathlib import Path

FOLDER = Path(__file__).resolve().parent
TITLES = {"msrc21": "MSRC-21", "camvid": "CamVid"}  # by the name of an experiment's folder
SUPERVISED, CPS, ENSEMBLE_TEACHER = "supervised", "org", "ema"
METHOD_TITLES = {SUPERVISED: "supervised", CPS: "CPS", ENSEMBLE_TEACHER: "Ensemble Teacher"}
RATIOS = {"msrc21": (16, 8), "camvid": (32, 16)}  # labelled are 1/16 and so on; first where there is most to gain
SEEDS = (0, 1, 2)
MORE_SEEDS = (*SEEDS, 3, 4)
HANGS_ON_SEEDS = ("msrc21", 16)  # whether Ensemble Teacher is better than CPS
# The published settings where the recipe that is studied has others.
PUBLISHED = ("cps_weight=1", "label_temperature=0", "distribution_alignment=0", "teacher_norm=batch", "cutmix_boxes=3")
NAMES = {PUBLISHED: "published labels and weight"}


@dataclass(frozen=True)
class Cell:
    """One thing that is trained with several seeds."""

    data: str
    ratio: int
    method: str
    varied: tuple[str, ...] = ()  # NAME=VALUE

    @property
    def seeds(self) -> tuple[int, ...]:
        """With which it is trained."""
        return MORE_SEEDS if (self.data, self.ratio) == HANGS_ON_SEEDS and not self.varied else SEEDS

    @property
    def place(self) -> str:
        """What it is trained on, as readers know it."""
        return f"{TITLES[self.data]} 1/{self.ratio}" if self.ratio > 1 else f"{TITLES[self.data]}, all labels"

    @property
    def title(self) -> str:
        """How it is trained, as readers know it."""
        varied = [NAMES[self.varied]] if self.varied in NAMES else self.varied
        return ", ".join([METHOD_TITLES[self.method], *varied])

    def varying(self, *pairs: str) -> "Cell":
        """Returns the same cell with these settings besides."""
        return Cell(self.data, self.ratio, self.method, (*self.varied, *pairs))


@dataclass(frozen=True)
class Part:
    """A question, and the cells that answer it.

    Attributes:
        cells: their scores are shown.
        differences: pairs of cells; shown is by how much the first is better than the second, seed by seed.
    """

    name: str
    question: str
    cells: tuple[Cell, ...]
    differences: tuple[tuple[Cell, Cell], ...]


Place = tuple[str, int]  # a data set, and the share of labels
PLACES: tuple[Place, ...] = tuple((data, ratio) for data in TITLES for ratio in RATIOS[data])
FIRST_PLACES: tuple[Place, ...] = tuple((data, RATIOS[data][0]) for data in TITLES)


def baseline(place: Place) -> Cell:
    """The supervised network."""
    return Cell(*place, SUPERVISED)


def learner(place: Place, method: str, varied: tuple[str, ...] = ()) -> Cell:
    """CPS or Ensemble Teacher."""
    return Cell(*place, method, varied)


def _three(place: Place, varied: tuple[str, ...] = ()) -> tuple[Cell, Cell, Cell]:
    """The baseline, CPS, and Ensemble Teacher."""
    return baseline(place), learner(place, CPS, varied), learner(place, ENSEMBLE_TEACHER, varied)


A = Part(
    "A",
    "Do the methods beat the supervised baseline, and each other?",
    tuple(cell for place in PLACES for cell in _three(place)),
    tuple(
        pair
        for base, cps, ours in (_three(place) for place in PLACES)
        for pair in ((cps, base), (ours, base), (ours, cps))
    ),
)
ALL_LABELS = tuple(Cell(data, 1, SUPERVISED) for data in TITLES)
HEADROOM = Part(
    "headroom",
    "What would all labels give?",
    ALL_LABELS,
    tuple((cell, Cell(cell.data, ratio, SUPERVISED)) for cell in ALL_LABELS for ratio in RATIOS[cell.data]),
)


def _two_by_two(place: Place) -> tuple[Cell, Cell, Cell, Cell]:
    """Who labels, and what the students see: CPS, each change alone, and both, which are Ensemble Teacher."""
    _, cps, both = _three(place)
    return cps, both.varying("view=weak"), cps.varying("view=strong"), both


B = Part(
    "B",
    "Which of its two changes does it: teachers that label, or the strong view?",
    tuple(cell for place in FIRST_PLACES for cell in _two_by_two(place)),
    tuple(
        pair
        for neither, teachers, strong, both in (_two_by_two(place) for place in FIRST_PLACES)
        for pair in ((teachers, neither), (both, strong), (strong, neither), (both, teachers))
    ),
)
BASIS = learner(FIRST_PLACES[0], ENSEMBLE_TEACHER)
ALONE = tuple(BASIS.varying(pair) for pair in (*PUBLISHED, "ema_decay=0.999", "cps_ramp=0,0.5", "confidence=0.8"))
C = Part("C", "What does each setting change, alone?", (BASIS, *ALONE), tuple((cell, BASIS) for cell in ALONE))
PUBLISHED_PLACES: tuple[Place, ...] = (FIRST_PLACES[0], ("camvid", 16), ("camvid", 8))
D = Part(
    "D",
    "Do the methods beat the baseline with the published labels and weight?",
    tuple(cell for place in PUBLISHED_PLACES for cell in _three(place, PUBLISHED)),
    tuple(
        pair
        for base, cps, ours in (_three(place, PUBLISHED) for place in PUBLISHED_PLACES)
        for pair in ((cps, base), (ours, base))
    ),
)
PARTS = (A, HEADROOM, B, C, D)
