"""Disks that are full or read-only, files that vanish or are cut: the run says so, and loses nothing."""

import os
import re
import shutil
import signal
import subprocess
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path

import pytest
import torch
from runs import PROGRESS, KilledError, RunsCode, assert_same_run, before_step, small_ensemble

from furnace.engine.checkpoint import Snapshots
from furnace.errors import InputError

MEGABYTE = 2**20


def mount(*arguments: str) -> None:
    subprocess.run(["mount", *arguments], check=True, capture_output=True, text=True)


@pytest.fixture
def disk(tmp_path: Path) -> Iterator[Path]:
    """A small disk of its own, 64 MB until it is mounted anew."""
    folder = tmp_path / "disk"
    folder.mkdir()
    try:
        mount("-t", "tmpfs", "-o", f"size={64 * MEGABYTE}", "tmpfs", str(folder))
    except (OSError, subprocess.CalledProcessError) as error:
        pytest.skip(f"no disks can be mounted here: {getattr(error, 'stderr', error)}")
    yield folder
    subprocess.run(["umount", "--lazy", str(folder)], check=True)


def used(folder: Path) -> int:
    return sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())


def test_a_disk_that_is_full_ends_the_run_which_goes_on_when_there_is_space(
    run: Callable, disk: Path, tmp_path: Path, capfd: pytest.CaptureFixture
) -> None:
    output = disk / "run"
    assert run("train", "nepochs=3", "keep_snapshots=all", f"OUTPUT_PATH={tmp_path / 'straight'}") == 0
    whole = used(tmp_path / "straight")
    for room in (0.3, 0.5, 0.6, 0.7, 0.8, 0.9):  # of what the run needs: it ends at other places, or gets further
        mount("-o", f"remount,size={int(room * whole)}", str(disk))
        capfd.readouterr()
        assert run("train", "keep_snapshots=all", f"OUTPUT_PATH={output}") == 2
        error = capfd.readouterr().err
        assert re.search(rf"error: cannot write {disk}/\S+: No space left on device; free space, or", error)
        assert "Traceback" not in error
        assert not list(output.rglob(".*.tmp"))
    mount("-o", f"remount,size={64 * MEGABYTE}", str(disk))
    assert run("train", "keep_snapshots=all", f"OUTPUT_PATH={output}") == 0
    assert_same_run(output, tmp_path / "straight")


@pytest.mark.parametrize("command", ["train", "eval"])
def test_a_disk_that_is_read_only_is_found_before_any_work(
    run: Callable, disk: Path, command: str, capfd: pytest.CaptureFixture
) -> None:
    if command == "eval":
        assert run("train", "nepochs=1", f"OUTPUT_PATH={disk / 'run'}") == 0
    mount("-o", "remount,ro", str(disk))
    capfd.readouterr()
    assert run(command, f"OUTPUT_PATH={disk / 'run'}") == 2
    captured = capfd.readouterr()
    assert captured.err.count("\n") == 1 and "Read-only file system" in captured.err
    assert "epoch 1" not in captured.out


@pytest.mark.parametrize("what", ["an image", "the images", "the snapshots", "the output"])
def test_what_vanishes_in_the_middle_of_a_run(
    run: Callable,
    straight: Callable,
    tiny: list[str],
    demo_data: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture,
    what: str,
) -> None:
    """A bad place is named, and the run goes on when it is mended; what the run itself writes it writes again."""
    data, output = tmp_path / "data", tmp_path / "run"
    shutil.copytree(demo_data, data)
    settings = [f"dataset_path={data}", "num_workers=0"]
    images = data / "train_aug/image"
    victim = {
        "an image": sorted(images.iterdir())[3],
        "the images": images,
        "the snapshots": output / "snapshot",
        "the output": output,
    }[what]

    def vanish() -> None:
        victim.rename(tmp_path / "vanished")

    before_step(monkeypatch, {9: vanish})
    capsys.readouterr()
    status = run("train", *settings)
    if "image" in what:
        error = capsys.readouterr().err.splitlines()[-1]
        assert status == 2 and error.startswith("error: image not readable: ") and str(victim) in error
        (tmp_path / "vanished").rename(victim)
        status = run("train", *settings)
    assert status == 0
    if what == "the output":  # its rows were in memory
        shutil.rmtree(tmp_path / "vanished")
    assert_same_run(output, straight("num_workers=0"))


FILES = ("resume.pth", "snapshot/model_epoch2.pth", "ema_snapshot/ema_branch1_epoch2.pth")


@pytest.mark.parametrize("name", FILES)
@pytest.mark.parametrize("damage", ["cut", "changed"])
def test_a_snapshot_damaged_at_any_of_twenty_places_is_not_used(tmp_path: Path, name: str, damage: str) -> None:
    snapshots = Snapshots(tmp_path)
    for epoch in (1, 2):
        snapshots.save(epoch, small_ensemble().networks(), PROGRESS, keep=None)
    path = tmp_path / name
    whole = path.read_bytes()
    for part in range(20):
        place = len(whole) * part // 20 + part
        path.write_bytes(whole[:place] + (b"" if damage == "cut" else bytes([whole[place] ^ 1]) + whole[place + 1 :]))
        if "resume" not in name or damage == "cut":  # a few bytes between the parts of resume.pth mean nothing
            assert snapshots.newest()["epoch"] == 1
        if "resume" not in name and damage == "cut":
            with pytest.raises(InputError, match=re.escape(str(path))):
                snapshots.load(2, small_ensemble().networks())
    path.write_bytes(whole)
    assert snapshots.newest()["epoch"] == 2


def test_what_resuming_needs_is_never_pruned(tmp_path: Path) -> None:
    """However few epochs are to be kept, and whatever was saved between them: both resume files stay whole."""
    snapshots, ensemble = Snapshots(tmp_path), small_ensemble()
    for epoch in range(1, 6):
        snapshots.save(epoch, ensemble.networks(), {**PROGRESS, "iteration": 10 * epoch}, keep=1)
        for within in range(epoch % 3):
            snapshots.save_within(epoch, ensemble.networks(), {**PROGRESS, "iteration": 10 * epoch + within + 1})
        newest = snapshots.newest()
        snapshots.resume_file.rename(tmp_path / "aside")
        before = snapshots.newest() if epoch > 1 or within else None
        (tmp_path / "aside").rename(snapshots.resume_file)
        assert newest["iteration"] == 10 * epoch + epoch % 3
        assert before is None or 0 < newest["iteration"] - before["iteration"] <= 10


def test_an_epoch_counts_when_all_its_files_are_there(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Killed after any of the files: the epoch is not one to evaluate, nor to go on from."""
    written = []
    save = torch.save

    def save_or_die(content: dict, file) -> None:
        if len(written) == die_after:
            raise KeyboardInterrupt
        written.append(file.name)
        save(content, file)

    monkeypatch.setattr(torch, "save", save_or_die)
    for die_after in range(4):
        snapshots = Snapshots(folder := tmp_path / str(die_after))
        with pytest.raises(KeyboardInterrupt):
            snapshots.save(1, small_ensemble().networks(), PROGRESS, keep=None)
        assert snapshots.newest() is None
        assert snapshots.epochs() == ([1] if die_after == 3 else [])  # all but the resume file: whole, to be evaluated
        assert len(list(folder.rglob("*.pth"))) == die_after
        written.clear()


@pytest.mark.parametrize("name", FILES)
def test_code_in_a_snapshot_does_not_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    monkeypatch.chdir(tmp_path)
    snapshots = Snapshots(tmp_path)
    for epoch in (1, 2):
        snapshots.save(epoch, small_ensemble().networks(), PROGRESS, keep=None)
    content = torch.load(name, weights_only=True)
    torch.save({**content, "x": RunsCode()}, name)
    assert snapshots.newest()["epoch"] == 1
    if "resume" not in name:
        with pytest.raises(InputError, match="not a file of plain tensors"):
            snapshots.load(2, small_ensemble().networks())
    assert not Path("ran").exists()
    with suppress(Exception):
        torch.load(name, weights_only=False)
    assert Path("ran").exists()  # it would be seen


def test_epochs_that_count_anew_are_not_taken_for_old_ones(tmp_path: Path) -> None:
    """With another batch size, forced, an epoch's number falls: what was saved last stays, whatever its number."""
    snapshots, networks = Snapshots(tmp_path), small_ensemble().networks()
    for epoch in (14, 15, 16, 9, 10, 11):
        snapshots.save(epoch, networks, {**PROGRESS, "iteration": epoch}, keep=1)
        assert snapshots.newest()["epoch"] == epoch
    snapshots.resume_file.unlink()
    assert snapshots.newest()["epoch"] == 10


def test_a_run_that_never_resumes_puts_the_old_one_aside(
    run: Callable, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    before_step(monkeypatch, {4: lambda: os.kill(os.getpid(), signal.SIGTERM)})
    assert run("train") == 75
    before_step(monkeypatch, {2: lambda: (_ for _ in ()).throw(KilledError)})
    with pytest.raises(KilledError):
        run("train", "resume=never")
    assert Snapshots(tmp_path / "run").newest() is None
    assert torch.load(tmp_path / "run/resume.before.pth", weights_only=True)["iteration"] == 5


def test_what_cannot_be_renamed_is_one_line(tmp_path: Path) -> None:
    snapshots, networks = Snapshots(tmp_path), small_ensemble().networks()
    snapshots.save_within(0, networks, PROGRESS)
    snapshots.previous_resume_file.mkdir()
    with pytest.raises(InputError, match="cannot write"):
        snapshots.save_within(0, networks, PROGRESS)
    assert snapshots.newest() is not None
