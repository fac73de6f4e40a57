"""The arguments of `python -m furnace sweep`."""

import argparse
import sys
from collections.abc import Sequence
from fractions import Fraction
from pathlib import Path
from typing import TYPE_CHECKING

from furnace.config.arguments import EXPERIMENT_HELP, take_any_order
from furnace.engine.signals import resubmit_on_signal
from furnace.errors import EXIT_FAILED, EXIT_RESUBMIT, InputError, at_least

if TYPE_CHECKING:  # showing help must not import torch
    from furnace.sweep.jobs import Job


def add_parsers(commands: argparse._SubParsersAction) -> None:
    """Adds `sweep` to the commands."""
    command = commands.add_parser(
        "sweep",
        help="train and evaluate methods, ratios, seeds and other settings",
        formatter_class=argparse.RawDescriptionHelpFormatter,
        epilog='example: python -m furnace sweep "exp.voc/ensemble_teacher+cutmix" --ratios 8 --seeds 0,1 nepochs=20\n'
        "         python -m furnace sweep ... --methods ema --vary view=weak,strong --vary 'cps_ramp=0,0;0,1' --jobs 4",
    )
    command.add_argument("experiment", metavar="EXPERIMENT", help=EXPERIMENT_HELP)
    command.add_argument("settings", nargs="*", metavar="NAME=VALUE", help="settings of all runs, as for train")
    command.add_argument("--methods", default="supervised,org,ema", metavar="LIST", help="default: supervised,org,ema")
    command.add_argument(
        "--ratios", default="16,8,4,2", metavar="LIST", help="values of labeled_ratio; default: 16,8,4,2"
    )
    command.add_argument("--seeds", default="0,1,2", metavar="LIST", help="default: 0,1,2")
    command.add_argument(
        "--vary",
        action="append",
        default=[],
        metavar="NAME=V1,V2",
        help="values of another setting, once for each; values that hold commas are parted by ;",
    )
    command.add_argument(
        "--jobs",
        type=at_least(1),
        default=1,
        metavar="N",
        help="runs at a time, which share the GPUs or cores (default 1)",
    )
    command.add_argument(
        "--gpus-per-run",
        type=_gpus,
        metavar="K",
        help="with --jobs: GPUs of each run, or 1/N for N runs on one GPU (default: all, shared out)",
    )
    command.add_argument("--launcher", choices=("local", "slurm"), default="local", help="slurm: only write the jobs")
    command.add_argument(
        "--out", type=Path, default=Path("sweep_slurm.sh"), metavar="FILE", help="slurm's file (default sweep_slurm.sh)"
    )
    command.add_argument("--dry-run", action="store_true", help="say what is done and what is missing")
    command.set_defaults(run=_sweep)
    take_any_order(command)


def _gpus(text: str) -> Fraction:
    whole, slash, part = text.partition("/")
    numbers = [whole, part] if slash else [whole]
    if not all(number.isdecimal() and int(number) > 0 for number in numbers) or (slash and int(whole) != 1):
        hint = " (NGPUS=0 is the CPU)" if text == "0" else ""
        expected = f"a whole number of at least 1{hint}, or 1/N for N runs on one GPU"
        raise argparse.ArgumentTypeError(f"expected {expected}, found {text!r}")
    return Fraction(text)


@resubmit_on_signal()
def _sweep(options: argparse.Namespace, _: Sequence[str]) -> int:
    from furnace.sweep.planned import planned_jobs
    from furnace.sweep.slurm import write_slurm
    from furnace.sweep.table import print_table

    _require_fitting(options)
    lists = {name: getattr(options, name) for name in ("methods", "ratios", "seeds")}
    jobs = list(planned_jobs(options.experiment, options.settings, lists, options.vary))
    missing = [job for job in jobs if not job.is_done()]
    print(f"{len(jobs)} runs, {len(jobs) - len(missing)} of them done")
    if options.jobs > 1 and missing:
        print(_words_of_shares(missing, options))
    if options.dry_run:
        for job in jobs:
            print(f"  {'missing' if job in missing else 'done   '}  {job.title}  {job.experiment.settings.OUTPUT_PATH}")
        return 0
    if options.launcher == "slurm":
        write_slurm(options.out, missing)
        return 0
    stopped, failed = _at_once(missing, options) if options.jobs > 1 else _in_turn(missing)
    if not stopped:
        print_table(jobs)
    for line in failed:
        print(line, file=sys.stderr)
    if stopped:
        print(f"stopped{stopped}; start again to go on", file=sys.stderr)
        return EXIT_RESUBMIT
    return EXIT_FAILED if failed else 0


def _require_fitting(options: argparse.Namespace) -> None:
    """Raises InputError if two options exclude each other."""
    if options.launcher == "slurm" and (options.jobs > 1 or options.gpus_per_run):
        option = "--jobs" if options.jobs > 1 else "--gpus-per-run"
        raise InputError(f"{option}: Slurm decides how many runs go on at a time, and where; leave it out")
    if options.gpus_per_run and options.jobs == 1:
        raise InputError("--gpus-per-run: expected --jobs N with it, of at least 2; one run at a time takes NGPUS=K")


def _words_of_shares(missing: "Sequence[Job]", options: argparse.Namespace) -> str:
    """Says how many runs go on at a time, and on what; a dry run also says why they cannot."""
    from furnace.sweep.pool import shares_of

    try:
        shares = shares_of(missing, options.jobs, options.gpus_per_run)
    except InputError as error:
        if not options.dry_run:
            raise
        return f"this would be refused: {error}"
    at_a_time = f"{len(shares)} runs at a time, each" if len(shares) > 1 else "one run,"
    return f"{at_a_time} on {' or '.join(dict.fromkeys(share.words for share in shares))}"


def _in_turn(missing: "Sequence[Job]") -> tuple[str, list[str]]:
    """Runs one job after the other, on this terminal; returns where it was stopped, and a line for each failure."""
    from furnace.sweep.jobs import STOPPED, status_words

    failed: list[str] = []
    for number, job in enumerate(missing, 1):
        print(f"\n[{number}/{len(missing)}] {job.title}", flush=True)
        try:
            status = job.run()
        except InputError as error:
            failed.append(f"failed: {job.title}: {error}")
            continue
        if status in STOPPED:
            return f" in {job.title}", failed
        if status != 0:
            failed.append(f"failed: {job.title}: {status_words(status)}")
    return "", failed


def _at_once(missing: "Sequence[Job]", options: argparse.Namespace) -> tuple[str, list[str]]:
    """Runs several jobs at a time; returns the same."""
    from furnace.sweep.pool import run_all

    outcome = run_all(missing, options.jobs, options.gpus_per_run)
    stopped = f" in {', '.join(job.title for job in outcome.stopped)}" if outcome.stopped else ""
    failed = [f"failed: {failure}" for failure in outcome.failures]
    if outcome.no_gpu_left:
        return stopped, failed + [f"not begun, because no GPU is left: {job.title}" for job in outcome.waiting]
    if not stopped and outcome.waiting:
        stopped = f" before {outcome.waiting[0].title}"
    return stopped, failed
