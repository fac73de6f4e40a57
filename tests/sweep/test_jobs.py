"""Which runs a sweep plans, and which it refuses."""

from collections.abc import Callable
from pathlib import Path

import pytest

from furnace.__main__ import main


@pytest.mark.parametrize(
    ("arguments", "line"),
    [
        (["--seeds", "0,0"], "--seeds: expected different values with commas between them, found '0,0'"),
        (["--ratios", "8,"], "--ratios: expected different values"),
        (["--methods", "mean_teacher"], "--methods: expected one of supervised, org, ema, found 'mean_teacher'"),
        (["--seeds", "one"], "--seeds: expected a whole number"),
        (["seed=3"], "seed=3: a sweep has lists; say --seeds"),
        (["--ratios", "3"], "list not found: "),
    ],
)
def test_bad_lists_are_refused_before_anything_runs(
    sweep: Callable, tmp_path: Path, capsys: pytest.CaptureFixture, arguments: list[str], line: str
) -> None:
    assert sweep(*arguments) == 2
    assert f"error: {line}" in capsys.readouterr().err and not (tmp_path / "runs").exists()


def test_a_variable_that_a_sweep_has_a_list_for_is_named(
    sweep: Callable, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture
) -> None:
    monkeypatch.setenv("seed", "5")
    monkeypatch.setenv("batchsize", "8")
    assert sweep("--ratios", "1/8", "--dry-run") == 0
    lines = capsys.readouterr().out.splitlines()
    notes = [line for line in lines if line.startswith("note: ") and "given twice" not in line]
    assert notes == [  # once, not for every run
        "note: batchsize in the environment is no setting and changes nothing; perhaps batch_size is meant",
        "note: seed in the environment changes nothing: a sweep has --seeds=0,1",
    ]
    assert len([line for line in lines if "1/8 seed" in line]) == 4 and not any("seed 5" in line for line in lines)


def test_runs_need_folders_of_their_own(
    experiment: Path, tiny: list[str], tmp_path: Path, capsys: pytest.CaptureFixture
) -> None:
    assert main(["sweep", str(experiment), "--ratios", "8", "--seeds", "0", *tiny]) == 2
    assert f"error: OUTPUT_PATH: two runs would write to {tmp_path / 'run'}; " in capsys.readouterr().err
