"""Fixtures shared by the tests."""

import os
from pathlib import Path

import pytest
import torch

REPOSITORY = Path(__file__).resolve().parents[1]

os.environ.setdefault("CUDA_VISIBLE_DEVICES", "")  # every test runs on the CPU
for name in ("WORLD_SIZE", "RANK", "LOCAL_RANK"):
    os.environ.pop(name, None)


torch.set_num_threads(1)  # networks here are tiny: threads would only wait for each other


@pytest.fixture(autouse=True)
def seeded() -> None:
    torch.manual_seed(0)


@pytest.fixture(scope="session")
def demo_data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A small data set in the VOC layout: 32 training images, 8 to validate."""
    from furnace.data.synthetic import write_voc_layout

    folder = tmp_path_factory.mktemp("data") / "demo"
    write_voc_layout(folder, images=40, seed=0)
    return folder
