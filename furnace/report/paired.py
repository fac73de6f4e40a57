"""By how much runs are better than the supervised run with the same seed, lists and settings."""

from collections.abc import Sequence

from furnace.config.experiment import OF_CROSS_TERM, OF_TEACHERS
from furnace.report.groups import Group
from furnace.report.summary import Evaluated

BASELINE = "supervised"
# What changes nothing in a supervised run, or makes it another method.
OF_METHODS = {*OF_CROSS_TERM, *OF_TEACHERS, "labellers"}
BySeed = dict[str, float]


def more_than_the_baseline(groups: Sequence[Group]) -> list[BySeed]:
    """Returns for each group how much higher the mean IoU of its runs is, in points and by seed.

    Each run is represented by its headline predictor. Runs are compared if they were evaluated last at the same epoch,
    and if their settings are known.
    """
    return [_more(group, groups) for group in groups]


def _more(group: Group, groups: Sequence[Group]) -> BySeed:
    if group.gone or group.key.method == BASELINE:
        return {}
    base = next((other for other in groups if _is_baseline_of(other, group)), None)
    runs, bases = _by_seed(group), _by_seed(base) if base else {}
    return {
        seed: _score(run) - _score(bases[seed])
        for seed, run in runs.items()
        if seed in bases and run.epochs[-1] == bases[seed].epochs[-1]
    }


def _is_baseline_of(other: Group, group: Group) -> bool:
    one, base = group.key, other.key
    alike = (base.data, base.ratio, base.way, base.lists) == (one.data, one.ratio, one.way, one.lists)
    return base.method == BASELINE and not other.gone and alike and _rest(other) == _rest(group)


def _rest(group: Group) -> dict[str, str]:
    return {name: value for name, value in group.key.settings if name not in OF_METHODS}


def _by_seed(group: Group) -> dict[str, Evaluated]:
    """Returns the runs by their seeds, but for those whose seed another run has, too."""
    seeds = [one.seed for one in group.members]
    return {one.seed: one for one in group.members if seeds.count(one.seed) == 1}


def _score(run: Evaluated) -> float:
    return run.last(run.headline).mean_iou
