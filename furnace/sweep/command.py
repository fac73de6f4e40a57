"""The arguments of `python -m furnace sweep`."""

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

from furnace.config.arguments import EXPERIMENT_HELP, take_any_order
from furnace.engine.signals import ASKING, EXIT_INTERRUPTED
from furnace.errors import EXIT_FAILED, EXIT_RESUBMIT

# Statuses of a run that somebody asked to stop, by a signal or by Ctrl-C; the sweep then does not begin the next one.
STOPPED = (EXIT_RESUBMIT, EXIT_INTERRUPTED, *(-number for number in ASKING))


def add_parsers(commands: argparse._SubParsersAction) -> None:
    """Adds `sweep` to the commands."""
    command = commands.add_parser(
        "sweep",
        help="train and evaluate methods, ratios and seeds",
        formatter_class=argparse.RawDescriptionHelpFormatter,
        epilog='example: python -m furnace sweep "exp.voc/ensemble_teacher+cutmix" --ratios 8 --seeds 0,1 nepochs=20',
    )
    command.add_argument("experiment", metavar="EXPERIMENT", help=EXPERIMENT_HELP)
    command.add_argument("settings", nargs="*", metavar="NAME=VALUE", help="settings of all runs, as for train")
    command.add_argument("--methods", default="supervised,org,ema", metavar="LIST", help="default: supervised,org,ema")
    command.add_argument(
        "--ratios", default="16,8,4,2", metavar="LIST", help="values of labeled_ratio; default: 16,8,4,2"
    )
    command.add_argument("--seeds", default="0,1,2", metavar="LIST", help="default: 0,1,2")
    command.add_argument("--launcher", choices=("local", "slurm"), default="local", help="slurm: only write the jobs")
    command.add_argument(
        "--out", type=Path, default=Path("sweep_slurm.sh"), metavar="FILE", help="slurm's file (default sweep_slurm.sh)"
    )
    command.add_argument("--dry-run", action="store_true", help="say what is done and what is missing")
    command.set_defaults(run=_sweep)
    take_any_order(command)


def _sweep(options: argparse.Namespace, _: Sequence[str]) -> int:
    from furnace.sweep.jobs import planned_jobs
    from furnace.sweep.slurm import write_slurm
    from furnace.sweep.table import print_table

    lists = {name: getattr(options, name) for name in ("methods", "ratios", "seeds")}
    jobs = list(planned_jobs(options.experiment, options.settings, lists))
    missing = [job for job in jobs if not job.is_done()]
    print(f"{len(jobs)} runs, {len(jobs) - len(missing)} of them done")
    if options.dry_run:
        for job in jobs:
            print(f"  {'missing' if job in missing else 'done   '}  {job.title}  {job.experiment.settings.OUTPUT_PATH}")
        return 0
    if options.launcher == "slurm":
        write_slurm(options.out, missing)
        return 0
    failed = []
    for number, job in enumerate(missing, 1):
        print(f"\n[{number}/{len(missing)}] {job.title}", flush=True)
        status = job.run()
        if status in STOPPED:
            print(f"stopped in {job.title}; start again to go on", file=sys.stderr)
            return EXIT_RESUBMIT
        if status != 0:
            failed.append(f"{job.title}: status {status}")
    print_table(jobs)
    for line in failed:
        print(f"failed: {line}", file=sys.stderr)
    return EXIT_FAILED if failed else 0
