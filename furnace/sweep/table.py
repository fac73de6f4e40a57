"""What a sweep found, as a table on the terminal."""

from collections.abc import Sequence

from furnace.report.summary import HEADLINES, Statistic
from furnace.sweep.jobs import Job


def print_table(jobs: Sequence[Job]) -> None:
    """Prints the mean IoU of the last epoch by ratio and method: the teachers' together, or else the students'."""
    found: dict[tuple[int, str, str], list[float]] = {}  # one number per seed, by ratio, method and predictor
    for job in jobs:
        scores, settings = job.scores(), job.experiment.settings
        if code := next((code for code in HEADLINES if code in scores), None):
            found.setdefault((settings.labeled_ratio, settings.method, code), []).append(scores[code])
    print("\nmean IoU of the last epoch in percent, mean and deviation over seeds")
    for (ratio, method, code), over_seeds in found.items():
        statistic = Statistic.of(over_seeds)
        deviation = "" if statistic.deviation is None else f" ± {statistic.deviation:.2f}"
        print(f"  1/{ratio:<3} {method:<11} {code:<3} {statistic.mean:6.2f}{deviation}  (seeds: {statistic.count})")
