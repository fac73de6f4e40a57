"""Files, snapshots, the result table and the logs."""

from pathlib import Path

import pytest
import torch
from runs import PROGRESS, small_ensemble

from furnace.engine.checkpoint import Snapshots, students_state
from furnace.errors import InputError


def test_snapshots_round_trip(tmp_path: Path) -> None:
    snapshots, saved = Snapshots(tmp_path), small_ensemble()
    for epoch in range(1, 6):
        snapshots.save(epoch, saved.networks(), {**PROGRESS, "iteration": 10 * epoch}, keep=2)
    assert snapshots.epochs() == [4, 5] and snapshots.newest()["iteration"] == 50
    loaded = small_ensemble()
    snapshots.load(5, loaded.networks())
    for ours, theirs in zip(loaded.networks().values(), saved.networks().values(), strict=True):
        assert all(torch.equal(value, theirs.state_dict()[name]) for name, value in ours.state_dict().items())


@pytest.mark.parametrize("damage", ["resume", "students", "teacher", "missing"])
def test_a_damaged_snapshot_is_not_the_newest(tmp_path: Path, damage: str) -> None:
    snapshots = Snapshots(tmp_path)
    for epoch in (1, 2):
        snapshots.save(epoch, small_ensemble().networks(), PROGRESS, keep=None)
    path = {
        "resume": snapshots.resume_file,
        "students": snapshots.students_file(2),
        "teacher": snapshots.teacher_files(2)["teacher_2"],
        "missing": snapshots.teacher_files(2)["teacher_1"],
    }[damage]
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 0xFF
    path.unlink() if damage == "missing" else path.write_bytes(content[:-7] if damage == "resume" else content)
    assert snapshots.newest()["epoch"] == 1


def test_after_a_fallback_the_good_one_stays_until_there_is_a_better_one(tmp_path: Path) -> None:
    snapshots = Snapshots(tmp_path)
    for epoch in (1, 2):
        snapshots.save(epoch, small_ensemble().networks(), PROGRESS, keep=None)
    snapshots.resume_file.write_bytes(b"damaged")
    assert snapshots.newest()["epoch"] == 1
    snapshots.save(2, small_ensemble().networks(), PROGRESS, keep=None)
    assert snapshots.newest()["epoch"] == 2
    snapshots.resume_file.write_bytes(b"damaged again")
    assert snapshots.newest()["epoch"] == 1


def test_a_first_snapshot_cut_short_is_not_another_run(tmp_path: Path) -> None:
    snapshots = Snapshots(tmp_path)
    snapshots.begin()
    (tmp_path / "snapshot").mkdir()
    (tmp_path / "snapshot/model_epoch1.pth").write_bytes(b"")
    assert snapshots.newest() is None and not snapshots.of_another_run()
    snapshots.save(1, small_ensemble().networks(), PROGRESS, keep=None)
    snapshots.resume_file.unlink()
    assert snapshots.of_another_run()


def test_a_resume_file_that_lacks_something_is_not_the_newest(tmp_path: Path) -> None:
    snapshots = Snapshots(tmp_path)
    snapshots.save(1, small_ensemble().networks(), PROGRESS, keep=None)
    snapshots.save(2, small_ensemble().networks(), {}, keep=None)
    assert snapshots.newest()["epoch"] == 1


def test_no_whole_snapshot_is_an_error_and_none_at_all_is_not(tmp_path: Path) -> None:
    snapshots = Snapshots(tmp_path)
    assert snapshots.newest() is None
    snapshots.save(1, small_ensemble().networks(), PROGRESS, keep=None)
    snapshots.students_file(1).write_bytes(b"")
    with pytest.raises(InputError, match="cannot resume: snapshot damaged"):
        snapshots.newest()


def test_published_cps_names_are_read(tmp_path: Path) -> None:
    ensemble = small_ensemble(with_teachers=False)
    (tmp_path / "snapshot").mkdir()
    state = students_state(ensemble.networks())
    torch.save({"model": state, "epoch": 6}, tmp_path / "snapshot/epoch-7.pth")
    torch.save({"model": state}, tmp_path / "snapshot/epoch-last.pth")
    snapshots = Snapshots(tmp_path)
    assert snapshots.epochs() == [7] and not snapshots.has_teachers(7)
    snapshots.load(7, small_ensemble(with_teachers=False).networks())


@pytest.mark.parametrize(("classes", "fragment"), [(4, "classifier.weight"), (3, None)])
def test_a_snapshot_of_other_classes_is_refused(tmp_path: Path, classes: int, fragment: str | None) -> None:
    Snapshots(tmp_path).save(1, small_ensemble().networks(), PROGRESS, keep=None)
    other = small_ensemble(classes=classes)
    if fragment is None:
        Snapshots(tmp_path).load(1, other.networks())
    else:
        with pytest.raises(InputError, match=fragment):
            Snapshots(tmp_path).load(1, other.networks())


def test_a_snapshot_that_cannot_be_removed_ends_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture
) -> None:
    snapshots, networks, unlink = Snapshots(tmp_path), small_ensemble().networks(), Path.unlink

    def refuse(path: Path, missing_ok: bool = False) -> None:
        if path.name == "model_epoch1.pth":
            raise OSError(16, "Device or resource busy")
        unlink(path, missing_ok)

    monkeypatch.setattr(Path, "unlink", refuse)
    for epoch in (1, 2, 3):
        snapshots.save(epoch, networks, {**PROGRESS, "iteration": epoch}, keep=2)
    assert snapshots.newest()["epoch"] == 3
    assert capsys.readouterr().err.startswith(f"note: cannot remove {tmp_path}/snapshot/model_epoch1.pth: Device or")
