"""`python -m furnace sweep`: one experiment with several methods, ratios and seeds; what is done already is skipped."""

import argparse
import shlex
import signal
import subprocess
import sys
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import product
from pathlib import Path
from typing import TYPE_CHECKING

from furnace.engine.signals import ASKING
from furnace.errors import EXIT_FAILED, EXIT_RESUBMIT, InputError
from furnace.prediction.trained import ReadTexts, require_readable, take_any_order

if TYPE_CHECKING:  # torch is not needed to show help
    from furnace.config.experiment import Experiment

STOPPED = (EXIT_RESUBMIT, 130, -signal.SIGINT, -signal.SIGTERM, -signal.SIGUSR1)  # then the next does not begin
VARIED = {"methods": "method", "ratios": "labeled_ratio", "seeds": "seed"}  # the setting of each list
REPOSITORY = Path(__file__).resolve().parents[2]


def add_parser(commands: argparse._SubParsersAction, read_texts: ReadTexts) -> None:
    """Adds `sweep` to the commands."""
    command = commands.add_parser(
        "sweep",
        help="train and evaluate methods, ratios and seeds",
        formatter_class=argparse.RawDescriptionHelpFormatter,
        epilog='example: python -m furnace sweep "exp.voc/ensemble_teacher+cutmix" --ratios 8 --seeds 0,1 nepochs=20',
    )
    command.add_argument("experiment", metavar="EXPERIMENT", help="a folder with config.py and network.py")
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
    command.set_defaults(run=lambda options, _: _sweep(options, read_texts))
    take_any_order(command)


@dataclass(frozen=True)
class Job:
    """One run of a sweep."""

    title: str
    pairs: tuple[str, ...]  # its settings, as NAME=VALUE
    experiment: "Experiment"  # with these settings

    def scores(self) -> dict[str, float]:
        """Mean IoU of the last epoch by predictor, as log_df.csv has it for this run's way of evaluating."""
        import pandas as pd

        from furnace.evaluation.log_table import read_table, scales_text

        settings, table = self.experiment.settings, self.experiment.log_table
        if not table.is_file():
            return {}
        known = {
            "folder": settings.OUTPUT_PATH.name,
            "epoch": str(settings.nepochs),
            "method": settings.method,
            "labeled_ratio": str(settings.labeled_ratio),
            "seed": str(settings.seed),
            "scales": scales_text(settings.eval_scales),
            "flip": str(int(settings.eval_flip)),
        }
        rows = read_table(table)
        rows = rows[(rows[list(known)] == pd.Series(known)).all(axis=1) & rows["mean_IU"].ne("")]
        return dict(zip(rows["Ensemble"], rows["mean_IU"].astype(float), strict=True))

    def is_done(self) -> bool:
        """Whether the last epoch has a snapshot, and all that it is evaluated with stands in log_df.csv.

        Raises:
            InputError: the folder holds a run with other settings.
        """
        from furnace.config.record import changes, read_record
        from furnace.engine.checkpoint import Snapshots
        from furnace.evaluation.evaluate import chosen_predictors

        settings = self.experiment.settings
        trained = read_record(settings.OUTPUT_PATH).get("settings", {})
        asked = self.experiment.result_settings()
        comparable = {name: asked[name] for name in asked if name in trained and name != "pretrained_model"}  # may move
        if changed := changes(trained, comparable):
            raise InputError(
                f"{self.title}: {settings.OUTPUT_PATH} holds a run with other settings: {changed}; "
                "set them back, or OUTPUT_PATH to other folders, with {method} and {labeled_ratio} in it"
            )
        snapshots = Snapshots(settings.snapshot_dir)
        if settings.nepochs not in snapshots.epochs():
            return False
        has_teachers = snapshots.has_teachers(settings.nepochs)
        return set(self.scores()).issuperset(chosen_predictors(settings.ensemble, has_teachers, snapshots.folder))

    def run(self) -> int:
        """Trains and evaluates, each in a process of its own; the status of the first that failed, else 0."""
        for command in ("train", "eval"):
            arguments = [command, str(self.experiment.folder), *self.pairs]
            status = _status_of([sys.executable, "-m", "furnace", *arguments])
            if status != 0:
                return status
        return 0


def _status_of(command: Sequence[str]) -> int:
    """Runs a command in a group of its own and passes every signal on, so that it can save what it has."""
    with subprocess.Popen(command, process_group=0) as child:
        before = {number: signal.signal(number, lambda got, _: child.send_signal(got)) for number in ASKING}
        try:
            return child.wait()
        finally:
            for number, handler in before.items():
                signal.signal(number, handler)


def _sweep(options: argparse.Namespace, read_texts: ReadTexts) -> int:
    jobs = list(_jobs(options, read_texts))
    missing = [job for job in jobs if not job.is_done()]
    print(f"{len(jobs)} runs, {len(jobs) - len(missing)} of them done")
    if options.dry_run:
        for job in jobs:
            print(f"  {'missing' if job in missing else 'done   '}  {job.title}  {job.experiment.settings.OUTPUT_PATH}")
        return 0
    if options.launcher == "slurm":
        _write_slurm(options.out, missing)
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
    _print_table(jobs)
    for line in failed:
        print(f"failed: {line}", file=sys.stderr)
    return EXIT_FAILED if failed else 0


def _jobs(options: argparse.Namespace, read_texts: ReadTexts) -> Iterable[Job]:
    """All combinations; a seed other than 0 stands in the folder's name. InputError if the settings of one are bad."""
    from furnace.config.experiment import read_experiment
    from furnace.network.pretrained import check_weights

    lists = {name: _list(options, name) for name in VARIED}
    texts = {name: text for name, text in read_texts(options.settings).items() if text}
    for pair in options.settings:
        if (name := pair.partition("=")[0]) in VARIED.values():
            raise InputError(f"{pair}: a sweep has lists; say --{next(o for o, n in VARIED.items() if n == name)}")
    common = [f"{name}={text}" for name, text in texts.items() if name not in VARIED.values()]
    folders = set()
    for ratio, method, seed in product(lists["ratios"], lists["methods"], lists["seeds"]):
        pairs = [*common, f"method={method}", f"labeled_ratio={ratio}", f"seed={seed}"]
        experiment = read_experiment(options.experiment, read_texts(pairs))
        output = experiment.settings.OUTPUT_PATH
        if experiment.settings.seed != 0:
            output = output.with_name(f"{output.name}_seed{seed}")
        if output in folders:
            raise InputError(
                f"OUTPUT_PATH: two runs would write to {output}; leave it unset, or name it with "
                "{method} and {labeled_ratio} in it"
            )
        folders.add(output)
        pairs += [f"OUTPUT_PATH={output}", f"snapshot_dir={output}"]
        experiment = read_experiment(options.experiment, read_texts(pairs))
        if experiment.settings.nepochs is None:
            raise InputError(f"labeled_ratio: {ratio} has no number of epochs of its own in config.py; set nepochs")
        check_weights(experiment.settings.pretrained_model, experiment.settings.backbone, experiment.settings.width)
        for which in ("labeled", "unlabeled"):
            experiment.split(which)  # its list is there
        yield Job(f"{method} 1/{ratio} seed {seed}", tuple(pairs), experiment)


def _list(options: argparse.Namespace, name: str) -> list[str]:
    """The values of an option that are told apart by commas; InputError if one is none of its setting's."""
    text = getattr(options, name)
    values = [value.strip() for value in text.split(",")]
    if not all(values) or len(set(values)) < len(values):
        raise InputError(f"--{name}: expected different values with commas between them, found {text!r}; mend it")
    for value in values:
        require_readable(name, VARIED[name], value)
    return values


def _write_slurm(path: Path, jobs: Sequence[Job]) -> None:
    """A script that submits a job for each run; they put themselves into the queue again until they are finished."""
    from furnace.engine.files import write_text

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


def _print_table(jobs: Sequence[Job]) -> None:
    """Mean IoU of the last epoch by ratio and method: of the teachers together, else of the students."""
    from furnace.report.summary import HEADLINES, Statistic

    found: dict[tuple[int, str, str], list[float]] = {}
    for job in jobs:
        scores, settings = job.scores(), job.experiment.settings
        if code := next((code for code in HEADLINES if code in scores), None):
            found.setdefault((settings.labeled_ratio, settings.method, code), []).append(scores[code])
    print("\nmean IoU of the last epoch in percent, mean and deviation over seeds")
    for (ratio, method, code), scores in found.items():
        statistic = Statistic.of(scores)
        deviation = "" if statistic.deviation is None else f" ± {statistic.deviation:.2f}"
        print(f"  1/{ratio:<3} {method:<11} {code:<3} {statistic.mean:6.2f}{deviation}  (seeds: {statistic.count})")
