"""Any setting can be varied: which runs there are then, what they are called, and what is refused."""

import re
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
from runs import ORIGINAL

from furnace.__main__ import main
from furnace.sweep.varied import read_varied


@pytest.mark.parametrize(
    ("option", "shown", "folders"),
    [
        ("view=weak,strong", ["weak", "strong"], ["_view-weak", "_view-strong"]),
        ("ema_decay=0.9, 0.990", ["0.9", "0.99"], ["_ema_decay-0.9", "_ema_decay-0.99"]),
        ("cps_ramp=0,0;0.3,0.60", ["0,0", "0.3,0.6"], ["_cps_ramp-0-0", "_cps_ramp-0.3-0.6"]),
        ("cps_ramp=0.3,0.6;", ["0.3,0.6"], ["_cps_ramp-0.3-0.6"]),
        ("train_scales=0.5,1;1", ["0.5,1", "1"], ["_train_scales-0.5-1", "_train_scales-1"]),
        ("compile=0,yes", ["0", "1"], ["_compile-0", "_compile-1"]),
        ("ohem_threshold=none,0.7", ["none", "0.7"], ["_ohem_threshold-none", "_ohem_threshold-0.7"]),
        ("learning_rate=1e-5", ["1e-05"], ["_learning_rate-1e-05"]),
        ("pretrained_model={volna}/w.pth", ["{volna}/w.pth"], ["_pretrained_model-volna-w.pth"]),
        (
            "pretrained_model=torchvision://resnet18",
            ["torchvision://resnet18"],
            ["_pretrained_model-torchvision-resnet18"],
        ),
        (
            "lists_path=../lists/a,../lists/b",
            ["../lists/a", "../lists/b"],
            ["_lists_path-..-lists-a", "_lists_path-..-lists-b"],
        ),
    ],
)
def test_values_are_read_and_stand_in_folders_names(option: str, shown: list[str], folders: list[str]) -> None:
    (values,) = read_varied([option])
    assert [value.shown for value in values] == shown and [value.in_folder for value in values] == folders
    assert {value.name for value in values} == {option.partition("=")[0]}


@pytest.mark.parametrize(
    ("arguments", "line"),
    [
        (["--vary", "view"], "--vary: expected NAME=V1,V2 without spaces around the =, found 'view'; mend it"),
        (["--vary", "veiw=weak"], "--vary: unknown setting 'veiw' (perhaps view); "),
        (["--vary", "lr=0.1,0.2"], "--vary: unknown setting 'lr' (perhaps learning_rate); "),
        (["--vary", "seed=1,2"], "--vary: seed has a list of its own; say --seeds"),
        (["--vary", "method=org,ema"], "--vary: method has a list of its own; say --methods"),
        (["--vary", "labeled_ratio=8,4"], "--vary: labeled_ratio has a list of its own; say --ratios"),
        (["--vary", "resume=auto,never"], "--vary: resume decides neither what is trained nor how it is scored; "),
        (["--vary", "eval_flip=0,1"], "--vary: eval_flip decides only how it is scored; evaluate again with eval"),
        (["--vary", "eval_scales=1,2"], "--vary: eval_scales decides only how it is scored; evaluate again with eval"),
        (["--vary", "OUTPUT_PATH=a,b"], "--vary: OUTPUT_PATH decides neither "),
        (["--vary", "dataset_path=a,b"], "--vary: dataset_path decides neither "),
        (["--vary", "view=weak", "--vary", "view=strong"], "--vary: view is given twice; "),
        (["--vary", "view=weak,"], "--vary: view: expected values with , between them, found 'weak,'; mend it"),
        (["--vary", "view="], "--vary: view: expected values with , between them, found ''; mend it"),
        (["--vary", "cps_ramp=0,0;;0,1"], "--vary: cps_ramp: expected values with ; between them, "),
        (["--vary", "view=weak,weak"], "--vary: view: expected different values, found 'weak,weak'; mend it"),
        (["--vary", "ema_decay=0.9,0.90"], "--vary: ema_decay: expected different values, found '0.9,0.90'; mend it"),
        (
            ["--vary", "view=weak,week"],
            "--vary: view: expected one of weak, strong (perhaps weak), found 'week'; mend it",
        ),
        (
            ["--vary", "cps_ramp=0.3,0.6"],
            "--vary: cps_ramp: expected two numbers a,b with 0 <= a <= b <= 1, found '0.3'; "
            "put ; between the values, --vary 'cps_ramp=V1;V2'",
        ),
        (
            ["--vary", "view=weak,strong", "view=weak"],
            "view=weak: --vary gives view its values; leave one of the two out",
        ),
        (["--jobs", "0"], "argument --jobs: expected a whole number of at least 1, found '0'"),
        (
            ["--jobs", "2", "--gpus-per-run", "2/3"],
            "argument --gpus-per-run: expected a whole number of at least 1, or 1/N for N runs ",
        ),
        (
            ["--jobs", "2", "--gpus-per-run", "0"],
            "argument --gpus-per-run: expected a whole number of at least 1 (NGPUS=0 is the CPU), or 1/N for N runs ",
        ),
        (["--gpus-per-run", "2"], "--gpus-per-run: expected --jobs N with it, of at least 2; "),
        (["--jobs", "2", "--launcher", "slurm"], "--jobs: Slurm decides how many runs go on at a time, and where; "),
    ],
)
def test_what_cannot_be_varied_is_refused_before_anything_runs(
    sweep: Callable, tmp_path: Path, capsys: pytest.CaptureFixture, arguments: list[str], line: str
) -> None:
    try:
        status = sweep(*arguments)
    except SystemExit as end:  # of argparse
        status = end.code
    assert status == 2
    assert f"error: {line}" in capsys.readouterr().err and not (tmp_path / "runs").exists()


def planned(out: str, tmp_path: Path) -> list[tuple[str, str]]:
    return re.findall(rf"missing  (.*?)  {tmp_path}/runs/(.*)", out)


def test_the_first_seed_of_everything_comes_first(
    sweep: Callable, tmp_path: Path, capsys: pytest.CaptureFixture
) -> None:
    arguments = ["--ratios", "8,4", "--vary", "view=weak,strong", "--vary", "confidence=0,0.5", "--dry-run"]
    assert sweep(*arguments) == 0
    expected = [
        (
            f"{method} 1/{ratio} view={view} confidence={least} seed {seed}",
            f"{short}{ratio}_view-{view}_confidence-{least}{end}",
        )
        for seed, end in (("0", ""), ("1", "_seed1"))
        for ratio in ("8", "4")
        for method, short in (("org", "CPS"), ("ema", "EMA"))
        for view in ("weak", "strong")
        for least in ("0", "0.5")
    ]
    assert planned(capsys.readouterr().out, tmp_path) == expected


def test_what_stands_in_the_path_already_is_not_said_twice(
    experiment: Path, tiny: list[str], tmp_path: Path, capsys: pytest.CaptureFixture
) -> None:
    settings = [pair for pair in tiny if not pair.startswith(("batch_size=", "backbone=", "OUTPUT_PATH="))]
    only = ["sweep", str(experiment), "--methods=ema", "--ratios=8", "--seeds=0", "--dry-run", *settings]
    only += ["--vary", "batch_size=2,4", "--vary", "backbone=resnet18_v1c,resnet34_v1c", "--vary", "ema_decay=0.9"]
    assert main([*only, f"OUTPUT_PATH={tmp_path}/runs/{{backbone}}_B{{batch_size}}"]) == 0
    assert [folder for _, folder in planned(capsys.readouterr().out, tmp_path)] == [
        f"res{depth}_B{size}_ema_decay-0.9" for size in (2, 4) for depth in (18, 34)
    ]
    assert main([*only, f"OUTPUT_PATH={tmp_path}/runs/x"]) == 0
    ends = [folder for _, folder in planned(capsys.readouterr().out, tmp_path)]
    assert ends[1] == "x_batch_size-2_backbone-resnet34_v1c_ema_decay-0.9"


def test_notes_name_what_varies_without_effect_and_what_the_environment_sets_in_vain(
    sweep: Callable, capsys: pytest.CaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("ema_decay", "0.5")
    monkeypatch.delenv("FURNACE_FIRST_PROCESS", raising=False)
    assert sweep("--vary", "ema_decay=0.9,0.99", "--dry-run") == 0
    lines = [line for line in capsys.readouterr().out.splitlines() if "ema_decay " in line]
    assert lines == [
        "note: ema_decay in the environment changes nothing: a sweep has --vary",
        "note: org: ema_decay has no effect without teachers",
    ]


def test_slurm_has_what_varies_in_jobs_names_and_settings(
    sweep: Callable, experiment: Path, tmp_path: Path, capsys: pytest.CaptureFixture
) -> None:
    varied = ["--vary", "cps_ramp=0,0;0,1", "--methods", "ema", "--seeds", "1"]
    assert sweep("--launcher", "slurm", *varied) == 2
    assert f"error: no script: {experiment}/train_ema.sh: expected" in capsys.readouterr().err
    assert not (tmp_path / "sweep_slurm.sh").exists()
    shutil.copy(ORIGINAL / "train_ema.sh", experiment)
    assert sweep("--launcher", "slurm", *varied) == 0
    lines = [line for line in (tmp_path / "sweep_slurm.sh").read_text().splitlines() if "sbatch --job-name" in line]
    assert [("cps_ramp=0,0 " in line, "cps_ramp=0,1 " in line) for line in lines] == [(True, False), (False, True)]
    assert "--job-name=ema_1-8_cps_ramp=0,1_seed_1" in lines[1]
