"""The shell scripts: from any folder, twice in a row, in a Slurm job that puts itself into the queue again."""

import csv
import os
import shlex
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from repository import REPOSITORY, copy_experiment
from running import wait_for

from furnace.config.experiment import read_experiment
from furnace.config.settings import FIELDS

SCRIPTS = [
    *sorted(REPOSITORY.glob("exp.*/*/*.sh")),
    *sorted(REPOSITORY.glob("scripts/*.sh")),
    *sorted(REPOSITORY.glob("scripts/*.slurm")),
    REPOSITORY / ".ci/run",
]


@pytest.mark.skipif(shutil.which("shellcheck") is None, reason="shellcheck is not installed")
def test_shellcheck_has_nothing_to_say() -> None:
    result = subprocess.run(["shellcheck", *map(str, SCRIPTS)], capture_output=True, text=True, check=False)
    assert result.returncode == 0, result.stdout


def test_experiment_scripts_stop_at_errors_and_at_unset_variables() -> None:
    for script in SCRIPTS:
        if script.name != "environment.sh":  # sourced by others
            assert "\nset -euo pipefail\n" in script.read_text(), script


def test_signals_to_a_script_of_an_experiment_reach_its_program() -> None:
    """With the script in between, a signal to it alone (docker stop, Slurm's --signal=B:) would reach nobody else."""
    for script in REPOSITORY.glob("exp.*/*/*.sh"):
        *_, last = script.read_text().splitlines()
        assert last.startswith(("exec python ", "source ")), script


def test_scripts_keep_their_ends_of_lines_in_every_clone() -> None:
    """Without it, a clone with core.autocrlf holds scripts that bash cannot read."""
    command = ["git", "check-attr", "text", "eol", "--", *(str(path.relative_to(REPOSITORY)) for path in SCRIPTS)]
    result = subprocess.run(command, cwd=REPOSITORY, capture_output=True, text=True, check=False)
    if result.returncode:
        pytest.skip("no git, or no checkout")
    found = {tuple(line.rsplit(": ", 2)[1:]) for line in result.stdout.splitlines()}
    assert found == {("text", "auto"), ("eol", "lf")}
    assert not any(b"\r" in path.read_bytes() for path in SCRIPTS)


@pytest.fixture
def checkout(tmp_path: Path) -> Path:
    """The parts of a checkout that a run needs, in a folder with spaces and +."""
    root = tmp_path / "my work+more/checkout 2"
    copy_experiment("exp.voc", root / "exp.voc/ensemble_teacher+cutmix")
    shutil.copytree(REPOSITORY / "scripts", root / "scripts")
    (root / "furnace").symlink_to(REPOSITORY / "furnace")
    folder = root / "exp.voc/ensemble_teacher+cutmix"
    (folder / "network.py").rename(folder / "my_layers.py")  # a module beside network.py is found from everywhere
    (folder / "network.py").write_text("from my_layers import build_network\n")
    return root


@pytest.fixture
def environment(tiny: list[str]) -> dict[str, str]:
    """What a user has set: the tiny run's settings, and where Python is."""
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    settings = dict(pair.split("=", 1) for pair in tiny if not pair.startswith("OUTPUT_PATH"))
    return {**os.environ, **settings, "nepochs": "1", "OMP_NUM_THREADS": "1", "PATH": path}


def test_from_any_folder_and_twice_in_a_row(checkout: Path, environment: dict[str, str], tmp_path: Path) -> None:
    """Outputs go where the script's comments say; the second time nothing is trained, and no row is doubled."""
    folder, elsewhere = checkout / "exp.voc/ensemble_teacher+cutmix", tmp_path / "else where"
    elsewhere.mkdir()
    calls = [("train_org.sh", elsewhere, "none"), ("train_org.sh", folder, "last"), ("eval.sh", elsewhere, "last")]
    said = []
    for name, here, epochs in calls:
        result = subprocess.run(
            ["bash", "-u", os.path.relpath(folder / name, here)],
            cwd=here,
            env={**environment, "method": "org", "eval_epochs": epochs},
            capture_output=True,
            text=True,
            timeout=300,
            check=False,
        )
        assert result.returncode == 0, result.stderr
        said.append(result.stdout)
    assert "nothing to do" not in said[0] and "nothing to do" in said[1]
    with open(folder / "log_df.csv", newline="") as file:
        assert [row["Ensemble"] for row in csv.DictReader(file)] == ["v0", "v0_2", "v2"]
    assert [path.name for path in (checkout / "output_voc").iterdir()] == ["voc8_res18_cutmix_B4_CPS"]
    assert list(elsewhere.iterdir()) == []


@pytest.fixture
def stand_in(tmp_path: Path) -> dict[str, str]:
    """An environment without settings, in which `python` writes down where it is, its arguments and all variables."""
    commands = tmp_path / "commands"
    commands.mkdir()
    called = shlex.quote(f"{tmp_path}/called")
    (commands / "python").write_text(f'#!/bin/bash\n{{ pwd; printf "%s|" "$@"; echo; env -0; }} > {called}.$3\n')
    (commands / "python").chmod(0o755)
    without = {name: value for name, value in os.environ.items() if name not in FIELDS}
    return {**without, "PATH": f"{commands}{os.pathsep}{os.environ['PATH']}"}


@pytest.mark.parametrize(
    ("name", "recipe"),
    [
        ("exp.voc", "ensemble_teacher+dinov3"),
        ("exp.city", "ensemble_teacher+dinov3"),
        ("exp.camvid", "ensemble_teacher+lite0"),
    ],
)
@pytest.mark.parametrize(
    ("script", "outside", "command"),
    [
        ("train_ema.sh", {}, "train|.|--then-eval|"),
        (
            "train_ema.sh",
            {"method": "supervised", "learning_rate": "1", "pretrained_model": "none"},
            "train|.|--then-eval|",
        ),
        ("train_org.sh", {"method": "", "confidence": "0"}, "train|.|--then-eval|"),
        ("eval.sh", {"ensemble": "v3"}, "eval|.|"),
    ],
)
def test_scripts_that_build_on_the_neighbour_s(
    stand_in: dict[str, str], tmp_path: Path, name: str, recipe: str, script: str, outside: dict[str, str], command: str
) -> None:
    """Each runs in its own folder, with what its configuration says, but for what is set outside."""
    root, elsewhere = tmp_path / "my work+more", tmp_path / "else where"
    elsewhere.mkdir()
    for each in ("ensemble_teacher+cutmix", recipe):
        copy_experiment(name, root / name / each, each)
    folder = root / name / recipe
    for here, path in ((elsewhere, os.path.relpath(folder / script, elsewhere)), (folder, script)):
        subprocess.run(["bash", path, "not a setting"], cwd=here, env=stand_in | outside, check=True)
        where, arguments, variables = (tmp_path / f"called.{script[:-3].split('_')[0]}").read_text().split("\n", 2)
        assert (where, arguments) == (str(folder), f"-m|furnace|{command}")
        texts = dict(pair.split("=", 1) for pair in variables.strip("\0").split("\0"))
        assert texts["PYTHONPATH"].split(os.pathsep)[0] == "../../"
        data = {"dataset_path": str(tmp_path)}
        method = outside.get("method") or {"train_org.sh": "org"}.get(script, "ema")
        plain = {"method": method, **{name: text for name, text in outside.items() if text}}
        assert read_experiment(folder, texts | data).settings == read_experiment(folder, plain | data).settings
    assert list(elsewhere.iterdir()) == []


@pytest.mark.parametrize("script", ["train_ema.sh", "train_org.sh"])
def test_a_default_that_is_changed_in_a_script_counts(stand_in: dict[str, str], tmp_path: Path, script: str) -> None:
    for recipe in ("ensemble_teacher+cutmix", "ensemble_teacher+dinov3"):
        copy_experiment("exp.voc", tmp_path / recipe, recipe)
    shown = tmp_path / "ensemble_teacher+dinov3/train_ema.sh"
    shown.write_text(shown.read_text().replace(":=0.95}", ":=0.5}").replace(":=2e-4}", ":=1e-4}"))
    subprocess.run(["bash", script], cwd=shown.parent, env=stand_in, check=True)
    variables = (tmp_path / "called.train").read_text().split("\0")
    assert {"confidence=0.5", "learning_rate=1e-4", "decoder=DPT", "optimizer=adamw", "batch_size=8"} <= set(variables)


def test_predict_of_a_script_that_builds_on_the_neighbour_s(stand_in: dict[str, str], tmp_path: Path) -> None:
    folder = REPOSITORY / "exp.voc/ensemble_teacher+dinov3"
    script = os.path.relpath(folder / "predict.sh", tmp_path)
    # Python is called as python -P -m furnace predict, so that the third argument is the library's name.
    subprocess.run(["bash", script, "my photo.jpg"], cwd=tmp_path, env=stand_in, check=True)
    where, arguments, variables = (tmp_path / "called.furnace").read_text().split("\n", 2)
    assert (where, arguments) == (str(tmp_path), f"-P|-m|furnace|predict|{folder}|my photo.jpg|")
    assert f"\0PYTHONPATH={folder}/../../" in f"\0{variables}"


def test_recipes_of_two_data_sets_have_scripts_of_one_form() -> None:
    for voc in (REPOSITORY / "exp.voc/ensemble_teacher+dinov3").glob("*.sh"):
        city = REPOSITORY / "exp.city/ensemble_teacher+dinov3" / voc.name
        assert city.stat().st_mode == voc.stat().st_mode
        lines = [line for line in city.read_text().splitlines() if "learning_rate_factor" not in line]
        text = "\n".join(lines).replace("Cityscapes", "PASCAL VOC").replace("output_city/city8", "output_voc/voc8")
        assert text.replace("_B4_", "_B8_").splitlines() == voc.read_text().splitlines()


@pytest.fixture
def slurm(tmp_path: Path, environment: dict[str, str]) -> dict[str, str]:
    """An environment as in a job, with commands of Slurm that write down what they are asked for."""
    commands = tmp_path / "slurm"
    commands.mkdir()
    (commands / "srun").write_text('#!/bin/bash\nshift\nSLURM_NODEID=0 "$@"\n')
    (commands / "scontrol").write_text(
        f'#!/bin/bash\n[ "$1 $2" = "show hostnames" ] && echo node7 || echo "$@" >> "{tmp_path}/asked"\n'
    )
    for command in commands.iterdir():
        command.chmod(0o755)
    job = {"SLURM_JOB_ID": "1234711", "SLURM_JOB_NODELIST": "node[7-8]", "SLURM_NNODES": "1"}
    job["SLURM_CPUS_PER_TASK"] = "12"
    return {**environment, **job, "PATH": f"{commands}{os.pathsep}{environment['PATH']}"}


@pytest.mark.parametrize(("status", "asked"), [(0, []), (75, ["requeue 1234711"]), (2, []), (137, [])])
def test_slurm_requeues_what_is_not_finished_alone(
    slurm: dict[str, str], tmp_path: Path, status: int, asked: list[str]
) -> None:
    script = tmp_path / "train it.sh"
    place = "node $NODE_RANK of $NNODES at $MASTER_ADDR:$MASTER_PORT, $SRUN_CPUS_PER_TASK cores"
    script.write_text(f'echo "{place}"; exit {status}\n')
    result = subprocess.run(
        ["bash", str(REPOSITORY / "scripts/train.slurm"), str(script)],
        env=slurm, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert result.returncode == status, result.stderr
    assert "node 0 of 1 at node7:24711, 12 cores" in result.stdout
    asked_for = tmp_path / "asked"
    assert (asked_for.read_text().splitlines() if asked_for.exists() else []) == asked


def test_slurm_without_a_script(slurm: dict[str, str]) -> None:
    command = ["bash", str(REPOSITORY / "scripts/train.slurm"), "train.sh"]
    result = subprocess.run(command, env=slurm, capture_output=True, text=True, check=False)
    assert result.returncode == 2 and "error: a train script expected, found 'train.sh'; " in result.stderr


def test_a_slurm_job_whose_time_is_over_is_finished_by_the_next(
    slurm: dict[str, str], checkout: Path, tmp_path: Path
) -> None:
    output = tmp_path / "run"
    settings = {"OUTPUT_PATH": str(output), "nepochs": "4", "validate_epochs": "0", "snapshot_minutes": "1e-9"}
    command = ["bash", "scripts/train.slurm", "exp.voc/ensemble_teacher+cutmix/train_ema.sh"]

    def start() -> subprocess.Popen:
        return subprocess.Popen(
            command, cwd=checkout, env={**slurm, **settings}, start_new_session=True,
            stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
        )  # fmt: skip

    job = start()
    wait_for(output / "resume.pth", job)
    for child in children(job.pid):  # the processes of the job's step
        os.kill(child, signal.SIGUSR1)
    said, _ = job.communicate(timeout=120)
    assert job.returncode == 75, said
    assert "job 1234711 goes into the queue again" in said
    assert (tmp_path / "asked").read_text() == "requeue 1234711\n"
    said, _ = (job := start()).communicate(timeout=300)
    assert job.returncode == 0, said
    assert (output / "snapshot/model_epoch4.pth").exists()


def children(pid: int) -> list[int]:
    """All that descend from a process, but for it; srun itself does not count: it only passes signals on."""
    found = []
    for child in map(int, Path(f"/proc/{pid}/task/{pid}/children").read_text().split()):
        srun = "srun" in Path(f"/proc/{child}/cmdline").read_text()
        found += ([] if srun else [child]) + children(child)
    return found
