"""Fixtures shared by the tests, and how they share out over processes."""

import os
import signal
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path

import cv2
import pytest
import torch
from repository import REPOSITORY
from running import IN_TWO_PROCESSES, NAMELESS, start
from runs import ORIGINAL, make_experiment, tiny_settings

from furnace.__main__ import main
from furnace.synthetic.layout import write_city_layout, write_voc_layout

os.environ.setdefault("CUDA_VISIBLE_DEVICES", "")  # every test runs on the CPU
for name in ("WORLD_SIZE", "RANK", "LOCAL_RANK"):
    os.environ.pop(name, None)

# Where a CPU has AVX2 and no AVX-512, oneDNN (torch 2.14) writes beyond its memory in the gradient of a 1 x 1
# convolution that has a stride and fewer than 8 input channels. The program's ResNets avoid it, others may not.
if torch.backends.cpu.get_cpu_capability() == "AVX2":
    os.environ.setdefault("ONEDNN_MAX_CPU_ISA", "AVX")
torch.set_num_threads(1)  # networks here are tiny: threads would only wait for each other


@pytest.hookimpl(tryfirst=True)  # before pytest-xdist reads the groups
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Lets pytest-xdist give each file to one worker, which makes its fixtures once; what takes long comes first."""
    items.sort(key=lambda item: (item.path.parent.name != "system", item.path.name != "test_parity.py"))
    for item in items:
        if not item.get_closest_marker("xdist_group"):
            item.add_marker(pytest.mark.xdist_group(item.path.as_posix()))


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """Says in the last lines what was skipped, and why."""
    reasons = Counter(report.longrepr[2].removeprefix("Skipped: ") for report in terminalreporter.getreports("skipped"))
    terminalreporter.section("skipped")
    for reason, count in reasons.items():
        terminalreporter.line(f"{count} x {reason}")
    if not reasons:
        terminalreporter.line("nothing")


@pytest.fixture(autouse=True)
def seeded() -> None:
    torch.manual_seed(0)


@pytest.fixture
def signals_heard() -> Iterator[None]:
    """Undoes what `nohup` and `&` do, with which the tests may have been started: they ignore SIGHUP and SIGINT."""
    handlers = {signal.SIGHUP: signal.SIG_DFL, signal.SIGINT: signal.default_int_handler}
    before = {number: signal.signal(number, handler) for number, handler in handlers.items()}
    yield
    for number, handler in before.items():
        signal.signal(number, handler)


@pytest.fixture(scope="session")
def demo_data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A small data set in the VOC layout: 32 training images, 8 to validate; a crop of 32 sees each in six windows."""
    folder = tmp_path_factory.mktemp("data") / "demo"
    write_voc_layout(folder, images=40, seed=0)
    for path in folder.rglob("*.*g"):
        cv2.imwrite(str(path), cv2.imread(str(path), cv2.IMREAD_UNCHANGED)[:54, :60])
    return folder


@pytest.fixture(scope="module")
def city_data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Ten images: at 1/2 four labelled and four unlabelled ones, so that an epoch is one iteration."""
    folder = tmp_path_factory.mktemp("data") / "city"
    write_city_layout(folder, images=10, seed=0)
    return folder


@pytest.fixture
def experiment(tmp_path: Path) -> Path:
    """A copy of exp.voc's experiment, so that its log_df.csv lies here."""
    return make_experiment(tmp_path)


@pytest.fixture
def tiny(demo_data: Path, tmp_path: Path) -> list[str]:
    """Settings of a network and a run that are over in a second."""
    return tiny_settings(demo_data, tmp_path / "run")


@pytest.fixture(scope="module")
def straight(demo_data: Path, tmp_path_factory: pytest.TempPathFactory) -> Callable[..., Path]:
    """Trains tiny runs that nobody disturbs, each once; returns their folders."""
    root = tmp_path_factory.mktemp("straight")
    experiment, done = make_experiment(root), {}

    def train(*settings: str) -> Path:
        if settings not in done:
            done[settings] = root / str(len(done))
            assert main(["train", str(experiment), *tiny_settings(demo_data, done[settings]), *settings]) == 0
        return done[settings]

    return train


@pytest.fixture(scope="session")
def two_at_once(demo_data: Path, tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    """The same tiny run twice at the same time, each in two processes; nobody disturbs them.

    The second one's machine has a name that stands for no address.
    The rate is small: in fp32, rounding grows from step to step, as it does with another number of threads.
    """
    outputs = [tmp_path_factory.mktemp("two") / "run" for _ in range(2)]
    settings = [[*tiny_settings(demo_data, output), "learning_rate=0.00001"] for output in outputs]
    processes = [
        start(*machine, *IN_TWO_PROCESSES, "train", str(ORIGINAL), *pairs)
        for machine, pairs in zip(((), NAMELESS), settings, strict=True)
    ]
    for process in processes:
        said, _ = process.communicate(timeout=300)
        assert process.returncode == 0, said
    return outputs


@pytest.fixture
def run(experiment: Path, tiny: list[str]) -> Callable[..., int]:
    """Runs a command on a tiny network; returns its exit status."""
    return lambda command, *settings: main([command, str(experiment), *tiny, *settings])


@pytest.fixture
def sweep(experiment: Path, tiny: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., int]:
    """Two methods and two seeds of a tiny run, in folders below `runs`."""
    monkeypatch.setenv("PYTHONPATH", str(REPOSITORY))
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    monkeypatch.chdir(tmp_path)
    output = f"OUTPUT_PATH={tmp_path}/runs/{{method}}{{labeled_ratio}}"
    arguments = ["sweep", str(experiment), "--methods", "org,ema", "--ratios", "8", "--seeds", "0,1"]
    settings = [*tiny[:-1], output, "nepochs=1"]
    return lambda *more: main([*arguments, *settings, *more])
