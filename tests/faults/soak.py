"""Trains long, and shows that memory and open files stay flat.

    python tests/faults/soak.py                       # 20,000 iterations of a small run, two loading workers
    python tests/faults/soak.py --iterations 2000

Samples the whole family of processes: memory, open files, processes. Prints a table with the medians of ten parts of
the run and, as the last line, one JSON object. Status 1 if from the second part to the last any of them grew by more
than GROWTH. The run saves all the time, validates, draws pictures for TensorBoard, and goes through 230 epochs.
"""

import argparse
import json
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from dataclasses import asdict, astuple, dataclass
from itertools import pairwise
from pathlib import Path
from statistics import median

REPOSITORY = Path(__file__).resolve().parents[2]
sys.path[:0] = [str(REPOSITORY), str(REPOSITORY / "tests")]

from bench.measure import MEGABYTE, markdown  # noqa: E402
from faults.campaign import command, start  # noqa: E402

from furnace.synthetic.layout import write_voc_layout  # noqa: E402

IMAGES = 500  # 400 to train on, 350 of them unlabelled: 87 iterations an epoch
ITERATIONS_PER_EPOCH = 87
SETTINGS = ("num_workers=2", "snapshot_minutes=0.05", "snapshot_iter=1", "validate_epochs=5", "picture_iter=100")
EVERY = 2.0  # seconds between two samples
PARTS = 10
GROWTH = 0.05  # the allocator takes memory in steps


@dataclass(frozen=True)
class Sample:
    """What a family of processes holds: bytes, open files, processes."""

    memory: int
    files: int
    processes: int


def family(pid: int) -> Iterator[int]:
    """A process and all that descend from it."""
    yield pid
    for children in Path(f"/proc/{pid}/task").glob("*/children"):
        for child in children.read_text().split():
            yield from family(int(child))


def sample(pid: int) -> Sample:
    pids = list(family(pid))
    memory = sum(own_bytes(pid) for pid in pids)
    return Sample(memory, sum(len(list(Path(f"/proc/{pid}/fd").iterdir())) for pid in pids), len(pids))


def own_bytes(pid: int) -> int:
    """Memory that is no file's; what processes share is shared out. Libraries would count by who else runs them."""
    lines = Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines()
    return sum(int(line.split()[1]) * 1024 for line in lines if line.startswith(("Pss_Anon:", "Pss_Shmem:")))


def watch(epochs: int) -> tuple[list[Sample], float]:
    """The samples of one run from its first epoch's end on, and how many seconds it took in all."""
    samples: list[Sample] = []
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        write_voc_layout(folder / "data", images=IMAGES)
        begun = time.monotonic()
        process = start([*command(folder, folder / "run", epochs), *SETTINGS])
        while process.poll() is None:
            time.sleep(EVERY)
            try:
                if (folder / "run/metrics.csv").exists():
                    samples.append(sample(process.pid))
            except (FileNotFoundError, ProcessLookupError, StopIteration):
                continue  # a process ended while it was looked at
        if process.returncode != 0:
            sys.exit(f"training ended with status {process.returncode}")
    return samples, time.monotonic() - begun


def parts(samples: Sequence[Sample]) -> list[Sample]:
    """The medians of ten equal stretches."""
    bounds = [len(samples) * part // PARTS for part in range(PARTS + 1)]
    stretches = [samples[low:high] for low, high in pairwise(bounds)]
    return [
        Sample(*(int(median(values)) for values in zip(*map(astuple, stretch), strict=True))) for stretch in stretches
    ]


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--iterations", type=int, default=20_000)
    options = parser.parse_args()
    epochs = -(-options.iterations // ITERATIONS_PER_EPOCH)
    samples, seconds = watch(epochs)
    found = parts(samples)
    rows = [
        (f"{part + 1}/{PARTS}", f"{one.memory / MEGABYTE:.0f}", one.files, one.processes)
        for part, one in enumerate(found)
    ]
    print(markdown(("part of the run", "memory, MB", "open files", "processes"), rows))
    growth = max(late / early - 1 for early, late in zip(astuple(found[1]), astuple(found[-1]), strict=True))
    print(json.dumps({
        "iterations": epochs * ITERATIONS_PER_EPOCH, "seconds": round(seconds), "samples": len(samples),
        "growth": round(growth, 4), "parts": [asdict(one) for one in found],
    }))  # fmt: skip
    return int(growth > GROWTH)


if __name__ == "__main__":
    sys.exit(main())
