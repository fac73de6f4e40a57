"""Groups the runs that differ by their seed alone."""

from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

from furnace.config.record import VALIDATION_LIST, filled, list_digests
from furnace.config.settings import RESULT_FIELDS
from furnace.report.rows import Row
from furnace.report.runs import METHOD_WORDS, Run
from furnace.report.summary import HEADLINES, Evaluated, Statistic, ways
from furnace.semi.ensemble import PREDICTORS


class Key(NamedTuple):
    """What the runs of a group have in common: all but the seed, and the way of evaluating them."""

    data: str  # the name of the data set's folder
    method: str  # the setting `method`
    ratio: str  # the setting `labeled_ratio`
    # The settings that decide the result, as deciding_settings gives them. Of a run whose folder is gone only the
    # backbone is known.
    settings: tuple[tuple[str, str], ...]
    way: tuple[str, str]  # scales and flip
    lists: tuple[str, ...] = ()  # words for those that are not the usual ones, as other_lists gives them


@dataclass(frozen=True)
class Group:
    """The runs of one key."""

    key: Key
    members: tuple[Evaluated, ...]
    gone: int  # how many of the members have no folder here

    @property
    def title(self) -> str:
        """The method's name for people."""
        return METHOD_WORDS.get(self.key.method, self.key.method)

    @property
    def seeds(self) -> list[str]:
        """The members' seeds, each once, ascending."""
        return sorted({one.seed for one in self.members}, key=lambda seed: (len(seed), seed))

    @property
    def predictors(self) -> list[str]:
        """The predictors that at least one member was evaluated with."""
        return [code for code in PREDICTORS if any(code in one.rows for one in self.members)]

    @property
    def headline(self) -> str:
        """The predictor that stands for the group: v3 where a member has it, else v2."""
        return next(code for code in HEADLINES if code in self.predictors)

    @property
    def epochs(self) -> list[int]:
        """The last evaluated epochs of the members, ascending: a single one where all have come equally far."""
        return sorted({one.epochs[-1] for one in self.members})

    def last_scores(self, predictor: str) -> list[float]:
        """Returns the mean IoU of each member that has the predictor, at the predictor's last evaluated epoch."""
        return [one.last(predictor).mean_iou for one in self.members if predictor in one.rows]

    def last(self, predictor: str) -> Statistic:
        """Returns the statistic of the mean IoU at each member's last evaluated epoch."""
        return Statistic.of(self.last_scores(predictor))

    def best(self, predictor: str) -> Statistic:
        """Returns the statistic of each member's highest mean IoU."""
        return Statistic.of([one.best(predictor).mean_iou for one in self.members if predictor in one.rows])


def groups(runs: Sequence[Run], loose: Iterable[Row]) -> list[Group]:
    """Groups all runs that have scores, in the order in which tables list them.

    Args:
        runs: the runs that have a folder.
        loose: rows of runs without a folder here.
    """
    found: dict[Key, list[Evaluated]] = {}
    scored = [(run, one) for run in runs for one in ways(run.rows)]
    for (run, one), lists in zip(scored, other_lists(scored), strict=True):
        decided = run.data, run.setting("method"), run.setting("labeled_ratio"), tuple(deciding_settings(run).items())
        found.setdefault(Key(*decided, one.way, lists), []).append(one)
    with_folder = {key: tuple(members) for key, members in found.items()}
    by_run: dict[tuple[Path | str, ...], list[Row]] = {}
    for row in loose:
        by_run.setdefault((row.table, *row.trained), []).append(row)
    for rows in by_run.values():
        for one in ways(rows):
            found.setdefault(_key_of_loose(one, with_folder), []).append(one)
    whole = [Group(key, tuple(members), len(members) - len(with_folder.get(key, ()))) for key, members in found.items()]
    return sorted(whole, key=_place)


def _key_of_loose(one: Evaluated, with_folder: Mapping[Key, Sequence[Evaluated]]) -> Key:
    """Returns the key of a run without a folder.

    The backbone is the only setting in it, which keeps the run apart from those with a folder: nobody knows whether its
    other settings are the same. The data set is that of the runs with the same classes. If there is no such data set,
    or there are several, the name of the folder that holds the experiment stands for it, such as exp.voc.
    """
    row = one.last(one.headline)
    names = {key.data for key, members in with_folder.items() if _same_classes(members[0], one)}
    data = names.pop() if len(names) == 1 else row.table.parent.parent.name
    return Key(data, row.method, row.ratio, (("backbone", row.backbone),), one.way)


def other_lists(scored: Sequence[tuple[Run, Evaluated]]) -> list[tuple[str, ...]]:
    """Says of each run, as it was evaluated, which of its lists are others than most runs of its data set have.

    Lists of training images are compared among runs of one ratio. A list that is not known counts as the usual one.

    Returns:
        Words for each such list of each run, with the beginning of its digest, which tells it apart from further ones.
    """
    known: list[dict[tuple[str, ...], str]] = []  # digests by what tells which lists should be the same
    counts: dict[tuple[str, ...], Counter[str]] = defaultdict(Counter)
    for run, one in scored:
        digests = list_digests(run.record)
        if scored_list := one.last(one.headline).validation_list:
            digests[VALIDATION_LIST] = scored_list
        ratio = run.setting("labeled_ratio")
        known.append({(name, run.data, ratio * (name != VALIDATION_LIST)): each for name, each in digests.items()})
        for kind, digest in known[-1].items():
            counts[kind][digest] += 1
    usual = {kind: of_kind.most_common(1)[0][0] for kind, of_kind in counts.items()}
    return [
        tuple(f"other {kind[0]} {digest[:8]}" for kind, digest in lists.items() if digest != usual[kind])
        for lists in known
    ]


def _place(group: Group) -> tuple[str, int, int, str, tuple[str, str]]:
    """The key to sort groups by: the data set, then the fewest labels first, then methods in their usual order."""
    key, order = group.key, list(METHOD_WORDS)
    labels = -int(key.ratio) if key.ratio.isdecimal() else 0
    return key.data, labels, order.index(key.method) if key.method in order else len(order), key.method, key.way


def deciding_settings(run: Run) -> dict[str, str]:
    """Returns the settings that decide a run's result, as texts, but for those with a column of their own."""
    left_out = ("method", "labeled_ratio", "seed")
    known = filled(run.settings) if run.settings else {}
    settings = {name: _short(known[name]) for name in RESULT_FIELDS if name in known}
    return {
        name: value
        for name, value in settings.items()
        if name not in left_out and not (name.endswith("_2") and value == settings.get(name.removesuffix("_2")))
    }


def set_apart_by(group: Group, others: Iterable[Group]) -> list[str]:
    """Names a group's other lists, and the settings that differ from another group of the same data, method and ratio.

    A setting that is not known of the other group does not count as different.
    """
    alike = [dict(other.key.settings) for other in others if other.key[:3] == group.key[:3]]
    differing = (pair for pair in group.key.settings if any(each.get(pair[0], pair[1]) != pair[1] for each in alike))
    return [*group.key.lists, *(f"{name} {value}" for name, value in differing)]


def _same_classes(first: Evaluated, second: Evaluated) -> bool:
    """Returns whether both can be scores of one data set: each knows the classes that occurred in the other."""
    one, other = (evaluated.last(evaluated.headline) for evaluated in (first, second))
    return one.occurring <= set(other.by_class) and other.occurring <= set(one.by_class)


def _short(value: object) -> str:
    """Returns a setting as text; of a path only the file's name, because a checkout may move."""
    if isinstance(value, list):
        return ",".join(f"{part:g}" if isinstance(part, float) else str(part) for part in value)
    if isinstance(value, str) and "/" in value and "://" not in value:
        return Path(value).name
    return f"{value:g}" if isinstance(value, float) else str(value)
