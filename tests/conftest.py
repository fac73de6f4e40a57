"""Fixtures shared by the tests, and how they share out over processes."""

import os
import shutil
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from repository import REPOSITORY

os.environ.setdefault("CUDA_VISIBLE_DEVICES", "")  # every test runs on the CPU
for name in ("WORLD_SIZE", "RANK", "LOCAL_RANK"):
    os.environ.pop(name, None)

torch.set_num_threads(1)  # networks here are tiny: threads would only wait for each other


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Lets pytest-xdist give a file's tests to one worker, which makes their fixtures once; whole runs come first."""
    items.sort(key=lambda item: "system" not in item.path.parts)
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


@pytest.fixture(scope="session")
def demo_data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A small data set in the VOC layout: 32 training images, 8 to validate."""
    from furnace.synthetic.layout import write_voc_layout

    folder = tmp_path_factory.mktemp("data") / "demo"
    write_voc_layout(folder, images=40, seed=0)
    return folder


@pytest.fixture
def experiment(tmp_path: Path) -> Path:
    """A copy of exp.voc's experiment, so that its log_df.csv lies here."""
    folder = tmp_path / "exp with space+plus"
    folder.mkdir()
    for name in ("config.py", "network.py"):
        shutil.copy(REPOSITORY / "exp.voc/ensemble_teacher+cutmix" / name, folder)
    return folder


@pytest.fixture
def tiny(demo_data: Path, tmp_path: Path) -> list[str]:
    """Settings of a network and a run that are over in a second."""
    return [
        f"dataset_path={demo_data}",
        "pretrained_model=none",
        "backbone=resnet18_v1c",
        "width=0.0625",
        "image_size=32",
        "nepochs=3",
        "batch_size=4",
        "learning_rate=0.02",
        "NGPUS=0",
        f"OUTPUT_PATH={tmp_path / 'run'}",
    ]


@pytest.fixture
def run(experiment: Path, tiny: list[str]) -> Callable[..., int]:
    """Runs a command on a tiny network; returns its exit status."""
    from furnace.__main__ import main

    return lambda command, *settings: main([command, str(experiment), *tiny, *settings])
