"""Names and values that nearly are right, on the command line and in the environment: understood, noted or refused."""

import os
from pathlib import Path

import pytest

from furnace.__main__ import main
from furnace.config.arguments import OF_OTHERS, split_settings, texts_of
from furnace.config.settings import FIELDS, meant, read_settings
from furnace.errors import InputError


@pytest.fixture(autouse=True)
def clean(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in (*FIELDS, "FURNACE_FIRST_PROCESS"):
        monkeypatch.delenv(name, raising=False)


@pytest.mark.parametrize(
    ("name", "setting"),
    [
        ("labelled_ratio", "labeled_ratio"),
        ("LABELED_RATIO", "labeled_ratio"),
        ("label_ratio", "labeled_ratio"),
        ("batchsize", "batch_size"),
        ("epochs", "nepochs"),
        ("output_path", "OUTPUT_PATH"),
        ("num_gpus", "NGPUS"),
        ("lr", "learning_rate"),
        ("ohem_treshold", "ohem_threshold"),
    ],
)
def test_a_name_that_nearly_is_a_settings_is_noted(monkeypatch, capsys, name: str, setting: str) -> None:
    monkeypatch.setenv(name, "4")
    assert setting not in texts_of([])
    said = capsys.readouterr().out.splitlines()
    assert said == [f"note: {name} in the environment is no setting and changes nothing; perhaps {setting} is meant"]
    with pytest.raises(InputError, match=rf"^unknown setting '{name}' \(perhaps {setting}\); expected NAME=VALUE"):
        texts_of([f"{name}=4"])
    with pytest.raises(InputError, match=rf"^config.py: unknown setting {name} \(perhaps {setting}\); expected one of"):
        read_settings({name: 4}, {})


def test_only_the_first_process_says_it(monkeypatch, capsys) -> None:
    monkeypatch.setenv("batchsize", "4")
    monkeypatch.setenv("FURNACE_FIRST_PROCESS", str(os.getpid() + 1))  # a process that started this one
    texts_of([])
    monkeypatch.delenv("FURNACE_FIRST_PROCESS")
    torchrun = {"RANK": "1", "LOCAL_RANK": "1", "WORLD_SIZE": "2", "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": "1"}
    for name, value in torchrun.items():
        monkeypatch.setenv(name, value)
    texts_of([])
    assert capsys.readouterr().out == ""


# Of shells, Python, CUDA, schedulers, containers and build servers.
USUAL = """
    PATH HOME USER SHELL TERM LANG LC_ALL PWD OLDPWD SHLVL EDITOR PAGER DISPLAY HOSTNAME TMPDIR COLUMNS LINES PS1
    SSH_CONNECTION XDG_RUNTIME_DIR CONDA_PREFIX CONDA_DEFAULT_ENV VIRTUAL_ENV PYTHONPATH PYTHONHASHSEED LIBRARY_PATH
    LD_LIBRARY_PATH CPATH CUDA_HOME CUDA_VISIBLE_DEVICES NVIDIA_VISIBLE_DEVICES NCCL_DEBUG TORCH_HOME OMP_NUM_THREADS
    MKL_NUM_THREADS HF_HOME WANDB_MODE MASTER_ADDR MASTER_PORT RANK LOCAL_RANK WORLD_SIZE NNODES NODE_RANK PBS_JOBID
    SLURM_JOB_ID SLURM_NNODES SLURM_NODEID SLURM_GPUS SLURM_CPUS_PER_TASK SLURM_SUBMIT_DIR PBS_NODEFILE JOB_ID QUEUE CC
    CXX CFLAGS MODULEPATH LOADEDMODULES KUBERNETES_PORT CI GITHUB_SHA BUILD_ID IMAGE MODEL MODE PROFILE VERSION NAME
    WORKSPACE SCRATCH PROJECT ARCHIVE container http_proxy _CE_M
"""


def test_usual_variables_are_like_no_setting() -> None:
    assert {name: meant(name) for name in USUAL.split() if meant(name)} == {}
    assert all(meant(name) for name in OF_OTHERS)


@pytest.mark.parametrize("words", ["labeled_ratio = 4", "labeled_ratio =4", "labeled_ratio= 4", "labeled_ratio 4"])
def test_spaces_around_the_sign_get_the_right_words(words: str) -> None:
    with pytest.raises(InputError, match=f"expected NAME=VALUE without spaces around the =, found '{words}'"):
        texts_of(words.split())


def test_a_setting_that_is_given_twice_is_noted(capsys) -> None:
    assert texts_of(["nepochs=1", "seed=2", "nepochs=3", "seed= 2"]) == {"nepochs": "3", "seed": "2"}
    assert capsys.readouterr().out == "note: nepochs is given twice; '3' counts, as the last one\n"


@pytest.mark.parametrize("text", ["16", " 16", "16\r", '"16"', "'16 '"])
def test_spaces_and_quotes_around_a_value_do_not_count(monkeypatch, text: str) -> None:
    monkeypatch.setenv("image_size", text)
    assert texts_of([]) == {"image_size": "16"} == texts_of([f"image_size={text}"])
    monkeypatch.setenv("image_size", ' "" ')
    assert texts_of([]) == {"image_size": ""}  # not set


def test_what_nearly_is_a_setting_is_no_image(tmp_path: Path, monkeypatch) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "output=3.jpg").touch()
    words = ["a.jpg", "eval_flip=1", "evalflip=1", "output=3.jpg", "x=1.jpg", "sead=1"]
    assert split_settings(words) == (["eval_flip=1", "evalflip=1", "sead=1"], ["a.jpg", "output=3.jpg", "x=1.jpg"])


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (
            ["trian", "x"],
            "expected one of prepare, demo-data, doctor, train, eval, sweep, report, predict, export, prove "
            "(perhaps train)",
        ),
        (["train", "x", "--fast"], "unknown argument '--fast'; see python -m furnace train --help"),
        (["predict", "x", "y.jpg", "--wieghts", "z"], "unknown argument '--wieghts' (perhaps --weights); see "),
        (
            ["sweep", "x", "--ratio=8", "--seed=1", "--metods=org"],
            "unknown argument '--metods=org' (perhaps --methods); ",
        ),
        (["report", "x", "--out", ""], "an argument is empty"),
        (["train", " ", "seed=1"], "an argument is empty"),
        (["sweep", "x", "--launcher", "Slurm"], "--launcher: expected one of local, slurm (perhaps slurm), found"),
    ],
)
def test_commands_and_options_that_nearly_exist(capsys, arguments: list[str], said: str) -> None:
    with pytest.raises(SystemExit) as ended:
        main(arguments)
    lines = capsys.readouterr().err.splitlines()
    assert ended.value.code == 2 and len(lines) == 1
    assert lines[0].startswith("error: ") and said in lines[0]
