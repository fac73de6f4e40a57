"""Which runs a sweep plans, and which it refuses."""

import errno
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from furnace.__main__ import main
from furnace.data.file_list import FileList
from furnace.sweep import planned, pool, sharing
from furnace.sweep.jobs import Job


@pytest.mark.parametrize(
    ("arguments", "line"),
    [
        (["--seeds", "0,0"], "--seeds: expected different values with commas between them, found '0,0'"),
        (["--seeds", "1,01"], "--seeds: expected different values with commas between them, found '1,01'"),
        (["--ratios", "8,1/8"], "--ratios: expected different values"),
        (["--ratios", "8,"], "--ratios: expected different values"),
        (["OUTPUT_PATH=/"], "OUTPUT_PATH: expected a folder with a name, found /; name one below it"),
        (["OUTPUT_PATH=" + 260 * "a"], "OUTPUT_PATH: expected a folder's name of at most 255 bytes, found 260 in aaa"),
        (["--vary", "lists_path=" + 245 * "a"], "OUTPUT_PATH: expected a folder's name of at most 255 bytes, "),
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


def test_runs_share_their_lists(sweep: Callable, monkeypatch: pytest.MonkeyPatch) -> None:
    """Long lists take time to read, and so do their digests."""
    opened = []

    class Counted(FileList):
        def __init__(self, path: Path, *more: bool) -> None:
            opened.append(path.name)
            super().__init__(path, *more)

    monkeypatch.setattr(planned, "FileList", Counted)
    assert sweep("--ratios", "8,4", "--dry-run") == 0
    assert sorted(opened) == [
        f"train_aug_{part}_1-{ratio}.txt" for part in ("labeled", "unlabeled") for ratio in (4, 8)
    ]


def test_runs_need_folders_of_their_own(
    experiment: Path, tiny: list[str], tmp_path: Path, capsys: pytest.CaptureFixture
) -> None:
    assert main(["sweep", str(experiment), "--ratios", "8", "--seeds", "0", *tiny]) == 2
    assert f"error: OUTPUT_PATH: two runs would write to {tmp_path / 'run'}; " in capsys.readouterr().err


def test_snapshots_of_each_run_lie_below_the_folder_that_is_set_for_them(
    experiment: Path, tiny: list[str], tmp_path: Path, capsys: pytest.CaptureFixture
) -> None:
    scratch, lists = tmp_path / "scratch", {"methods": "org,ema", "ratios": "8", "seeds": "0,1"}
    settings = [*tiny[:-1], f"snapshot_dir={scratch}"]
    jobs = list(planned.planned_jobs(experiment, [*settings, f"OUTPUT_PATH={tmp_path}/{{method}}"], lists))
    names = ["CPS", "EMA", "CPS_seed1", "EMA_seed1"]
    assert [job.experiment.settings.snapshot_dir for job in jobs] == [scratch / name for name in names]
    assert [job.experiment.settings.OUTPUT_PATH for job in jobs] == [tmp_path / name for name in names]
    assert f"snapshot_dir={scratch}/EMA" in jobs[1].pairs
    command = ["sweep", str(experiment), "--methods=org,ema", "--ratios=8", "--seeds=0", *settings]
    assert main([*command, f"OUTPUT_PATH={tmp_path}/{{method}}/run"]) == 2
    assert f"error: OUTPUT_PATH: two runs would write to {scratch}/run; " in capsys.readouterr().err


def test_folders_and_titles_have_the_values_that_were_read(
    sweep: Callable, tmp_path: Path, capsys: pytest.CaptureFixture
) -> None:
    assert sweep("--seeds", "01", "--ratios", "1/8", "--methods", "org", "--dry-run") == 0
    assert f"missing  org 1/8 seed 1  {tmp_path}/runs/CPS8_seed1\n" in capsys.readouterr().out


def test_what_runs_get_of_the_machine_is_said_of_those_that_are_missing(
    sweep: Callable, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture
) -> None:
    monkeypatch.setattr(sharing, "visible_gpus", lambda: ["0", "1"])

    def line(*arguments: str) -> str:
        assert sweep("NGPUS=all", *arguments, "--dry-run") == 0
        out = capsys.readouterr().out.splitlines()
        return next(out[number + 1] for number, text in enumerate(out) if text.endswith("of them done"))

    halves = ["--jobs", "4", "--gpus-per-run", "1/2"]
    assert line(*halves) == "4 runs at a time, each on 1/2 of GPU 0 or 1/2 of GPU 1"
    assert line(*halves, "--methods", "org", "--seeds", "0") == "one run, on 1/2 of GPU 0"
    refused = "this would be refused: --jobs: 4 runs at a time with 2 GPUs each need 8, 2 visible; "
    assert line("--jobs", "4", "--gpus-per-run", "2").startswith(refused)
    assert sweep("NGPUS=all", "--jobs", "4", "--gpus-per-run", "2") == 2
    monkeypatch.setattr(Job, "is_done", lambda _: True)
    monkeypatch.setattr(Job, "scores", lambda _: {"v2": 50.0, "v3": 51.0})
    assert sweep("NGPUS=all", "--jobs", "4", "--gpus-per-run", "2") == 0
    assert "  1/8   ema         v3   51.00 ± 0.00  (seeds: 2)" in capsys.readouterr().out


def test_methods_are_compared_with_the_baseline_seed_by_seed(
    sweep: Callable, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture
) -> None:
    scores = {("supervised", 0): 40.0, ("supervised", 1): 44.0, ("org", 0): 43.0, ("ema", 0): 45.0, ("ema", 1): 46.0}

    def scores_of(job: Job) -> dict[str, float]:
        settings = job.experiment.settings
        score = scores.get((settings.method, settings.seed))
        return {} if score is None else {"v2": score, **({"v3": score + 1} if settings.method == "ema" else {})}

    monkeypatch.setattr(Job, "is_done", lambda _: True)
    monkeypatch.setattr(Job, "scores", scores_of)
    assert sweep("--methods", "supervised,org,ema") == 0
    assert capsys.readouterr().out.partition("minus supervised, of the same seed\n")[2].splitlines() == [
        "  1/8   org         v2   +3.00         (seed 0: +3.00)",
        "  1/8   ema         v3   +4.50 ± 2.12  (seed 0: +6.00, 1: +3.00)",
    ]


def test_failures_are_named_also_where_the_sweep_was_stopped(
    sweep: Callable, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture
) -> None:
    ends = iter([-9, 75])
    monkeypatch.setattr(Job, "run", lambda _: next(ends))
    assert sweep() == 75
    assert capsys.readouterr().err.splitlines() == [
        "failed: org 1/8 seed 0: ended by SIGKILL, perhaps for its memory",
        "stopped in ema 1/8 seed 0; start again to go on",
    ]


def test_a_run_that_cannot_be_started_is_a_failure_and_the_next_is_tried(
    sweep: Callable, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture
) -> None:
    def no_more_processes(*_: object, **__: object) -> None:
        raise BlockingIOError(errno.EAGAIN, os.strerror(errno.EAGAIN))

    monkeypatch.setattr(subprocess, "Popen", no_more_processes)
    assert sweep() == 1
    reason = f"cannot start {sys.executable}: Resource temporarily unavailable; allow more processes (ulimit -u), or"
    said = capsys.readouterr().err.splitlines()
    assert said[0] == f"failed: org 1/8 seed 0: {reason} end some" and said[1].startswith("failed: ema 1/8 seed 0: ")


def test_runs_that_were_not_begun_because_no_gpu_is_left_are_named(
    sweep: Callable, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture
) -> None:
    def no_gpu_left(jobs: list[Job], *_: object) -> pool.Outcome:
        return pool.Outcome([pool.Failure(jobs[0], 2, "error: no device")], waiting=jobs[2:], no_gpu_left=True)

    monkeypatch.setattr(pool, "run_all", no_gpu_left)
    assert sweep("--jobs", "2", "NGPUS=0") == 1
    said = capsys.readouterr()
    first, *others = said.err.splitlines()
    assert first.startswith("failed: org 1/8 seed 0: status 2: error: no device; see ")
    assert others == [f"not begun, because no GPU is left: {method} 1/8 seed 1" for method in ("org", "ema")]
    assert "mean IoU of the last epoch" in said.out
