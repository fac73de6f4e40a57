"""A sweep as jobs of Slurm."""

import shlex
from collections.abc import Sequence
from pathlib import Path

from furnace.engine.files import write_text
from furnace.sweep.jobs import Job

REPOSITORY = Path(__file__).resolve().parents[2]


def write_slurm(path: Path, jobs: Sequence[Job]) -> None:
    """Writes a script that submits one job for each run and prints how to start it.

    A job that reaches its time limit puts itself into the queue again, until its run is finished.
    """
    lines = [
        "#!/usr/bin/env bash",
        "# Submits what is missing: bash this file; options of sbatch go behind it.",
        "set -eu",
    ]
    for job in jobs:
        settings = " ".join(shlex.quote(pair) for pair in job.pairs)
        script = shlex.quote(str(job.experiment.folder / "train_ema.sh"))
        name = shlex.quote(job.title.replace(" ", "_").replace("/", "-"))
        slurm = shlex.quote(str(REPOSITORY / "scripts/train.slurm"))
        lines.append(f'env {settings} sbatch --job-name={name} "$@" {slurm} {script}')
    write_text(path, "\n".join([*lines, ""]))
    print(f"{len(jobs)} jobs in {path}: bash {shlex.quote(str(path))} --gpus-per-node=4")
