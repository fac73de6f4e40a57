"""What a sweep found, as a table on the terminal."""

from collections.abc import Sequence

from furnace.report.summary import HEADLINES, Statistic
from furnace.sweep.jobs import Job


def print_table(jobs: Sequence[Job]) -> None:
    """Prints the mean IoU of the last epoch by all that varies but the seed.

    It is that of the teachers together, or else that of the students together.
    """
    # One number per seed, by ratio, method and values of --vary, and by predictor.
    found: dict[tuple[int, str, str], dict[str, list[float]]] = {}
    for job in jobs:
        scores, settings = job.scores(), job.experiment.settings
        varied = " ".join(f"{value.name}={value.shown}" for value in job.varied)
        by_code = found.setdefault((settings.labeled_ratio, settings.method, varied), {})
        if code := next((code for code in HEADLINES if code in scores), None):
            by_code.setdefault(code, []).append(scores[code])
    rows = [
        (f"  1/{ratio:<3} {method:<11} ", varied, code, Statistic.of(over_seeds))
        for (ratio, method, varied), by_code in found.items()
        for code, over_seeds in by_code.items()
    ]
    deviations = ["" if row[-1].deviation is None else f" ± {row[-1].deviation:.2f}" for row in rows]
    width, width_of_deviation = (max(map(len, texts), default=0) for texts in ([row[1] for row in rows], deviations))
    print("\nmean IoU of the last epoch in percent, mean and deviation over seeds")
    for (begin, varied, code, statistic), deviation in zip(rows, deviations, strict=True):
        column = f"{varied:<{width}} " if width else ""
        print(
            f"{begin}{column}{code:<3} {statistic.mean:6.2f}{deviation:<{width_of_deviation}}  "
            f"(seeds: {statistic.count})"
        )
