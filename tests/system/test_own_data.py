"""docs/own_data.md is followed word for word: every command it shows is run, in its order, and a network is trained."""

import os
import re
import subprocess
import sys
from pathlib import Path

import pandas as pd
from PIL import Image
from repository import REPOSITORY

PAGE = REPOSITORY / "docs/own_data.md"


def commands() -> str:
    """The indented lines of the page."""
    return "\n".join(line[4:] for line in re.findall(r"^(?:    .*|)$", PAGE.read_text(), re.MULTILINE))


def test_the_page_leads_to_a_trained_network(tmp_path: Path) -> None:
    for name in ("furnace", "exp.voc"):  # what the page needs of a checkout
        (tmp_path / name).symlink_to(REPOSITORY / name)
    python = Path(sys.executable).parent
    environment = {**os.environ, "PATH": f"{python}:{os.environ['PATH']}", "OMP_NUM_THREADS": "1"}
    result = subprocess.run(
        ["bash", "-euo", "pipefail", "-c", commands()],
        cwd=tmp_path,
        env=environment,
        capture_output=True,
        text=True,
        timeout=900,
    )
    assert result.returncode == 0, result.stderr[-2000:]
    assert "no problem found" in result.stdout
    table = pd.read_csv(tmp_path / "exp.photos/ensemble_teacher+cutmix/log_df.csv").set_index("Ensemble")
    assert len(table) == 7
    assert table.loc["v3", "IoU_ground"] > 60 and table.loc["v3", "IoU_object"] > 50  # chance gives 34 or 0
    colours = Image.open(next((tmp_path / "output_photos").rglob("results_color/*.png"))).convert("RGB").getcolors()
    assert {colour for _, colour in colours} <= {(0, 0, 0), (0, 160, 0)}  # those of classes.csv
