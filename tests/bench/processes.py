"""Two processes that exchange gradients and statistics over gloo, against one process with two threads, on two cores.

    python -m tests.bench.processes

The demo recipe on demo data made for it, runs of two epochs in turn; a time is the mean step of the second epoch, from
the run's own metrics.csv. The last line is one JSON object.
"""

import argparse
import csv
import json
import os
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path
from statistics import median

from furnace.synthetic.layout import write_voc_layout
from tests.bench.measure import REPOSITORY, Times, markdown

EXPERIMENT = REPOSITORY / "exp.voc/ensemble_teacher+cutmix"
SETTINGS = (
    "NGPUS=0",
    "pretrained_model=none",
    "backbone=resnet18_v1c",
    "width=0.25",
    "image_size=96",
    "train_scales=0.75,1,1.25,1.5",
    "nepochs=2",
    "batch_size=8",
)
TORCHRUN = ("-m", "torch.distributed.run", "--standalone", "--nproc-per-node=2")


def step_seconds(folder: Path, processes: int) -> float:
    """The mean step of a run's second epoch."""
    output = folder / "output"
    shutil.rmtree(output, ignore_errors=True)
    launcher = TORCHRUN if processes == 2 else ()
    settings = [*SETTINGS, f"dataset_path={folder / 'data'}", f"OUTPUT_PATH={output}", f"volna={REPOSITORY}"]
    environment = {**os.environ, "OMP_NUM_THREADS": str(2 // processes), "PYTHONPATH": str(REPOSITORY)}
    command = [sys.executable, *launcher, "-m", "furnace", "train", str(EXPERIMENT), *settings]
    subprocess.run(command, check=True, env=environment, cwd=folder, capture_output=True)
    with open(output / "metrics.csv", newline="") as file:
        return float(list(csv.DictReader(file))[-1]["step_seconds"])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--turns", type=int, default=5)
    options = parser.parse_args()
    measured: dict[int, list[float]] = {1: [], 2: []}
    with tempfile.TemporaryDirectory() as folder:
        write_voc_layout(Path(folder) / "data", images=250)
        for _ in range(options.turns):
            for processes, times in measured.items():
                times.append(step_seconds(Path(folder), processes))
    one, two = (Times(median(times), min(times), max(times)) for times in measured.values())
    ratio = two.median / one.median
    print(markdown(["what", "two processes", "two threads", "ratio"], [["the demo's step", two, one, f"{ratio:.2f}"]]))
    print(json.dumps({"processes_over_threads": round(ratio, 3)}))


if __name__ == "__main__":
    main()
