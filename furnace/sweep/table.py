"""What a sweep found, as a table on the terminal."""

from collections.abc import Mapping, Sequence
from typing import NamedTuple

from furnace.report.paired import BASELINE
from furnace.report.summary import HEADLINES, Statistic
from furnace.sweep.jobs import Job

BySeed = dict[int, float]


class Row(NamedTuple):
    """What differs in nothing but the seed, scored by one predictor."""

    ratio: int
    method: str
    varied: str  # the values of --vary
    predictor: str


def print_table(jobs: Sequence[Job]) -> None:
    """Prints the mean IoU of the last epoch by all that varies but the seed, and what it is more than the baseline's.

    It is that of the teachers together, or else that of the students together.
    """
    scores: dict[Row, BySeed] = {}
    for job in jobs:
        settings, found = job.experiment.settings, job.scores()
        varied = " ".join(f"{value.name}={value.shown}" for value in job.varied)
        if code := next((code for code in HEADLINES if code in found), None):
            row = Row(settings.labeled_ratio, settings.method, varied, code)
            scores.setdefault(row, {})[settings.seed] = found[code]
    print("\nmean IoU of the last epoch in percent, mean and deviation over seeds")
    _print_rows(scores)
    if more := _more_than_the_baseline(scores):
        print(f"\nminus {BASELINE}, of the same seed")
        _print_rows(more, is_difference=True)


def _more_than_the_baseline(scores: Mapping[Row, BySeed]) -> dict[Row, BySeed]:
    """Returns by how much runs are better than those of the baseline with the same labels, variation and seed."""
    bases = {(row.ratio, row.varied): by_seed for row, by_seed in scores.items() if row.method == BASELINE}
    more = {}
    for row, by_seed in scores.items():
        base = bases.get((row.ratio, row.varied), {})
        paired = {seed: score - base[seed] for seed, score in by_seed.items() if seed in base}
        if paired and row.method != BASELINE:
            more[row] = paired
    return more


def _print_rows(rows: Mapping[Row, BySeed], is_difference: bool = False) -> None:
    """Prints a line for each row: mean and deviation, and then how many seeds there are, or the value of each."""
    statistics = [Statistic.of(list(by_seed.values())) for by_seed in rows.values()]
    deviations = ["" if each.deviation is None else f" ± {each.deviation:.2f}" for each in statistics]
    width, width_of_deviation = (
        max(map(len, texts), default=0) for texts in ([row.varied for row in rows], deviations)
    )
    for (row, by_seed), statistic, deviation in zip(rows.items(), statistics, deviations, strict=True):
        begin = f"  1/{row.ratio:<3} {row.method:<11} " + (f"{row.varied:<{width}} " if width else "")
        each = ", ".join(f"{seed}: {value:+.2f}" for seed, value in sorted(by_seed.items()))
        mean, behind = f"{statistic.mean:6.2f}", f"(seeds: {statistic.count})"
        if is_difference:
            mean, behind = f"{statistic.mean:+6.2f}", f"(seed {each})"
        print(f"{begin}{row.predictor:<3} {mean}{deviation:<{width_of_deviation}}  {behind}")
