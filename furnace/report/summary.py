"""Scores of one run by predictor and epoch: last, best; and what several runs have in common."""

import statistics
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from furnace.report.rows import Row
from furnace.semi.ensemble import PREDICTORS

HEADLINES = ("v3", "v2", *PREDICTORS)  # the first that was evaluated stands for a run


@dataclass(frozen=True)
class Evaluated:
    """One run, evaluated in one way: rows by predictor and epoch."""

    way: tuple[str, str]
    rows: dict[str, dict[int, Row]]  # epochs ascending

    def last(self, predictor: str) -> Row:
        return list(self.rows[predictor].values())[-1]

    def best(self, predictor: str) -> Row:
        """The epoch with the highest mean IoU, of equal ones the first."""
        return max(self.rows[predictor].values(), key=lambda row: row.mean_iou)

    @property
    def epochs(self) -> list[int]:
        return sorted({epoch for by_epoch in self.rows.values() for epoch in by_epoch})

    @property
    def headline(self) -> str:
        """The predictor that stands for the run: v3 where there are teachers, else v2."""
        return next(code for code in HEADLINES if code in self.rows)


def ways(rows: Iterable[Row]) -> list[Evaluated]:
    """The ways one run was evaluated in; the one with most epochs first, of equal ones the plain one."""
    found: dict[tuple[str, str], dict[str, dict[int, Row]]] = {}
    for row in sorted(rows, key=lambda row: (list(PREDICTORS).index(row.predictor), row.epoch)):
        found.setdefault(row.way, {}).setdefault(row.predictor, {})[row.epoch] = row
    evaluated = [Evaluated(way, by_predictor) for way, by_predictor in found.items()]
    return sorted(evaluated, key=lambda one: (-len(one.epochs), one.way != ("1", "0"), one.way))


@dataclass(frozen=True)
class Statistic:
    """Mean and sample deviation over runs; no deviation of a single one."""

    mean: float
    deviation: float | None
    count: int

    @classmethod
    def of(cls, values: Sequence[float]) -> "Statistic":
        return cls(statistics.mean(values), statistics.stdev(values) if len(values) > 1 else None, len(values))
