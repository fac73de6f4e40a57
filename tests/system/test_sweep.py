"""A sweep runs what is missing, skips what is done, goes on after a failure, and ends with the table."""

import hashlib
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pandas as pd
import pytest
from repository import REPOSITORY
from running import start

from furnace.__main__ import main
from furnace.sweep import jobs


@pytest.fixture
def here(monkeypatch: pytest.MonkeyPatch) -> None:
    """Lets a sweep's commands run in this process, which spares them the import of torch."""
    monkeypatch.setattr(jobs, "_status_of", lambda command: main(command[3:]))  # behind `python -m furnace`


def folders(tmp_path: Path) -> list[str]:
    return sorted(path.name for path in (tmp_path / "runs").iterdir())


@pytest.mark.usefixtures("here")
def test_what_is_missing_is_run_and_the_rest_skipped(
    sweep: Callable, experiment: Path, tmp_path: Path, capfd: pytest.CaptureFixture
) -> None:
    assert sweep("--dry-run") == 0
    assert capfd.readouterr().out.count("  missing  ") == 4 and not (tmp_path / "runs").exists()
    assert sweep() == 0
    out = capfd.readouterr().out
    assert "4 runs, 0 of them done" in out and "[4/4] ema 1/8 seed 1" in out
    assert folders(tmp_path) == ["CPS8", "CPS8_seed1", "EMA8", "EMA8_seed1"]
    table = pd.read_csv(experiment / "log_df.csv")
    assert len(table) == 2 * 3 + 2 * 7
    for method, code in (("org", "v2"), ("ema", "v3")):
        scores = table[(table.method == method) & (table.Ensemble == code)].mean_IU
        expected = f"  1/8   {method:<11} {code}  {scores.mean():6.2f} ± {scores.std():.2f}  (seeds: 2)"
        assert expected in out
    shutil.rmtree(tmp_path / "runs/CPS8_seed1")
    table[table.folder != "EMA8"].to_csv(experiment / "log_df.csv", index=False)
    assert sweep("--dry-run") == 0
    said = capfd.readouterr().out
    assert re.findall(r"missing  (.*?)  ", said) == ["ema 1/8 seed 0", "org 1/8 seed 1"]
    assert sweep() == 0
    out = capfd.readouterr().out
    assert "4 runs, 2 of them done" in out and out.count("nothing to do") == 1  # trained, and only evaluated again
    assert len(pd.read_csv(experiment / "log_df.csv")) == 2 * 3 + 2 * 7


@pytest.mark.usefixtures("here")
def test_scores_are_those_of_the_run_not_of_another_of_its_name(
    experiment: Path, tiny: list[str], tmp_path: Path, capfd: pytest.CaptureFixture
) -> None:
    """log_df.csv calls runs by their folders' names, which two folders may share."""
    settings = [pair for pair in tiny if not pair.startswith(("OUTPUT_PATH", "snapshot_dir"))]
    lists = ["--methods", "org", "--ratios", "8", "--seeds", "0"]
    (first, other) = (f"OUTPUT_PATH={tmp_path}/{folder}/run" for folder in "ab")
    assert main(["sweep", str(experiment), *lists, *settings, first]) == 0
    assert main(["train", str(experiment), *settings, other, "method=org", "learning_rate=0.1"]) == 0
    capfd.readouterr()
    assert main(["sweep", str(experiment), *lists, *settings, other, "learning_rate=0.1", "--dry-run"]) == 0
    assert "1 runs, 0 of them done" in capfd.readouterr().out
    assert main(["sweep", str(experiment), *lists, *settings, first, "--dry-run"]) == 0
    assert "1 runs, 1 of them done" in capfd.readouterr().out


def test_two_at_a_time_with_another_setting_that_varies(
    sweep: Callable, experiment: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture
) -> None:
    monkeypatch.delenv("OMP_NUM_THREADS")
    arguments = ["--methods", "org", "--seeds", "0", "--vary", "cps_ramp=0,0;0.3,0.6", "--jobs", "2"]
    assert sweep(*arguments) == 0
    out = capfd.readouterr().out
    runs = {"cps_ramp=0,0    ": "CPS8_cps_ramp-0-0", "cps_ramp=0.3,0.6": "CPS8_cps_ramp-0.3-0.6"}
    assert folders(tmp_path) == list(runs.values())
    table = pd.read_csv(experiment / "log_df.csv")
    assert sorted(table.folder) == sorted(3 * list(runs.values()))  # both evaluate at the same time
    for words, folder in runs.items():
        score = table[(table.folder == folder) & (table.Ensemble == "v2")].mean_IU.item()
        assert f"  1/8   org         {words} v2  {score:6.2f}  (seeds: 1)" in out
        log = (tmp_path / "runs" / folder / "sweep.log").read_text()
        assert "1 epochs of 7 iterations, from iteration 0" in log and "added to " in log
    assert "2 runs at a time, each on " in out and "[2/2] org 1/8 cps_ramp=0.3,0.6 seed 0: done after " in out
    assert sweep(*arguments, "--dry-run") == 0
    assert "2 runs, 2 of them done" in capfd.readouterr().out


@pytest.mark.usefixtures("here")
def test_other_settings_are_another_run(sweep: Callable, tmp_path: Path, capfd: pytest.CaptureFixture) -> None:
    """Its scores are not those that were asked for."""
    only = ["--methods", "org", "--seeds", "0"]
    assert sweep(*only) == 0
    assert sweep(*only, "learning_rate=0.5") == 2
    error = capfd.readouterr().err.splitlines()[-1]
    assert "holds a run with other settings: learning_rate was 0.02, is 0.5; " in error
    assert sweep(*only, "--dry-run", "eval_flip=1") == 0
    assert "missing  org 1/8 seed 0" in capfd.readouterr().out  # to be evaluated in that way, too


@pytest.mark.usefixtures("here")
def test_other_lists_are_another_run(
    sweep: Callable, demo_data: Path, tmp_path: Path, capfd: pytest.CaptureFixture
) -> None:
    """Its scores are of other labels; those of other validation images are not compared, but made anew."""
    only = ["--methods", "org", "--seeds", "0", f"lists_path={tmp_path}/lists"]
    shutil.copytree(demo_data, tmp_path / "lists", ignore=shutil.ignore_patterns("image", "label"))
    validation, labelled = tmp_path / "lists/val.txt", tmp_path / "lists/subset_train_aug/train_aug_labeled_1-8.txt"
    assert sweep(*only) == 0 and sweep(*only, "--dry-run") == 0
    assert "1 runs, 1 of them done" in capfd.readouterr().out
    validation.write_text("".join(validation.read_text().splitlines(keepends=True)[:2]))
    assert sweep(*only, "--dry-run") == 0
    assert "missing  org 1/8 seed 0" in capfd.readouterr().out
    before = hashlib.sha256(labelled.read_bytes()).hexdigest()
    labelled.write_text("".join(reversed(labelled.read_text().splitlines(keepends=True))))
    now = hashlib.sha256(labelled.read_bytes()).hexdigest()
    assert sweep(*only, "--dry-run") == 2
    assert f"with other settings: labelled list was {before}, is {now}; set them back" in capfd.readouterr().err
    config = tmp_path / "runs/CPS8/config.json"  # as of a run from before lists were written down
    record = json.loads(config.read_text())
    del record["lists"]
    config.write_text(json.dumps(record))
    assert sweep(*only, "--dry-run") == 0


@pytest.mark.usefixtures("here")
def test_after_a_failure_the_next_begins(sweep: Callable, tmp_path: Path, capfd: pytest.CaptureFixture) -> None:
    (tmp_path / "runs/CPS8/snapshot").mkdir(parents=True)
    (tmp_path / "runs/CPS8/snapshot/model_epoch7.pth").write_bytes(b"of another run")
    assert sweep("--seeds", "0") == 1
    captured = capfd.readouterr()
    assert "error: snapshot_dir holds the snapshots of another run" in captured.err
    assert captured.err.splitlines()[-1] == "failed: org 1/8 seed 0: status 2"
    assert (tmp_path / "runs/EMA8/snapshot/model_epoch1.pth").is_file()
    assert "  1/8   ema         v3" in captured.out and "  1/8   org" not in captured.out


def test_slurm_jobs_have_the_settings_of_their_runs(
    sweep: Callable, experiment: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    shutil.copy(REPOSITORY / "exp.voc/ensemble_teacher+cutmix/train_ema.sh", experiment)
    assert sweep("--launcher", "slurm", "--out", "my jobs.sh") == 0
    assert not (tmp_path / "runs").exists()
    commands = tmp_path / "commands"
    commands.mkdir()
    (commands / "sbatch").write_text(
        f'#!/bin/bash\nprintf "%s|" "$method" "$seed" "$OUTPUT_PATH" "$nepochs" "$@" >> "{tmp_path}/submitted"\n'
        f'echo >> "{tmp_path}/submitted"\n'
    )
    (commands / "sbatch").chmod(0o755)
    path = f"{commands}{os.pathsep}{os.environ['PATH']}"
    subprocess.run(["bash", "my jobs.sh", "--time=1:00:00"], env={**os.environ, "PATH": path}, check=True)
    lines = [line.split("|") for line in (tmp_path / "submitted").read_text().splitlines()]
    assert [line[:4] for line in lines] == [
        [method, seed, f"{tmp_path}/runs/{short}8{end}", "1"]
        for seed, end in (("0", ""), ("1", "_seed1"))
        for method, short in (("org", "CPS"), ("ema", "EMA"))
    ]
    expected = ["--job-name=org_1-8_seed_0", "--time=1:00:00", str(REPOSITORY / "scripts/train.slurm")]
    assert lines[0][4:-1] == [*expected, str(experiment / "train_ema.sh")]
    if shutil.which("shellcheck"):
        subprocess.run(["shellcheck", "my jobs.sh"], check=True)


def test_a_signal_lets_the_run_save_and_the_sweep_end(
    experiment: Path, tiny: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings = [*tiny[:-1], f"OUTPUT_PATH={tmp_path}/runs/{{method}}", "nepochs=1000", "snapshot_minutes=1e-9"]
    command = [sys.executable, "-m", "furnace", "sweep", str(experiment), "--ratios", "8", "--seeds", "0", *settings]
    process = start(*command)
    limit = time.monotonic() + 120
    while not list(tmp_path.glob("runs/*/resume.pth")) and process.poll() is None and time.monotonic() < limit:
        time.sleep(0.02)
    os.kill(process.pid, signal.SIGINT)
    said, _ = process.communicate(timeout=120)
    assert process.returncode == 75, said
    assert "asked to stop (SIGINT)" in said and "stopped in supervised 1/8 seed 0; start again to go on" in said
    assert len(list((tmp_path / "runs").iterdir())) == 1


def test_a_command_of_a_sweep_is_a_process_that_gives_its_status() -> None:
    assert jobs._status_of([sys.executable, "-c", "raise SystemExit(3)"]) == 3
    handler = signal.getsignal(signal.SIGTERM)
    stopped = "import os, signal, time; os.kill(os.getppid(), signal.SIGTERM); time.sleep(60)"
    assert jobs._status_of([sys.executable, "-c", stopped]) == -signal.SIGTERM  # it came back to the process itself
    assert signal.getsignal(signal.SIGTERM) is handler
