"""Promises of several processes: they take the step of one, and none of them outlives another."""

import csv
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from torch import Tensor

from furnace.engine.join import group_of_one
from furnace.engine.signals import PATIENCE
from furnace.engine.torchrun import alone
from furnace.network.tensors import read_tensors
from furnace.proof.ground import EPOCHS, Ground, Texts
from furnace.proof.one_step import CHANGE, EXACT, SLOW, norm
from furnace.proof.outcome import NotHereError, require, within
from furnace.proof.trial import difference

START_LIMIT, END_LIMIT = 120.0, 20.0  # seconds until two processes have trained an epoch, and until both have ended
HERE = Path(__file__).parents[2]  # where `python -m furnace` finds this program


def group_takes_the_step_of_one(ground: Ground) -> str:
    """In a process group of one, with batch norms and gradients exchanged all the same, losses are those without."""
    expected = ground.losses(3, SLOW)
    with group_of_one(ground.device) as world:
        return within({"losses": (difference(ground.losses(3, SLOW, world), expected), EXACT)})


def two_follow_one(ground: Ground) -> str:
    """A run in two processes has the losses of a run in one."""
    _require_two(ground)
    ground.train("one", SLOW)
    with _in_two(ground, "two", SLOW) as process:
        said, _ = process.communicate(timeout=START_LIMIT)
    require(process.returncode == 0, f"status {process.returncode}: {said.strip()[-300:]}", "0")
    runs = ground.folder / "two", ground.folder / "one"
    changes, losses = [_last_change(run) for run in runs], [_losses_of(run) for run in runs]
    gap = norm(ours - theirs for ours, theirs in zip(*changes, strict=True))
    return within(
        {
            "losses of each epoch": (difference(*losses), EXACT),
            f"change of weights in epoch {EPOCHS}": (gap / norm(changes[1]), CHANGE),
        }
    )


def none_outlives_another(ground: Ground) -> str:
    """When one of two processes is killed, the other ends too, and the command says so by its status."""
    _require_two(ground)
    with _in_two(ground, "killed", {"nepochs": "10000"}) as process:
        table, limit = ground.folder / "killed/metrics.csv", time.monotonic() + START_LIMIT
        while not table.is_file():
            require(process.poll() is None and time.monotonic() < limit, "no epoch trained", "one")
            time.sleep(0.1)
        os.kill(_process_of_rank(1, process.pid), signal.SIGKILL)
        killed = time.monotonic()
        try:
            process.wait(END_LIMIT)
        except subprocess.TimeoutExpired:
            require(False, f"a process that still runs after {END_LIMIT:g} s", "its end")
        took = time.monotonic() - killed
    require(process.returncode != 0, "status 0", "another")
    return f"ended after {took:.1f} s with status {process.returncode}"


def _require_two(ground: Ground) -> None:
    if ground.gpus == 1:
        raise NotHereError("needs two GPUs")


@contextmanager
def _in_two(ground: Ground, run: str, changed: Texts) -> Iterator[subprocess.Popen]:
    """Trains in two processes into the folder of that name; whatever still runs when the context is left is ended."""
    settings = ground.settings(changed, run)
    if ground.gpus:  # the program starts them itself
        starts, settings["NGPUS"] = ["-m", "furnace"], "2"
    else:  # on a CPU, torchrun is asked to
        starts = ["-m", "torch.distributed.run", "--nproc-per-node=2", *alone(), "-m", "furnace"]
    pairs = [f"{name}={text}" for name, text in settings.items()]
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join([str(HERE), os.environ.get("PYTHONPATH", "")])}
    environment.setdefault("OMP_NUM_THREADS", "1")
    with subprocess.Popen(
        [sys.executable, *starts, "train", str(ground.copy), *pairs],
        env=environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        encoding="utf-8",
        errors="replace",
        start_new_session=True,
    ) as process:
        try:
            yield process
        finally:
            if process.poll() is None:
                process.terminate()  # torchrun's processes are in groups of their own, so that it must end them
                with suppress(subprocess.TimeoutExpired):
                    process.wait(2 * PATIENCE)
                process.kill()


def _process_of_rank(rank: int, launcher: int) -> int:
    """Returns the child of the `launcher` that torchrun gave this rank."""
    for task in Path(f"/proc/{launcher}/task").iterdir():
        for child in (task / "children").read_text(encoding="utf-8").split():
            if f"\0RANK={rank}\0".encode() in Path(f"/proc/{child}/environ").read_bytes():
                return int(child)
    raise RuntimeError(f"process {launcher} has no child of rank {rank}")


def _losses_of(run: Path) -> list[dict[str, float]]:
    """Returns the losses of each epoch from a run's metrics.csv."""
    with open(run / "metrics.csv", newline="", encoding="utf-8") as file:
        return [
            {name: float(cell) for name, cell in row.items() if name.startswith("loss")} for row in csv.DictReader(file)
        ]


def _last_change(run: Path) -> list[Tensor]:
    """Returns what the last epoch changed of both students' weights."""
    before, after = (read_tensors(run / f"snapshot/model_epoch{epoch}.pth")["model"] for epoch in (EPOCHS - 1, EPOCHS))
    return [after[name].double() - before[name].double() for name in after if name.endswith(("weight", "bias"))]
