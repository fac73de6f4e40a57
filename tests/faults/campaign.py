"""Kills training again and again, and shows that nothing is lost: the last weights are those of an undisturbed run.

    python tests/faults/campaign.py                   # 50 SIGKILLs of one process, 20 of one process of two
    python tests/faults/campaign.py --kills 5 --kills-of-two 2

A small run on a CPU that saves every few iterations, so that many kills fall into a save. After each of them every
file that is there is whole, and no epoch's row is missing or doubled. Two processes are started by torchrun with
--max-restarts: one of them is killed at random, the others end, all begin anew and go on by themselves. Prints a table
and, as the last line, one JSON object; status 1 if anything was lost.
"""

import argparse
import csv
import json
import os
import random
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from pathlib import Path

REPOSITORY = Path(__file__).resolve().parents[2]
if str(REPOSITORY) not in sys.path:
    sys.path.insert(0, str(REPOSITORY))

import torch  # noqa: E402

from furnace.network.tensors import read_tensors  # noqa: E402
from furnace.synthetic.layout import write_voc_layout  # noqa: E402

EXPERIMENT = REPOSITORY / "exp.voc/ensemble_teacher+cutmix"
SETTINGS = (
    "NGPUS=0",
    "pretrained_model=none",
    "backbone=resnet18_v1c",
    "width=0.0625",
    "image_size=32",
    "batch_size=4",
    "cps_ramp=0.2,0.5",
    "snapshot_minutes=0.002",
    "snapshot_iter=3",
    "timeout_minutes=0.5",
)
PATIENCE = 30  # seconds in which all processes end after one was killed


@dataclass(frozen=True)
class Plan:
    """How long a run is, and when it is killed."""

    epochs: int
    life: tuple[float, float]  # seconds from the first save after a start to a kill


ONE = Plan(epochs=40, life=(0.0, 3.0))
TWO = Plan(epochs=8, life=(0.0, 8.0))  # iterations of two processes take six times as long
EARLY = 0.1  # share of the kills that do not wait for a save: they come up to START seconds after a start
START = 6.0


@dataclass
class Tally:
    """What happened to one kind of run."""

    kills: int = 0
    runs: int = 0
    within_a_save: int = 0
    slowest_end: float = 0.0  # seconds until all processes had ended after one was killed
    joins_given_up: int = 0  # processes that ended because they had not found each other in time
    faults: list[str] = field(default_factory=list)


def command(folder: Path, output: Path, epochs: int, *launcher: str) -> list[str]:
    settings = [*SETTINGS, f"nepochs={epochs}", f"dataset_path={folder / 'data'}", f"OUTPUT_PATH={output}"]
    return [sys.executable, *launcher, "-m", "furnace", "train", str(EXPERIMENT), *settings]


def start(arguments: list[str], log: Path = Path(os.devnull)) -> subprocess.Popen:
    """Runs a command in a process group of its own; what it says goes to the end of `log`."""
    environment = {**os.environ, "PYTHONPATH": str(REPOSITORY), "OMP_NUM_THREADS": "1"}
    with open(log, "a") as file:
        return subprocess.Popen(arguments, env=environment, stdout=file, stderr=file, start_new_session=True)


def torchrun(restarts: int) -> tuple[str, ...]:
    return ("-m", "torch.distributed.run", "--standalone", "--nproc-per-node=2", f"--max-restarts={restarts}")


def final_tensors(output: Path, epoch: int) -> dict[str, torch.Tensor]:
    """Every tensor of the last epoch's students and teachers."""
    paths = sorted(output.glob(f"*snapshot/*epoch{epoch}.pth"))
    states = {path.name: read_tensors(path)["model"] for path in paths}
    return {f"{name}: {key}": value for name, state in states.items() for key, value in state.items()}


def table(output: Path) -> list[dict[str, str]]:
    """The rows of metrics.csv without times."""
    path = output / "metrics.csv"
    if not path.is_file():
        return []
    with open(path, newline="") as file:
        return [{name: cell for name, cell in row.items() if "seconds" not in name} for row in csv.DictReader(file)]


def half_written(output: Path) -> Iterator[str]:
    """What is wrong with the files of a run that was just killed."""
    for path in [*output.glob("*snapshot/*.pth"), *output.glob("resume*.pth")]:
        try:
            read_tensors(path)
        except Exception as error:
            yield f"{path.name}: {error}"
    epochs = [int(row["epoch"]) for row in table(output)]
    if epochs != list(range(1, len(epochs) + 1)):
        yield f"metrics.csv has the epochs {epochs}"
    if (output / "config.json").is_file():
        json.loads((output / "config.json").read_text())


def differences(output: Path, expected: Path, epochs: int) -> Iterator[str]:
    """How a finished run differs from an undisturbed one."""
    found, right = final_tensors(output, epochs), final_tensors(expected, epochs)
    if found.keys() != right.keys() or not right:
        yield f"tensors missing: {len(found)} of {len(right)}"
    else:
        yield from (f"{name} differs" for name, value in right.items() if not torch.equal(found[name], value))
    if table(output) != table(expected):
        yield "metrics.csv differs"
    yield from (f"left behind: {path.name}" for path in output.rglob(".*.tmp"))


def let_live(process: subprocess.Popen, output: Path, dice: random.Random, plan: Plan) -> bool:
    """Waits until it is time for the next kill; False if the run ended before."""
    early = dice.random() < EARLY
    if not early:
        before = state_of(output)
        while process.poll() is None and state_of(output) == before:
            time.sleep(0.02)
    try:
        process.wait(dice.uniform(0, START) if early else dice.uniform(*plan.life))
    except subprocess.TimeoutExpired:
        return True
    return False


def state_of(output: Path) -> object:
    """What changes with every save."""
    path = output / "resume.pth"
    return (path.stat().st_ino, path.stat().st_mtime_ns) if path.exists() else None


def kill_one_process(folder: Path, kills: int, dice: random.Random, plan: Plan = ONE) -> Tally:
    """Kills a single process so many times; runs that end are compared, and another begins."""
    tally, expected = Tally(), folder / "undisturbed"
    assert start(command(folder, expected, plan.epochs)).wait() == 0
    while tally.kills < kills:
        output = folder / f"run{tally.runs}"
        status = None
        while status != 0:
            process = start(command(folder, output, plan.epochs))
            if tally.kills < kills and let_live(process, output, dice, plan):
                os.killpg(process.pid, signal.SIGKILL)
                process.wait()
                tally.kills += 1
                tally.within_a_save += any(output.rglob(".*.pth.*.tmp"))
                tally.faults += half_written(output)
                continue
            status = process.wait()
            if status != 0:
                tally.faults.append(f"status {status} without a kill")
                return tally
        tally.runs += 1
        tally.faults += differences(output, expected, plan.epochs)
    return tally


def children(pid: int) -> list[int]:
    """The processes that torchrun started."""
    return [int(number) for number in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]


def kill_one_of_two(folder: Path, kills: int, dice: random.Random, plan: Plan = TWO) -> Tally:
    """Kills one of two processes at random; torchrun starts both anew until the run is over."""
    tally, expected = Tally(), folder / "undisturbed_two"
    assert start(command(folder, expected, plan.epochs, *torchrun(0))).wait() == 0
    while tally.kills < kills:
        output, log = folder / f"two{tally.runs}", folder / f"two{tally.runs}.log"
        process = start(command(folder, output, plan.epochs, *torchrun(restarts=1000)), log)
        while process.poll() is None:
            if tally.kills >= kills or not let_live(process, output, dice, plan):
                process.wait()
                continue
            pair = children(process.pid)
            if not pair:
                continue
            os.kill(dice.choice(pair), signal.SIGKILL)
            tally.kills += 1
            begun = time.monotonic()
            while any(alive(pid) for pid in pair) and time.monotonic() - begun < PATIENCE:
                time.sleep(0.05)
            tally.slowest_end = max(tally.slowest_end, time.monotonic() - begun)
        tally.runs += 1
        tally.joins_given_up += log.read_text(errors="replace").count("has not found all others")
        if process.returncode != 0:
            tally.faults.append(f"torchrun ended with status {process.returncode}")
        tally.faults += differences(output, expected, plan.epochs)
    if tally.slowest_end >= PATIENCE:
        tally.faults.append(f"a process lived on for more than {PATIENCE} s")
    tally.faults += ends_without_restarts(folder / "once", folder, plan)
    return tally


def ends_without_restarts(output: Path, folder: Path, plan: Plan) -> Iterator[str]:
    """Without restarts, all end with another status than 0 when one is killed."""
    process = start(command(folder, output, plan.epochs, *torchrun(0)))
    while not (output / "resume.pth").exists() and process.poll() is None:
        time.sleep(0.05)
    os.kill(children(process.pid)[-1], signal.SIGKILL)
    try:
        if process.wait(PATIENCE) == 0:
            yield "torchrun ended with status 0 although a process was killed"
    except subprocess.TimeoutExpired:
        os.killpg(process.pid, signal.SIGKILL)
        yield f"torchrun did not end within {PATIENCE} s"


def alive(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0] != "Z"
    except (FileNotFoundError, ProcessLookupError):
        return False


@contextmanager
def workplace() -> Iterator[Path]:
    """A folder with the data."""
    with tempfile.TemporaryDirectory() as name:
        write_voc_layout(Path(name) / "data", images=40)
        yield Path(name)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--kills", type=int, default=50)
    parser.add_argument("--kills-of-two", type=int, default=20)
    parser.add_argument("--seed", type=int, default=0, help="of the moments of the kills")
    options = parser.parse_args()
    dice, tallies = random.Random(options.seed), {}
    with workplace() as folder:
        if options.kills:
            tallies["one process"] = kill_one_process(folder, options.kills, dice)
        if options.kills_of_two:
            tallies["one of two"] = kill_one_of_two(folder, options.kills_of_two, dice)
    print("| what | kills | of them within a save | runs finished | slowest end, s | joins given up | faults |")
    print("| --- | --- | --- | --- | --- | --- | --- |")
    for name, tally in tallies.items():
        end = f"{tally.slowest_end:.1f}"
        cells = (tally.kills, tally.within_a_save, tally.runs, end, tally.joins_given_up, len(tally.faults))
        print(f"| {name} | {' | '.join(map(str, cells))} |")
        for fault in tally.faults:
            print(f"  {name}: {fault}", file=sys.stderr)
    print(json.dumps({name: asdict(tally) for name, tally in tallies.items()}))
    return int(any(tally.faults for tally in tallies.values()))


if __name__ == "__main__":
    sys.exit(main())
