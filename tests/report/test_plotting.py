"""Charts, and the page without them."""

import os
import subprocess
import sys

import pytest
from repository import REPOSITORY

from furnace.report import plotting


def test_a_chart_that_fails_is_left_out_and_said_once(capsys: pytest.CaptureFixture) -> None:
    @plotting.chart
    def draw(name: str) -> str:
        raise RuntimeError(f"In FT2Font: Can not load face\n{name}")

    assert draw("one") is None and draw("two") is None
    said = capsys.readouterr().err
    assert said.count("\n") == 1
    assert said.startswith("note: the page has no charts where matplotlib failed: RuntimeError: In FT2Font: Can not")


def test_what_a_notebook_left_in_the_environment_does_no_harm() -> None:
    script = """
import pandas
from furnace.report.figures import loss_chart
print(loss_chart(pandas.DataFrame({"epoch": [1, 2], "loss": [2.0, 1.0]}))[:5])
"""
    environment = {
        **os.environ,
        "PYTHONPATH": str(REPOSITORY),
        "MPLBACKEND": "nbagg.that.is.not.there",
        "HOME": "/dev/null",
    }
    done = subprocess.run([sys.executable, "-c", script], env=environment, capture_output=True, text=True, timeout=60)
    assert (done.stdout, done.stderr) == ("<?xml\n", "")
