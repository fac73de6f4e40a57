"""The study's tables as Markdown, computed from nothing but what is kept.

Scores are mean IoU in percent of the last snapshot; mean ± sample deviation over three seeds. Where there are others, a
number in brackets says how many; of two, no deviation is told.
"""

from collections.abc import Mapping, Sequence
from statistics import mean

from furnace.report.summary import Statistic
from furnace.semi.ensemble import PREDICTORS
from tests.bench.measure import markdown
from tests.bench.study.kept import Kept, Scores
from tests.bench.study.plan import ENSEMBLE_TEACHER, SEEDS, Cell, Part

AllKept = Mapping[str, Kept]  # by data set
ONE, BOTH = "one network", "two networks"


def reading(scores: Scores, cell: Cell, networks: str) -> float:
    """What stands for a run: of the networks that a user would keep, one alone (the mean of both), or both together.

    These are the teachers of Ensemble Teacher, and the students where there are none.
    """
    one, other, together = ("v1", "v1_2", "v3") if cell.method == ENSEMBLE_TEACHER else ("v0", "v0_2", "v2")
    return scores[together] if networks == BOTH else mean((scores[one], scores[other]))


def over_seeds(kept: AllKept, cell: Cell) -> dict[int, Scores]:
    """The scores of a cell by seed, as far as they are kept."""
    found = {seed: kept[cell.data].scores(cell, seed) for seed in cell.seeds}
    return {seed: scores for seed, scores in found.items() if scores}


def differences(kept: AllKept, better: Cell, base: Cell, networks: str) -> dict[int, float]:
    """By how many points one cell is better than another, for each seed that both have."""
    first, second = over_seeds(kept, better), over_seeds(kept, base)
    return {
        seed: reading(first[seed], better, networks) - reading(second[seed], base, networks)
        for seed in first
        if seed in second
    }


def tables(part: Part, kept: AllKept) -> str:
    """Returns the scores of all predictors, what is better than what, and how many runs nobody has trained yet."""
    planned = sum(len(cell.seeds) for cell in part.cells)
    count = planned - sum(len(over_seeds(kept, cell)) for cell in part.cells)
    missing = f"Not trained yet: {count} of {planned} runs." if count else ""
    return "\n\n".join(filter(None, (score_table(part, kept), difference_table(part, kept), missing)))


def score_table(part: Part, kept: AllKept) -> str:
    """Returns a row for each cell that was trained with any seed, a column for each predictor; nothing if none was."""
    rows = []
    for cell in part.cells:
        found = over_seeds(kept, cell)
        if not found:
            continue
        cells = [with_deviation([scores[code] for scores in found.values() if code in scores]) for code in PREDICTORS]
        rows.append([cell.place, cell.title, *cells])
    return _table(["data, labelled", "method", *PREDICTORS], rows)


def difference_table(part: Part, kept: AllKept) -> str:
    """Returns a row for each pair that was trained with one seed or more: differences, their mean and deviation."""
    rows = []
    for better, base in part.differences:
        for networks in (ONE, BOTH):
            found = differences(kept, better, base, networks)
            if not found:
                continue
            each = ", ".join(f"{seed}: {value:+.1f}" for seed, value in found.items())
            summed = with_deviation(list(found.values()), signed=True)
            base_title = base.title if base.place == better.place else f"{base.title}, 1/{base.ratio}"
            rows.append([better.place, better.title, base_title, networks, each, summed])
    return _table(["data, labelled", "this", "minus this", "of each run", "by seed", "mean"], rows)


def _table(header: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    return markdown(header, rows) if rows else ""


def with_deviation(values: Sequence[float], signed: bool = False) -> str:
    """Returns `61.3 ± 1.7` for the usual number of seeds, `61.3 ± 1.5 (5)` for more, and `61.3 (2)` for fewer."""
    if not values:
        return "-"
    statistic, usual = Statistic.of(values), len(SEEDS)
    spread = f" ± {statistic.deviation:.1f}" if statistic.deviation is not None and statistic.count >= usual else ""
    count = f" ({statistic.count})" if statistic.count != usual else ""
    return f"{statistic.mean:{'+' if signed else ''}.1f}{spread}{count}"
