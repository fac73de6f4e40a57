"""Supervised, CPS and Ensemble Teacher at equal iterations: trains and evaluates each with each seed, prints a table.

    python tests/bench/methods.py exp.voc/ensemble_teacher+cutmix OUTPUT --seeds 0,1,2 NAME=VALUE ...

Every run evaluates all its snapshots; `best` takes the best of them by the validation score itself, so it is an upper
bound that no one can choose without labels; `last` is the last one. One thread a run, `--jobs` runs at once. Runs that
are finished are kept. The last line is one JSON object.
"""

import argparse
import json
import os
import shutil
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pandas as pd

REPOSITORY = Path(__file__).resolve().parents[2]


def run(experiment: Path, output: Path, method: str, seed: int, settings: list[str]) -> None:
    """Trains and evaluates one run; its output goes to a log beside it."""
    name = f"{method}_seed{seed}"
    folder = output / name
    values = [
        *settings,
        f"method={method}",
        f"seed={seed}",
        f"OUTPUT_PATH={folder}",
        "keep_snapshots=all",
        f"volna={REPOSITORY}",
    ]
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": str(REPOSITORY)}
    with open(output / f"{name}.log", "w") as log:
        for command in (["train"], ["eval", "eval_epochs=all", "ensemble=all"]):
            arguments = [sys.executable, "-m", "furnace", command[0], str(experiment), *values, *command[1:]]
            subprocess.run(arguments, check=True, stdout=log, stderr=subprocess.STDOUT, env=environment)
    print(f"{name} done", flush=True)


def table(log: Path, methods: list[str]) -> pd.DataFrame:
    """Mean and deviation over seeds of the best and the last score, by method and predictor."""
    rows = pd.read_csv(log)
    last = rows.sort_values("epoch").groupby(["method", "seed", "Ensemble"])["mean_IU"].last()
    best = rows.groupby(["method", "seed", "Ensemble"])["mean_IU"].max()
    scores = pd.DataFrame({"last": last, "best": best}).groupby(["method", "Ensemble"]).agg(["mean", "std", "count"])
    return scores.loc[methods].round(2)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("experiment", type=Path)
    parser.add_argument("output", type=Path)
    parser.add_argument("settings", nargs="*", metavar="NAME=VALUE")
    parser.add_argument("--methods", default="supervised,org,ema")
    parser.add_argument("--seeds", default="0")
    parser.add_argument("--jobs", type=int, default=2)
    options = parser.parse_intermixed_args()
    methods, seeds = options.methods.split(","), [int(seed) for seed in options.seeds.split(",")]
    # A copy of the experiment, so that its log_df.csv holds these runs alone.
    output = options.output.resolve()
    experiment = output / "experiment"
    shutil.copytree(options.experiment, experiment, dirs_exist_ok=True, ignore=shutil.ignore_patterns("log_df.csv"))
    with ThreadPoolExecutor(options.jobs) as pool:
        jobs = [
            pool.submit(run, experiment, output, method, seed, options.settings) for seed in seeds for method in methods
        ]
        for job in jobs:
            job.result()
    scores = table(experiment / "log_df.csv", methods)
    print(scores.to_string())
    print(
        json.dumps(
            {
                f"{method} {code} {kind}": row[kind, "mean"]
                for (method, code), row in scores.iterrows()
                for kind in ("last", "best")
            }
        )
    )


if __name__ == "__main__":
    main()
