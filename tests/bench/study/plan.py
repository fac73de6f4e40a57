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
RATIOS = {"msrc21": (8, 16), "camvid": (8, 16)}  # labelled are 1/8 and so on
SEEDS = (0, 1, 2)
# The weight of the cross term where AdamW takes the steps (docs/trials.md). Titles leave it out.
WEIGHED = ("cps_weight=0.2",)
# What MSRC-21 and CamVid ask of pseudo-labels besides, as trials found.
ALIGNED = ("label_temperature=0.5", "distribution_alignment=1", "teacher_norm=running", "cutmix_boxes=1", *WEIGHED)


@dataclass(frozen=True)
class Cell:
    """One thing that is trained with several seeds."""

    data: str
    ratio: int
    method: str
    varied: tuple[str, ...] = ()  # NAME=VALUE

    @property
    def place(self) -> str:
        """What it is trained on, as readers know it."""
        return f"{TITLES[self.data]} 1/{self.ratio}" if self.ratio > 1 else f"{TITLES[self.data]}, all labels"

    @property
    def title(self) -> str:
        """How it is trained, as readers know it."""
        if self.varied == ALIGNED:
            return f"{METHOD_TITLES[self.method]}, aligned soft labels"
        varied = [pair for pair in self.varied if pair not in WEIGHED]
        if self.method != SUPERVISED and not self.varied:
            varied = ["cps_weight=1"]
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
ALL_LABELS = tuple(Cell(data, 1, SUPERVISED) for data in TITLES)
HEADROOM = Part(
    "headroom",
    "What would all labels give?",
    ALL_LABELS,
    tuple((cell, Cell(cell.data, ratio, SUPERVISED)) for cell in ALL_LABELS for ratio in RATIOS[cell.data]),
)


def baseline(place: Place) -> Cell:
    """The supervised network."""
    return Cell(*place, SUPERVISED)


def learner(place: Place, method: str, varied: tuple[str, ...] = WEIGHED) -> Cell:
    """CPS or Ensemble Teacher."""
    return Cell(*place, method, varied)


A = Part(
    "A",
    "Do the methods beat the supervised baseline, and each other?",
    tuple(
        cell for place in PLACES for cell in (baseline(place), learner(place, CPS), learner(place, ENSEMBLE_TEACHER))
    ),
    tuple(
        pair
        for place in PLACES
        for base, cps, ours in [(baseline(place), learner(place, CPS), learner(place, ENSEMBLE_TEACHER))]
        for pair in ((cps, base), (ours, base), (ours, cps))
    ),
)


def _two_by_two(place: Place) -> tuple[Cell, Cell, Cell, Cell]:
    """Who labels, and what the students see: CPS, each change alone, and both, which are Ensemble Teacher."""
    cps, both = learner(place, CPS), learner(place, ENSEMBLE_TEACHER)
    return cps, both.varying("view=weak"), cps.varying("view=strong"), both


B = Part(
    "B",
    "Which of its two changes does it: teachers that label, or the strong view?",
    tuple(cell for place in FIRST_PLACES for cell in _two_by_two(place)),
    tuple(
        pair
        for place in FIRST_PLACES
        for neither, teachers, strong, both in [_two_by_two(place)]
        for pair in ((teachers, neither), (both, strong), (strong, neither), (both, teachers))
    ),
)
BASIS = learner(FIRST_PLACES[0], ENSEMBLE_TEACHER)
ALONE = tuple(BASIS.varying(pair) for pair in ("ema_decay=0.999", "cps_ramp=0,0.5", "confidence=0.8"))
# Who labels may normalise by running statistics in place of the batch's, and say all its probabilities.
LABELS = tuple(
    (cell.varying(pair), cell)
    for place in FIRST_PLACES
    for cell in (learner(place, CPS), learner(place, ENSEMBLE_TEACHER))
    for pair in ("teacher_norm=running", "label_temperature=1")
)
# The published weight, beside the one above and beside the baseline.
WEIGHTS = tuple(
    (learner(place, method, ()), base)
    for place in PLACES
    for method in (CPS, ENSEMBLE_TEACHER)
    for base in (learner(place, method), baseline(place))
)
C = Part(
    "C",
    "What does each setting change, alone?",
    tuple(dict.fromkeys((*(cell for pair in (*WEIGHTS, *LABELS) for cell in reversed(pair)), *ALONE))),
    (*WEIGHTS, *LABELS, *((cell, BASIS) for cell in ALONE)),
)
D = Part(
    "D",
    "Do the methods beat the baseline with labels that are soft and held to the labelled shares?",
    tuple(
        cell
        for place in PLACES
        for cell in (
            baseline(place),
            *(learner(place, method, varied) for method in (CPS, ENSEMBLE_TEACHER) for varied in (WEIGHED, ALIGNED)),
        )
    ),
    tuple(
        (learner(place, method, ALIGNED), base)
        for place in PLACES
        for method in (CPS, ENSEMBLE_TEACHER)
        for base in (baseline(place), learner(place, method))
    ),
)
PARTS = (HEADROOM, A, B, C, D)
