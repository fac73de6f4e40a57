"""A sweep as jobs of Slurm."""

import shlex
from collections.abc import Sequence
from pathlib import Path

from furnace.engine.files import write_text
from furnace.errors import InputError
from furnace.sweep.jobs import Job

REPOSITORY = Path(__file__).resolve().parents[2]


def write_slurm(path: Path, jobs: Sequence[Job]) -> None:
    """Writes a script that submits one job for each run and prints how to start it.

    A job that reaches its time limit puts itself into the queue again, until its run is finished.

    Raises:
        InputError: the experiment has no train_ema.sh, which the jobs would start.
    """
    scripts = [job.experiment.folder / "train_ema.sh" for job in jobs]
    for missing in (script for script in scripts if not script.is_file()):
        raise InputError(
            f"no script: {missing}: expected the one that each job starts; copy that of "
            "exp.voc/ensemble_teacher+cutmix, and set the defaults in it to those of config.py"
        )
    lines = [
        "#!/usr/bin/env bash",
        "# Submits what is missing: bash this file; options of sbatch go behind it.",
        "set -eu",
    ]
    for job, script in zip(jobs, scripts, strict=True):
        settings = " ".join(shlex.quote(pair) for pair in job.pairs)
        name = shlex.quote(job.title.replace(" ", "_").replace("/", "-"))
        slurm = shlex.quote(str(REPOSITORY / "scripts/train.slurm"))
        lines.append(f'env {settings} sbatch --job-name={name} "$@" {slurm} {shlex.quote(str(script))}')
    write_text(path, "\n".join([*lines, ""]))
    print(f"{len(jobs)} jobs in {path}: bash {shlex.quote(str(path))} --gpus-per-node=4")
