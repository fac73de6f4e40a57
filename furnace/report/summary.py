"""Sums up scores: those of one run by predictor and epoch, and mean and deviation over several runs."""

import statistics
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from furnace.report.rows import Row
from furnace.semi.ensemble import PREDICTORS

HEADLINES = ("v3", "v2", *PREDICTORS)  # The first of these that was evaluated stands for the run.


@dataclass(frozen=True)
class Evaluated:
    """One run, evaluated in one way."""

    way: tuple[str, str]  # scales and flip, as they stand in log_df.csv
    rows: dict[str, dict[int, Row]]  # by predictor, in the order of PREDICTORS, and by epoch, ascending; never empty

    def last(self, predictor: str) -> Row:
        """Returns the row of a predictor's last evaluated epoch."""
        return list(self.rows[predictor].values())[-1]

    def best(self, predictor: str) -> Row:
        """Returns the row of the epoch with a predictor's highest mean IoU, of equal ones the first."""
        return max(self.rows[predictor].values(), key=lambda row: row.mean_iou)

    @property
    def epochs(self) -> list[int]:
        """The epochs at which any predictor was evaluated, ascending."""
        return sorted({epoch for by_epoch in self.rows.values() for epoch in by_epoch})

    @property
    def seed(self) -> str:
        """The run's seed, as its first row tells it."""
        first = next(iter(self.rows.values()))
        return next(iter(first.values())).seed

    @property
    def headline(self) -> str:
        """The predictor that stands for the run: v3 where there are teachers, else v2."""
        return next(code for code in HEADLINES if code in self.rows)


def ways(rows: Iterable[Row]) -> list[Evaluated]:
    """Parts the rows of one run by the way of evaluating it.

    Returns:
        One entry for each way. The way with the most epochs comes first; of equal ones, scale 1 without mirroring.
    """
    found: dict[tuple[str, str], dict[str, dict[int, Row]]] = {}
    for row in sorted(rows, key=lambda row: (list(PREDICTORS).index(row.predictor), row.epoch)):
        found.setdefault(row.way, {}).setdefault(row.predictor, {})[row.epoch] = row
    evaluated = [Evaluated(way, by_predictor) for way, by_predictor in found.items()]
    return sorted(evaluated, key=lambda one: (-len(one.epochs), one.way != ("1", "0"), one.way))


@dataclass(frozen=True)
class Statistic:
    """Mean and sample deviation over runs."""

    mean: float
    deviation: float | None  # None for a single run
    count: int  # the number of runs

    @classmethod
    def of(cls, values: Sequence[float]) -> "Statistic":
        """Computes the statistic of the values, at least one."""
        return cls(statistics.mean(values), statistics.stdev(values) if len(values) > 1 else None, len(values))
