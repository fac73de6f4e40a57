"""Two processes take the step that one would, and the whole program runs under torchrun."""

import csv
import json
import os
import re
import shutil
import signal
import socket
import subprocess
import sys
from collections.abc import Callable
from functools import partial
from pathlib import Path

import pytest
import torch
import torch.multiprocessing as multiprocessing
from repository import REPOSITORY
from running import start
from runs import assert_same_run
from torch import nn

from furnace.__main__ import main
from furnace.engine.distributed import World
from furnace.engine.join import join_world, leave_world
from furnace.engine.torchrun import alone, launch
from furnace.network.deeplabv3plus import DeepLabV3Plus
from furnace.network.library import LibraryNetwork
from furnace.network.rehearsal import rehearse
from furnace.semi.alignment import Alignment
from furnace.semi.batch import Batch
from furnace.semi.cross_supervision import METHODS, CrossSupervision
from furnace.semi.ensemble import Ensemble
from furnace.semi.modes import set_to_label
from furnace.training.meters import LossMeter
from furnace.training.optimizer import build_optimizer
from furnace.training.shares import count_confident, shares

pytestmark = pytest.mark.xdist_group("several processes")
CLASSES = 5


def published() -> nn.Module:
    return DeepLabV3Plus("resnet18_v1c", CLASSES, 0.0625)


def of_library(decoder: str, backbone: str) -> nn.Module:
    """Without dropout: each process draws its own, so that one process cannot draw the same."""
    network = LibraryNetwork(decoder, backbone, CLASSES, width=0.25)
    for module in network.modules():
        if isinstance(module, nn.modules.dropout._DropoutNd):
            module.p = 0.0
    return network


def with_unreached_stages() -> nn.Module:
    """Its decoder takes none of the encoder's last two stages, for whose gradients the processes must not wait."""
    network = of_library("PSPNet", "resnet18")
    for name in rehearse(network, 48).unreached:
        network.get_parameter(name).requires_grad_(False)
    return network


# By name: what makes a network, the method, and the numbers of steps, of images, and of pixels along a side.
CASES: dict[str, tuple[Callable[[], nn.Module], str, int, int, int]] = {
    **{method: (published, method, 3, 4, 33) for method in METHODS},
    "surer pixels": (published, "ema", 3, 4, 33),
    "aligned labels": (published, "ema", 3, 4, 33),
    # An activation within its batch norms, and one behind a pooling, which sees one number in each of two processes.
    "Lite0": (partial(of_library, "DeepLabV3Plus", "tu-tf_efficientnet_lite0"), "org", 1, 2, 64),
    "no batch norm": (partial(of_library, "FPN", "tu-convnext_atto"), "ema", 1, 2, 64),
    "unreached stages": (with_unreached_stages, "org", 2, 2, 48),
}
CONFIDENCE = {"surer pixels": 0.3}  # of other cases 0
ALIGNED = "aligned labels"


def global_batch(step: int, rows: slice, images: int, size: int) -> Batch:
    """The rows of one global batch; images differ much in how many of their pixels are labelled."""
    random = torch.Generator().manual_seed(step)

    def image() -> torch.Tensor:
        return torch.randn(images, 3, size, size, dtype=torch.float64, generator=random)[rows]

    label = torch.randint(0, CLASSES, (images, size, size), generator=random)
    label[0, :25] = 255
    mask = (torch.rand(images, 1, size, size, generator=random) < 0.3).to(torch.uint8)
    return Batch(image(), label[rows], (image(), image()), (image(), image()), mask[rows])


def train(world: World, case: str) -> dict:
    """A few steps; the networks' states, the losses averaged over processes, and the shares of surer pixels."""
    torch.manual_seed(0)
    build, method, steps, images, size = CASES[case]
    choice = METHODS[method]
    ensemble = Ensemble(lambda: build().double(), choice.labellers == "teachers")
    ensemble.map(world.synchronized)
    for teacher in ensemble.teachers:
        set_to_label(teacher, batch_statistics=True)
    labellers = {"none": [], "students": ensemble.students, "teachers": ensemble.teachers}[choice.labellers]
    confidence, meter = CONFIDENCE.get(case, 0.0), LossMeter(world.mean)
    alignment = Alignment(1.0, CLASSES).double() if case == ALIGNED else None
    algorithm = CrossSupervision(
        ensemble.students,
        labellers,
        choice.view,
        confidence=confidence,
        temperature=0.5 if alignment else 0.0,
        alignment=alignment,
        average=world.mean,
        parallel=world.data_parallel,
    )
    optimizers = [build_optimizer(student, 0.01, 1e-4) for student in ensemble.students]
    share = images // world.size
    losses = []
    for step in range(steps):
        batch = global_batch(step, slice(world.rank * share, (world.rank + 1) * share), images, size)
        found = algorithm.accumulate_gradients(batch, 1.5)
        terms = found.terms()
        if confidence:
            meter.add(step, terms, count_confident(found.pseudo_labels, found.likeliest, CLASSES))
        losses.append({name: world.mean(value).item() for name, value in terms.items()})
        for optimizer in optimizers:
            optimizer.step()
            optimizer.zero_grad()
        ensemble.update_teachers(step + 1, 0.999, with_statistics=False)
    meter.read_back()
    states = {name: network.state_dict() for name, network in ensemble.networks().items()}
    if alignment:
        states["alignment"] = alignment.state_dict()
    return {"states": states, "losses": losses, "shares": shares(meter.counts, "abcde")}


def process(rank: int, port: int, folder: str) -> None:
    torch.set_num_threads(1)
    address = {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port)}
    os.environ.update(RANK=str(rank), LOCAL_RANK=str(rank), WORLD_SIZE="2", **address)
    world = join_world(gpus=0, timeout_minutes=10)
    for case in CASES:
        torch.save(train(world, case), Path(folder) / f"{case}_{rank}.pth")
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


@pytest.mark.parametrize("case", CASES)
def test_two_processes_equal_one(two_processes: Path, case: str) -> None:
    one = train(World(), case)
    both = [torch.load(two_processes / f"{case}_{rank}.pth") for rank in range(2)]
    for ours, expected in zip(both[0]["losses"], one["losses"], strict=True):
        assert ours == pytest.approx(expected, rel=1e-9)
    assert both[0]["shares"] == both[1]["shares"] == one["shares"]
    assert (0.05 < one["shares"]["confident"] < 0.95) if case in CONFIDENCE else one["shares"] == {}
    for name, state in one["states"].items():
        for key, value in state.items():
            torch.testing.assert_close(both[0]["states"][name][key], value, rtol=1e-7, atol=1e-9, msg=f"{name} {key}")
            assert torch.equal(both[0]["states"][name][key], both[1]["states"][name][key]), f"{name} {key}"


@pytest.fixture
def launched(demo_data: Path, monkeypatch: pytest.MonkeyPatch):
    """Trains or evaluates in so many processes, as `python -m furnace` starts them; returns the exit status."""
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

    def call(processes: int, command: str = "train", **changed: str) -> int:
        pairs = [f"{name}={value}" for name, value in {**settings, **changed}.items()]
        arguments = [command, str(REPOSITORY / "exp.voc/ensemble_teacher+cutmix"), *pairs]
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


@pytest.mark.parametrize(("command", "expected"), [("train", 4), ("eval", 6)])
def test_training_takes_the_gpus_that_its_batch_can_be_shared_out_over(
    launched, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture, command: str, expected: int
) -> None:
    """An evaluation has no batch and takes all."""
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 6)
    started = []
    monkeypatch.setattr("furnace.engine.launch.launch", lambda _, processes, __: started.append(processes) or 75)
    assert launched(1, command, OUTPUT_PATH=str(tmp_path / "run"), NGPUS="all") == 75 and started == [expected]
    said = "note: 6 GPUs are visible, batch_size=4 is shared out over 4 of them\n" in capfd.readouterr().err
    assert said == (command == "train")


def test_two_runs_on_one_machine_do_not_see_each_other(two_at_once: list[Path]) -> None:
    """Each takes a port of its own."""
    assert_same_run(*two_at_once)


def test_bad_input_in_a_process_ends_all_with_status_2(launched, tmp_path: Path, demo_data: Path) -> None:
    broken = tmp_path / "data"
    shutil.copytree(demo_data, broken)
    for path in (broken / "train_aug/image").iterdir():
        path.write_bytes(b"no image")
    assert launched(2, OUTPUT_PATH=str(tmp_path / "run"), dataset_path=str(broken)) == 2


# The first process waits as for a GPU: a lock of C goes on after a signal, and no handler of Python's runs.
ONE_FAILS = """
import ctypes, os, signal, sys
from furnace.engine import join
from furnace.engine.launch import in_processes
from furnace.engine.place import find_place
from furnace.engine.signals import StopRequest
from furnace.errors import CommonInputError, InputError

def work(world):
    world.highest(0)
    if world.rank == 0 and sys.argv[1] not in ("all", "each"):
        lock = ctypes.create_string_buffer(64)
        with StopRequest(alone=False):
            for _ in range(2):
                ctypes.CDLL(None).pthread_mutex_lock(lock)
    if sys.argv[1] == "image":
        raise InputError("image cannot be read")
    if sys.argv[1] == "each":
        raise InputError("found by each")
    if sys.argv[1] == "killed":
        os.kill(os.getpid(), signal.SIGKILL)
    def fail():
        raise InputError("said by the first alone")
    try:
        world.by_main(fail)
    except CommonInputError:
        print("the others know it", flush=True)
        raise

def no_device(gpus):
    if find_place().rank == 1:
        raise InputError("no such GPU")
    return before(gpus)

if sys.argv[1] == "device":
    before, join.take_device = join.take_device, no_device
sys.exit(in_processes(work, [], 0, timeout_minutes=5))
"""


@pytest.mark.parametrize(
    ("what", "said", "ends"),
    [
        ("image", ["image cannot be read", "process 1 of 2 has ended, or its machine does"], {0: 1, 1: 2}),
        ("killed", ["process 1 of 2 has ended, or its machine does"], {0: 1, 1: -signal.SIGKILL}),
        ("all", ["said by the first alone"], {0: 2}),  # the other waits a moment for that, which torchrun cuts short
        ("each", ["found by each"], {0: 2}),
    ],
)
def test_a_process_that_ends_ends_the_others_before_torchrun_would(
    tmp_path: Path, what: str, said: list[str], ends: dict[int, int]
) -> None:
    """Torchrun would kill those of its own machine half a minute after its signal, and those of others never."""
    (tmp_path / "program.py").write_text(ONE_FAILS)
    result = subprocess.run(
        [sys.executable, "-m", "torch.distributed.run", *alone(), "--nproc-per-node=2", "program.py", what],
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": str(REPOSITORY), "OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
        timeout=100,
        check=False,
    )
    lines = [line for line in result.stderr.splitlines() if line.startswith("error: ")]
    assert len(lines) == len(said), result.stderr
    assert all(line.startswith(f"error: {words}") for line, words in zip(lines, said, strict=True)), result.stderr
    assert result.stdout == ("the others know it\n" if what == "all" else "")
    found = re.findall(r"rank +: (\d+) .*\n +exitcode +: (-?\d+)", result.stderr)
    told = {int(rank): int(code) for rank, code in found}
    if len(told) == 1:  # torchrun 2.6 tells of whoever ended first, later versions of all
        ends = {rank: ends[rank] for rank in told}
    assert told.items() >= ends.items() and ends


# The second process looks for snapshots before the training that goes on has saved its last one.
LOOKS_EARLIER = """
import os, sys
from furnace.__main__ import main
from furnace.engine.checkpoint import Snapshots

if os.environ["RANK"] == "1":
    epochs = Snapshots.epochs
    Snapshots.epochs = lambda snapshots: epochs(snapshots)[:-1]
sys.exit(main(sys.argv[1:]))
"""


def test_processes_score_one_snapshot_while_a_training_adds_others(
    two_at_once: list[Path], experiment: Path, tiny: list[str], tmp_path: Path
) -> None:
    shutil.copytree(two_at_once[0], tmp_path / "run")
    (tmp_path / "program.py").write_text(LOOKS_EARLIER)
    program = ["-m", "torch.distributed.run", *alone(), "--nproc-per-node=2", str(tmp_path / "program.py")]
    arguments = ["eval", str(experiment), *tiny, "ensemble=v3"]
    environment = {**os.environ, "PYTHONPATH": str(REPOSITORY), "OMP_NUM_THREADS": "1"}
    subprocess.run([sys.executable, *program, *arguments], env=environment, timeout=100, check=True)
    by_two = json.loads((tmp_path / "run/scores/epoch3_v3.json").read_text())["confusion"]
    assert main(arguments) == 0
    assert by_two == json.loads((tmp_path / "run/scores/epoch3_v3.json").read_text())["confusion"]


def test_a_device_that_one_process_cannot_use_ends_those_that_wait_for_it(tmp_path: Path) -> None:
    """While they meet, also on other machines: nothing but the process itself says it to the other one here."""
    (tmp_path / "program.py").write_text(ONE_FAILS)
    address = {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(free_port()), "WORLD_SIZE": "2"}
    processes = [
        start(sys.executable, str(tmp_path / "program.py"), "device", **address, RANK=rank, LOCAL_RANK=rank)
        for rank in ("0", "1")
    ]
    outputs = [process.communicate(timeout=100)[0] for process in processes]
    assert [process.returncode for process in processes] == [1, 2]
    assert outputs[0].startswith("error: process 1 of 2 has ended") and outputs[1] == "error: no such GPU\n"


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
