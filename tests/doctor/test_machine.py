"""`doctor` without an experiment: a machine that is well, and machines that are broken, a line for each fault."""

import json
import os
import re
import resource
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from repository import REPOSITORY

from furnace.__main__ import main
from furnace.config.experiment import read_experiment
from furnace.doctor import driver, examination, packages, wanted
from furnace.doctor.examination import Check, examine_machine
from furnace.doctor.finding import NOTE, OK, PROBLEM, Finding, of_error
from furnace.doctor.telling import as_json, last_line, line_of
from furnace.doctor.wanted import Wanted
from furnace.engine import shared_memory
from furnace.engine.place import NEEDED
from furnace.errors import EXIT_RESUBMIT, InputError

LINE = re.compile(r"(ok|note|problem) +\S.*: \S")


@pytest.fixture(autouse=True)
def healthy(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A machine without GPUs, nothing left over in its environment, and nobody's data or caches."""
    for name in (*NEEDED, "LOCAL_WORLD_SIZE", "NNODES", "NGPUS", "num_workers"):
        monkeypatch.delenv(name, raising=False)
    for name, folder in (("PROC", "proc"), ("DEVICES", "dev"), ("BUS", "bus")):
        monkeypatch.setattr(driver, name, tmp_path / folder)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 0)
    monkeypatch.setattr(wanted, "REPOSITORY", tmp_path)
    packages.faults.cache_clear()


@pytest.fixture
def lines(capsys: pytest.CaptureFixture) -> Callable[..., tuple[int, list[str]]]:
    """Runs `doctor`; returns its exit status and its lines."""

    def run(*words: str) -> tuple[int, list[str]]:
        capsys.readouterr()
        status = main(["doctor", *words])
        return status, capsys.readouterr().out.splitlines()

    return run


def problems(found: list[str]) -> list[str]:
    return [line for line in found if line.startswith("problem ")]


def test_a_machine_that_is_well(lines: Callable, tmp_path: Path) -> None:
    before = set(tmp_path.rglob("*"))
    status, found = lines()
    *each, last = found
    assert status == 0 and not problems(each) and last.startswith("nothing that would stop a run was found, ")
    assert all(LINE.match(line) for line in each), each
    assert not [line for line in each if "could not be looked at" in line]
    subjects = [line[9:].partition(":")[0] for line in each]
    checks = (*examination.OF_PACKAGES, *examination.of_machine(), *examination.without_experiment())
    told = [check.subject for check in checks]
    assert [subject for subject in told if subject in subjects] == list(dict.fromkeys(subjects))
    assert set(told) - set(subjects) <= {
        "torchvision",
        "OpenCV",
        "imports",
        "environment",
        "network",
        "terminal",
        "weights",
    }  # where it is well
    assert set(tmp_path.rglob("*")) == before


def test_no_shared_memory(lines: Callable, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(shared_memory, "FOLDER", tmp_path / "shm")
    status, found = lines()
    assert status == 1 and found[-1].startswith("1 problem would stop a run, ")
    assert problems(found) == [
        f"problem  /dev/shm: loading workers need {tmp_path}/shm: No such file or directory; mount it, or set "
        "num_workers=0"
    ]
    status, found = lines("num_workers=0")
    assert status == 0 and any(line.startswith("note     /dev/shm: ") for line in found)


def filled(monkeypatch: pytest.MonkeyPatch, where: Path, free: int, inodes: int = 1000) -> None:
    """Lets the disk of a folder have so many bytes free, and those of others what they have."""
    asked = os.statvfs

    def statvfs(path: Path) -> object:
        if Path(path) != where:
            return asked(path)
        return SimpleNamespace(f_bavail=free // 4096, f_frsize=4096, f_blocks=10**9, f_files=2000, f_favail=inodes)

    monkeypatch.setattr(os, "statvfs", statvfs)


def test_a_full_disk(lines: Callable, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    filled(monkeypatch, tmp_path, 2**20)
    status, found = lines()
    assert status == 1
    assert problems(found) == [
        f"problem  disk: 1 MB of 4096.0 GB are free where {tmp_path} lies: it is full; free space, or choose another "
        "folder (OUTPUT_PATH)"
    ]


@pytest.mark.parametrize(
    ("free", "inodes", "state", "said"),
    [
        (9 * 10**9, 1000, NOTE, "few runs of a recipe"),
        (10**12, 0, PROBLEM, "as many files as it can"),
        (10**12, 1, OK, ""),
    ],
)
def test_a_disk_with_little_room(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, free: int, inodes: int, state: str, said: str
) -> None:
    filled(monkeypatch, tmp_path, free, inodes)
    (found,) = [finding for finding in examine_machine(Wanted()) if finding.subject == "disk"]
    assert found.state == state and said in found.found


def test_a_folder_that_cannot_be_written(lines: Callable, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    opened = os.open

    def refuse(path: object, flags: int, *more: object, **named: object) -> int:
        if Path(str(path)).is_relative_to(tmp_path):
            raise OSError(30, "Read-only file system")
        return opened(path, flags, *more, **named)

    monkeypatch.setattr(os, "open", refuse)
    status, found = lines()
    assert status == 1
    assert problems(found) == [
        f"problem  disk: {tmp_path} cannot be written: Read-only file system; choose another folder (OUTPUT_PATH)"
    ]


def test_a_limit_of_64_open_files(lines: Callable, monkeypatch: pytest.MonkeyPatch) -> None:
    limits = resource.getrlimit

    def getrlimit(kind: int) -> tuple[int, int]:
        return (64, 4096) if kind == resource.RLIMIT_NOFILE else limits(kind)

    monkeypatch.setattr(resource, "getrlimit", getrlimit)
    status, found = lines()  # which is enough for a run with one worker, as long as it does not validate
    assert status == 0
    assert [line for line in found if "open files" in line] == [
        "note     open files: 64 may be open at once, a process with 1 loading worker needs 48 to 72; ulimit -n 1024, "
        "or lower num_workers"
    ]
    status, found = lines("num_workers=8")
    assert status == 1
    assert problems(found) == [
        "problem  open files: 64 may be open at once, a process with 8 loading workers needs 216 to 408; ulimit -n "
        "1024, or lower num_workers"
    ]
    status, found = lines("num_workers=0")
    assert status == 0 and "ok       open files: 64 may be open at once" in found


def test_memory_that_is_nearly_gone(lines: Callable, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("furnace.engine.memory.free", lambda: 3e9)
    status, found = lines()
    assert status == 0 and any(line.startswith("note     memory: 3.0 GB of ") for line in found)
    monkeypatch.setattr("furnace.engine.memory.free", lambda: 3e8)
    status, found = lines()
    assert status == 1 and problems(found)[0].startswith("problem  memory: 300 MB of ")


def test_what_is_left_over_in_the_environment(lines: Callable, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("WORLD_SIZE", "2")
    monkeypatch.setenv("CUDA_LAUNCH_BLOCKING", "1")
    monkeypatch.setenv("NCCL_P2P_DISABLE", "0")
    status, found = lines("num_workers=0")
    assert status == 1 and len(problems(found)) == 1
    assert problems(found)[0].startswith("problem  environment: WORLD_SIZE=2 is set in the environment, as if torchrun")
    assert [line for line in found if "CUDA_LAUNCH" in line] == [
        "note     environment: CUDA_LAUNCH_BLOCKING is set: every kernel is waited for; unset CUDA_LAUNCH_BLOCKING"
    ]
    assert not any("NCCL" in line for line in found)


def test_one_of_several_processes_is_refused(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture) -> None:
    for name in NEEDED:
        monkeypatch.setenv(name, "0")
    monkeypatch.setenv("WORLD_SIZE", "2")
    assert main(["doctor"]) == 2
    assert capsys.readouterr().err.startswith("error: doctor: torchrun has started this process; expected one process")


def test_a_clock_that_is_behind(lines: Callable, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(
        "furnace.doctor.surroundings.time",
        SimpleNamespace(time=lambda: 0.0, gmtime=lambda _: None, strftime=lambda *_: "1970-01-01 00:00:00 UTC"),
    )
    status, found = lines()
    assert status == 0
    assert "note     clock: 1970-01-01 00:00:00 UTC is before this program was written: it is wrong; " in "\n".join(
        found
    )


def test_a_check_that_fails_itself_is_a_note(monkeypatch: pytest.MonkeyPatch) -> None:
    def half(_: Wanted) -> Iterator[Finding]:
        yield Finding(OK, "half", "was found")
        raise ValueError("of another kind\nand more")

    monkeypatch.setattr(examination, "without_experiment", lambda: (Check("half", half),))
    *_, first, second = examine_machine(Wanted())
    assert first == Finding(OK, "half", "was found")
    assert second == Finding(NOTE, "half", "could not be looked at: ValueError: of another kind")


def test_json_beside_the_lines_and_in_their_place(
    lines: Callable, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture
) -> None:
    monkeypatch.setenv("numworkers", "3")  # makes a note that is printed while settings are read
    monkeypatch.setattr("furnace.engine.memory.free", lambda: float("inf"))  # where nothing tells
    file = tmp_path / "far/below/machine.json"
    status, found = lines("--json", str(file))
    record = json.loads(file.read_text())
    assert status == 0 and len(found) == len(record["findings"]) + 2 and record["problems"] == 0
    (memory,) = [entry for entry in record["findings"] if entry["subject"] == "memory"]
    assert memory["figures"]["free"] is None and memory["figures"]["machine"] > 0
    assert main(["doctor", "--json", "-"]) == 0
    printed = capsys.readouterr()
    assert json.loads(printed.out).keys() == record.keys() and "numworkers" in printed.err


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["here", "there"], "expected one experiment at most, found here, there; name one"),
        (["nowhere"], "no experiment: "),
        (["batch_size=none"], "batch_size: expected "),
        (["--json", "/proc/none/machine.json"], "cannot write /proc/none/machine.json: "),
        (["--json", "/dev/null/machine.json"], "cannot write /dev/null/machine.json: "),
        (["--json", "/dev"], "--json: expected a file, found the folder /dev; name a file in it"),
    ],
)
def test_bad_arguments(words: list[str], said: str, capsys: pytest.CaptureFixture) -> None:
    assert main(["doctor", *words]) == 2
    printed = capsys.readouterr()
    assert printed.err.startswith(f"error: {said}") and printed.err.count("\n") == 1 and not printed.out


def test_no_folder_is_made_for_a_command_that_is_refused(tmp_path: Path) -> None:
    before = set(tmp_path.rglob("*"))
    assert main(["doctor", "--json", str(tmp_path / "new/deep/machine.json"), "nowhere"]) == 2
    assert set(tmp_path.rglob("*")) == before


def test_a_signal_ends_it_without_the_promise_to_go_on(
    lines: Callable, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture, tmp_path: Path
) -> None:
    def ask(_: Wanted) -> Iterator[Finding]:
        os.kill(os.getpid(), signal.SIGTERM)
        yield Finding(OK, "signal", "was sent")

    monkeypatch.setattr(examination, "of_machine", lambda: (Check("signal", ask),))
    with pytest.raises(SystemExit) as ended:
        main(["doctor", "--json", str(tmp_path / "new/machine.json")])
    assert ended.value.code == EXIT_RESUBMIT and not (tmp_path / "new").exists()
    last = capsys.readouterr().out.splitlines()[-1]
    assert last == "stopped (SIGTERM); nothing was kept, start again from the beginning"


def test_what_an_experiment_names_is_left_to_its_own_examination(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(examination, "of_machine", lambda: (Check("machine", lambda _: [Finding(OK, "machine", "x")]),))
    monkeypatch.setattr(
        examination, "without_experiment", lambda: (Check("data", lambda _: [Finding(OK, "data", "x")]),)
    )
    assert [finding.subject for finding in examine_machine(Wanted())][-2:] == ["machine", "data"]
    assert [finding.subject for finding in examine_machine(Wanted(is_named=True))][-1] == "machine"


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        ([], False),
        (["decoder=FPN", "backbone=resnet18"], True),
        (["decoder_2=FPN", "backbone_2=resnet18"], True),
        (["pretrained_model_2=torchvision://resnet50"], True),
    ],
)
def test_which_experiments_need_torchvision(experiment: Path, words: list[str], expected: bool) -> None:
    settings = read_experiment(str(experiment), dict(word.split("=") for word in words), with_data=False).settings
    asked = wanted.wanted_by(settings)
    assert asked.needs_torchvision == expected and asked.is_named and asked.batch_size == settings.batch_size
    assert asked.pixels == settings.batch_size * settings.image_size**2


def test_gpus_that_are_not_there(lines: Callable) -> None:
    status, found = lines("NGPUS=2")
    assert status == 1
    assert problems(found) == ["problem  GPUs: NGPUS: 2 asked for, 0 visible; lower it, or set NGPUS=0 to use the CPU"]
    status, found = lines("NGPUS=0")
    assert status == 0 and "ok       GPUs: NGPUS=0: runs train on the CPU" in found


def test_an_experiment_is_examined_behind_the_machine(
    lines: Callable, monkeypatch: pytest.MonkeyPatch, experiment: Path
) -> None:
    ended = []

    def examine(given) -> Iterator[Finding]:
        try:
            assert given.settings.batch_size == 2
            yield Finding(PROBLEM, "run", f"{given.folder.name} takes too long", "take another", {"seconds": 7.0})
        finally:
            ended.append(True)

    monkeypatch.setitem(sys.modules, "furnace.doctor.estimate", SimpleNamespace(examine=examine))
    status, found = lines("batch_size=2", str(experiment))
    assert status == 1 and ended
    assert problems(found) == [f"problem  run: {experiment.name} takes too long; take another"]
    assert found[-2:] == [problems(found)[0], found[-1]] and found[-1].startswith("1 problem would")


def test_findings_as_text() -> None:
    findings = [Finding(OK, "one", "well"), Finding(NOTE, "two", "odd\nly", "mend it", {"a": float("nan")})]
    assert [line_of(finding) for finding in findings] == ["ok       one: well", "note     two: odd ly; mend it"]
    assert last_line(findings) == "nothing that would stop a run was found, 1 note"
    assert last_line([*findings, Finding(PROBLEM, "three", "bad")] * 2) == "2 problems would stop a run, 2 notes"
    assert as_json(findings)["findings"][1]["figures"] == {"a": None}
    assert of_error(NOTE, "x", InputError("expected a; found b; mend c")) == Finding(
        NOTE, "x", "expected a; found b", "mend c"
    )
    assert of_error(NOTE, "x", "no remedy") == Finding(NOTE, "x", "no remedy")


def test_folders_that_are_not_there_yet(tmp_path: Path) -> None:
    assert wanted.existing(tmp_path / "a/b") == tmp_path and wanted.existing(tmp_path) == tmp_path


@pytest.mark.slow
def test_a_torch_that_cannot_be_imported_is_said_and_not_met(tmp_path: Path) -> None:
    """In a process of its own: a folder of the name torch hides the installed one, and fails."""
    (tmp_path / "torch").mkdir()
    (tmp_path / "torch/__init__.py").write_text(
        "raise ImportError('libcudart.so.12: cannot open shared object file: No such file or directory')\n"
    )
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join((str(tmp_path), str(REPOSITORY)))}
    done = subprocess.run(
        [sys.executable, "-m", "furnace", "doctor"],
        env=environment, cwd=tmp_path.parent, capture_output=True, text=True, check=False,
    )  # fmt: skip
    found = done.stdout.splitlines()
    assert done.returncode == 1 and not done.stderr, done.stderr
    assert problems(found) == [
        "problem  torch: cannot load libcudart.so.12: cannot open shared object file: No such file or directory; "
        "install it, or pip install --force-reinstall the package that it belongs to"
    ]
    assert found[-2].startswith("note     machine: the rest was not looked at")
