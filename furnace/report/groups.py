"""Runs that differ by their seed alone, taken together; and published scores to set beside them."""

import csv
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

from furnace.config.settings import RESULT_FIELDS
from furnace.report.rows import Row
from furnace.report.runs import METHODS, Run
from furnace.report.summary import HEADLINES, Evaluated, Statistic, ways
from furnace.semi.ensemble import PREDICTORS

PUBLISHED = Path(__file__).with_name("published.csv")


class Key(NamedTuple):
    """What runs have in common that differ by their seed alone, and the way they were evaluated in."""

    data: str
    method: str
    ratio: str
    settings: tuple[tuple[str, str], ...]  # those that decide the result; the backbone alone where no folder tells
    way: tuple[str, str]


@dataclass(frozen=True)
class Group:
    """Runs of one key."""

    key: Key
    members: tuple[Evaluated, ...]
    gone: int  # how many of them have no folder here

    @property
    def title(self) -> str:
        return METHODS.get(self.key.method, self.key.method)

    @property
    def seeds(self) -> list[str]:
        seeds = {next(iter(next(iter(one.rows.values())).values())).seed for one in self.members}
        return sorted(seeds, key=lambda seed: (len(seed), seed))

    @property
    def predictors(self) -> list[str]:
        return [code for code in PREDICTORS if any(code in one.rows for one in self.members)]

    @property
    def headline(self) -> str:
        return next(code for code in HEADLINES if code in self.predictors)

    @property
    def epochs(self) -> list[int]:
        """The last evaluated epoch of each member: one number where all have come equally far."""
        return sorted({one.epochs[-1] for one in self.members})

    def last_scores(self, predictor: str) -> list[float]:
        """Mean IoU of each member that was evaluated with it, at its last evaluated epoch."""
        return [one.last(predictor).mean_iou for one in self.members if predictor in one.rows]

    def last(self, predictor: str) -> Statistic:
        return Statistic.of(self.last_scores(predictor))

    def best(self, predictor: str) -> Statistic:
        return Statistic.of([one.best(predictor).mean_iou for one in self.members if predictor in one.rows])


def groups(runs: Sequence[Run], loose: Iterable[Row]) -> list[Group]:
    """All runs with scores, by what they have in common; `loose` are rows of runs without a folder here."""
    found: dict[Key, list[Evaluated]] = {}
    for run in runs:
        decided = run.data, run.setting("method"), run.setting("labeled_ratio"), tuple(deciding_settings(run).items())
        for one in ways(run.rows):
            found.setdefault(Key(*decided, one.way), []).append(one)
    with_folder = {key: tuple(members) for key, members in found.items()}
    by_run: dict[tuple, list[Row]] = {}
    for row in loose:
        by_run.setdefault((row.table, *row.trained), []).append(row)
    for rows in by_run.values():
        for one in ways(rows):
            found.setdefault(_key_of_loose(one, with_folder), []).append(one)
    whole = [Group(key, tuple(members), len(members) - len(with_folder.get(key, ()))) for key, members in found.items()]
    return sorted(whole, key=_place)


def _key_of_loose(one: Evaluated, with_folder: Mapping[Key, Sequence[Evaluated]]) -> Key:
    """A key of its own: nobody knows all the settings of a run without a folder."""
    row = one.last(one.headline)
    names = {key.data for key, members in with_folder.items() if _same_classes(members[0], one)}
    data = names.pop() if len(names) == 1 else row.table.parent.parent.name
    return Key(data, row.method, row.ratio, (("backbone", row.backbone),), one.way)


def _place(group: Group) -> tuple:
    """Where a group stands: by data set, fewest labels first, methods in their usual order."""
    key, order = group.key, list(METHODS)
    labels = -int(key.ratio) if key.ratio.isdecimal() else 0
    return key.data, labels, order.index(key.method) if key.method in order else len(order), key.method, key.way


def deciding_settings(run: Run) -> dict[str, str]:
    """The settings that decide a run's result and are no column of their own."""
    left_out = ("method", "labeled_ratio", "seed")
    settings = {name: _short(run.settings[name]) for name in RESULT_FIELDS if name in run.settings}
    return {name: value for name, value in settings.items() if name not in left_out}


def differing_settings(group: Group, others: Iterable[Group]) -> dict[str, str]:
    """The settings that tell a group from the others of its data set, method and ratio, as far as both are known."""
    alike = [dict(other.key.settings) for other in others if other.key[:3] == group.key[:3]]
    return {
        name: value for name, value in group.key.settings if any(other.get(name, value) != value for other in alike)
    }


def published_scores() -> dict[tuple[str, str, str, str], tuple[float, str]]:
    """Scores as their authors state them, and where: by data set, method, ratio and predictor."""
    with open(PUBLISHED, newline="", encoding="utf-8") as file:
        return {
            (row["data"], row["method"], row["labeled_ratio"], row["predictor"]): (float(row["mean_IU"]), row["source"])
            for row in csv.DictReader(file)
        }


def _same_classes(first: Evaluated, second: Evaluated) -> bool:
    """Whether their scores can be of one data set: each knows the classes that occurred for the other."""
    one, other = (evaluated.last(evaluated.headline) for evaluated in (first, second))
    return one.occurring <= set(other.by_class) and other.occurring <= set(one.by_class)


def _short(value: object) -> str:
    """A setting as text; of a file its name, because a checkout may move."""
    if isinstance(value, list):
        return ",".join(f"{part:g}" if isinstance(part, float) else str(part) for part in value)
    if isinstance(value, str) and "/" in value and "://" not in value:
        return Path(value).name
    return f"{value:g}" if isinstance(value, float) else str(value)
