"""What the study compares: parts, each of which answers one question by several cells.

A cell is a data set, a share of labels, a method, and the settings in which it differs from the data set's experiment
(`msrc21/config.py`, `camvid/config.py`). It is trained once with each seed, also if it stands in several parts.
"""

from dataclasses import dataclass
from pathlib import Path

FOLDER = Path(__file__).resolve().parent
TITLES = {"msrc21": "MSRC-21", "camvid": "CamVid"}  # by the name of an experiment's folder
SUPERVISED, CPS, ENSEMBLE_TEACHER = METHODS = "supervised", "org", "ema"
METHOD_TITLES = {SUPERVISED: "supervised", CPS: "CPS", ENSEMBLE_TEACHER: "Ensemble Teacher"}
RATIOS = {"msrc21": (8, 16), "camvid": (8, 16)}  # labelled are 1/8 and so on
SEEDS = (0, 1, 2)
# What MSRC-21 and CamVid ask of pseudo-labels, as trials found (docs/study.md).
ALIGNED = ("label_temperature=0.5", "distribution_alignment=1", "teacher_norm=running", "cutmix_boxes=1")
# Twice as long as other runs with 1/16 of the labels; the first quarter learns from labels alone.
LONG = {"msrc21": ("nepochs=24",), "camvid": ("nepochs=20",)}
LONG_ALIGNED = {data: (*ALIGNED, *length, "cps_ramp=0.25,0.25") for data, length in LONG.items()}
VARIED_TITLES = {
    ALIGNED: "aligned soft labels",
    **dict.fromkeys(LONG.values(), "twice as long"),
    **dict.fromkeys(LONG_ALIGNED.values(), "aligned soft labels, twice as long"),
}


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
        varied = VARIED_TITLES.get(self.varied) or ", ".join(self.varied)
        return ", ".join(filter(None, (METHOD_TITLES[self.method], varied)))

    def varying(self, *pairs: str) -> "Cell":
        """Returns the same cell with these settings."""
        return Cell(self.data, self.ratio, self.method, pairs)


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


PLACES = tuple((data, ratio) for data in TITLES for ratio in RATIOS[data])
ALL_LABELS = tuple(Cell(data, 1, SUPERVISED) for data in TITLES)
HEADROOM = Part(
    "headroom",
    "What would all labels give?",
    ALL_LABELS,
    tuple((cell, Cell(cell.data, ratio, SUPERVISED)) for cell in ALL_LABELS for ratio in RATIOS[cell.data]),
)
A = Part(
    "A",
    "Do the methods beat the supervised baseline, and each other?",
    tuple(Cell(*place, method) for place in PLACES for method in METHODS),
    tuple(
        (Cell(*place, method), Cell(*place, base))
        for place in PLACES
        for method, base in ((CPS, SUPERVISED), (ENSEMBLE_TEACHER, SUPERVISED), (ENSEMBLE_TEACHER, CPS))
    ),
)


def _two_by_two(data: str) -> tuple[Cell, Cell, Cell, Cell]:
    """Who labels, and what the students see: CPS, each change alone, and both, which are Ensemble Teacher."""
    ratio = RATIOS[data][0]
    cps, both = Cell(data, ratio, CPS), Cell(data, ratio, ENSEMBLE_TEACHER)
    return cps, both.varying("view=weak"), cps.varying("view=strong"), both


B = Part(
    "B",
    "Which of its two changes does it: teachers that label, or the strong view?",
    tuple(cell for data in TITLES for cell in _two_by_two(data)),
    tuple(
        pair
        for data in TITLES
        for neither, teachers, strong, both in [_two_by_two(data)]
        for pair in ((teachers, neither), (both, strong), (strong, neither), (both, teachers))
    ),
)
BASIS = Cell("msrc21", RATIOS["msrc21"][0], ENSEMBLE_TEACHER)
ALONE = tuple(BASIS.varying(pair) for pair in ("ema_decay=0.999", "cps_ramp=0,0.5", "confidence=0.8", "cps_weight=0.5"))
# Who labels may normalise by running statistics in place of the batch's, and say all its probabilities.
LABELS = tuple(
    (cell.varying(pair), cell)
    for data in TITLES
    for cell in (Cell(data, RATIOS[data][0], CPS), Cell(data, RATIOS[data][0], ENSEMBLE_TEACHER))
    for pair in ("teacher_norm=running", "label_temperature=1")
)
C = Part(
    "C",
    "What does each setting change, alone?",
    tuple(dict.fromkeys((*(cell for pair in LABELS for cell in reversed(pair)), *ALONE))),
    (*LABELS, *((cell, BASIS) for cell in ALONE)),
)
D = Part(
    "D",
    "Do the methods beat the baseline with labels that are soft and held to the labelled shares?",
    tuple(
        cell
        for place in PLACES
        for cell in (
            Cell(*place, SUPERVISED),
            *(Cell(*place, method, varied) for method in (CPS, ENSEMBLE_TEACHER) for varied in ((), ALIGNED)),
        )
    ),
    tuple(
        (Cell(*place, method, ALIGNED), base)
        for place in PLACES
        for method in (CPS, ENSEMBLE_TEACHER)
        for base in (Cell(*place, SUPERVISED), Cell(*place, method))
    ),
)
E = Part(
    "E",
    "Is more gained in longer training?",
    tuple(
        cell
        for data in TITLES
        for cell in (
            Cell(data, 16, SUPERVISED, LONG[data]),
            *(Cell(data, 16, method, LONG_ALIGNED[data]) for method in (CPS, ENSEMBLE_TEACHER)),
        )
    ),
    tuple(
        (Cell(data, 16, method, LONG_ALIGNED[data]), Cell(data, 16, SUPERVISED, LONG[data]))
        for data in TITLES
        for method in (CPS, ENSEMBLE_TEACHER)
    ),
)
PARTS = (HEADROOM, A, B, C, D, E)
