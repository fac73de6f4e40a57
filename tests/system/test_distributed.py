"""Two processes take the step that one would, and the whole program runs under torchrun."""

import csv
import os
import re
import shutil
import socket
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
import torch.multiprocessing as multiprocessing
from repository import REPOSITORY
from runs import assert_same_run

from furnace.__main__ import main
from furnace.engine.distributed import World
from furnace.engine.join import join_world, leave_world
from furnace.engine.torchrun import launch
from furnace.network.deeplabv3plus import DeepLabV3Plus
from furnace.semi.batch import Batch
from furnace.semi.cross_supervision import METHODS, CrossSupervision
from furnace.semi.ensemble import Ensemble
from furnace.training.optimizer import build_optimizer

pytestmark = pytest.mark.xdist_group("several processes")
STEPS, BATCH, CLASSES, SIZE = 3, 4, 5, 33


def global_batch(step: int, rows: slice) -> Batch:
    """The rows of one global batch; images differ much in how many of their pixels are labelled."""
    random = torch.Generator().manual_seed(step)

    def images() -> torch.Tensor:
        return torch.randn(BATCH, 3, SIZE, SIZE, dtype=torch.float64, generator=random)[rows]

    label = torch.randint(0, CLASSES, (BATCH, SIZE, SIZE), generator=random)
    label[0, :25] = 255
    mask = (torch.rand(BATCH, 1, SIZE, SIZE, generator=random) < 0.3).to(torch.uint8)
    return Batch(images(), label[rows], (images(), images()), (images(), images()), mask[rows])


def train(world: World, method: str) -> dict:
    """A few steps; the networks' states, and the losses averaged over processes."""
    torch.manual_seed(0)
    choice = METHODS[method]
    ensemble = Ensemble(lambda: DeepLabV3Plus("resnet18_v1c", CLASSES, 0.0625).double(), choice.labellers == "teachers")
    ensemble.map(world.synchronized)
    labellers = {"none": [], "students": ensemble.students, "teachers": ensemble.teachers}[choice.labellers]
    students = [world.data_parallel(student) for student in ensemble.students]
    algorithm = CrossSupervision(students, labellers, choice.view, average=world.mean)
    optimizers = [build_optimizer(student, 0.01, 1e-4) for student in ensemble.students]
    share = BATCH // world.size
    losses = []
    for step in range(STEPS):
        batch = global_batch(step, slice(world.rank * share, (world.rank + 1) * share))
        terms = algorithm.accumulate_gradients(batch, 1.5).terms()
        losses.append({name: world.mean(value).item() for name, value in terms.items()})
        for optimizer in optimizers:
            optimizer.step()
            optimizer.zero_grad()
        ensemble.update_teachers(step + 1, 0.999, with_buffers=False)
    states = {name: network.state_dict() for name, network in ensemble.networks().items()}
    return {"states": states, "losses": losses}


def process(rank: int, port: int, folder: str) -> None:
    torch.set_num_threads(1)
    address = {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port)}
    os.environ.update(RANK=str(rank), LOCAL_RANK=str(rank), WORLD_SIZE="2", **address)
    world = join_world(gpus=0, timeout_minutes=10)
    for method in METHODS:
        torch.save(train(world, method), Path(folder) / f"{method}_{rank}.pth")
    leave_world()
    os._exit(0)  # as the program does after a run in several processes


@pytest.fixture(scope="module")
def two_processes(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("gloo")
    multiprocessing.spawn(process, (free_port(), str(folder)), nprocs=2)
    return folder


def free_port() -> int:
    with socket.socket() as server:
        server.bind(("127.0.0.1", 0))
        return server.getsockname()[1]


@pytest.mark.parametrize("method", METHODS)
def test_two_processes_equal_one(two_processes: Path, method: str) -> None:
    one = train(World(), method)
    both = [torch.load(two_processes / f"{method}_{rank}.pth") for rank in range(2)]
    for ours, expected in zip(both[0]["losses"], one["losses"], strict=True):
        assert ours == pytest.approx(expected, rel=1e-9)
    for name, state in one["states"].items():
        for key, value in state.items():
            torch.testing.assert_close(both[0]["states"][name][key], value, rtol=1e-7, atol=1e-9, msg=f"{name} {key}")
            assert torch.equal(both[0]["states"][name][key], both[1]["states"][name][key]), f"{name} {key}"


@pytest.fixture
def launched(demo_data: Path, monkeypatch: pytest.MonkeyPatch):
    """Trains in so many processes, as `python -m furnace` starts them; returns the exit status."""
    monkeypatch.setenv("PYTHONPATH", str(REPOSITORY))
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    settings = {
        "NGPUS": "0",
        "dataset_path": str(demo_data),
        "pretrained_model": "none",
        "backbone": "resnet18_v1c",
        "width": "0.0625",
        "image_size": "32",
        "nepochs": "2",
        "batch_size": "4",
        "learning_rate": "0.0001",
    }

    def call(processes: int, **changed: str) -> int:
        pairs = [f"{name}={value}" for name, value in {**settings, **changed}.items()]
        arguments = ["train", str(REPOSITORY / "exp.voc/ensemble_teacher+cutmix"), *pairs]
        return launch(arguments, processes, timeout_minutes=10) if processes > 1 else main(arguments)

    return call


def test_the_program_in_two_processes_follows_one(two_at_once: list[Path], straight: Callable[..., Path]) -> None:
    one, two = (
        list(csv.DictReader((folder / "metrics.csv").read_text().splitlines()))
        for folder in (straight("learning_rate=0.00001"), two_at_once[0])
    )
    assert len(one) == len(two) == 3
    for ours, theirs in zip(one, two, strict=True):
        for name in ("loss", "loss_sup_1", "loss_sup_2", "loss_cross_1", "loss_cross_2"):
            assert float(theirs[name]) == pytest.approx(float(ours[name]), rel=1e-3)


def test_two_runs_on_one_machine_do_not_see_each_other(two_at_once: list[Path]) -> None:
    """Each takes a port of its own."""
    assert_same_run(*two_at_once)


def test_bad_input_in_a_process_ends_all_with_status_2(launched, tmp_path: Path, demo_data: Path) -> None:
    broken = tmp_path / "data"
    shutil.copytree(demo_data, broken)
    for path in (broken / "train_aug/image").iterdir():
        path.write_bytes(b"no image")
    assert launched(2, OUTPUT_PATH=str(tmp_path / "run"), dataset_path=str(broken)) == 2


def test_who_does_not_find_the_others_ends_in_time(tmp_path: Path) -> None:
    """Whatever waits, a library without a time-out of its own included."""
    code = (
        "import time; from datetime import timedelta; from furnace.engine.join import _deadline\n"
        "with _deadline(timedelta(seconds=60), 'not these'): pass\n"
        "with _deadline(timedelta(seconds=0.3), 'process 1 of 2 has not found all others'): time.sleep(60)"
    )
    environment = {**os.environ, "PYTHONPATH": str(REPOSITORY)}
    command = [sys.executable, "-c", code]
    result = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=50, check=False)
    assert result.returncode == 1 and result.stderr == "error: process 1 of 2 has not found all others\n"


def test_a_process_whose_others_do_not_come_says_so(tiny: list[str], tmp_path: Path) -> None:
    command = [sys.executable, "-m", "furnace", "train", str(REPOSITORY / "exp.voc/ensemble_teacher+cutmix"), *tiny]
    address = {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(free_port())}
    place = {"RANK": "0", "LOCAL_RANK": "0", "WORLD_SIZE": "2", "PYTHONPATH": str(REPOSITORY), **address}
    result = subprocess.run(
        [*command, "timeout_minutes=0.03"],
        env={**os.environ, **place},
        capture_output=True,
        text=True,
        timeout=100,
        check=False,
    )
    assert result.returncode in (1, 2), result.stderr
    assert re.search(r"error: process 0 of 2 (cannot reach the others|has not found all others)", result.stderr)
    assert "Traceback" not in result.stderr
