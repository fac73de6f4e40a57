"""Files, snapshots, the result table and the logs."""

from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch

from furnace.data.samples import iterations_per_epoch
from furnace.engine import launch
from furnace.engine.checkpoint import Snapshots, students_state
from furnace.engine.files import write_atomically, write_text
from furnace.errors import InputError
from furnace.evaluation.log_table import score_columns
from furnace.evaluation.metrics import Scores, confusion_matrix
from furnace.network.deeplabv3plus import DeepLabV3Plus
from furnace.pictures import colourize, panel
from furnace.semi.ensemble import Ensemble
from furnace.training.log import EpochTable, RunLogs, waiting_advice
from furnace.training.meters import LossMeter, NotFinite, Stopwatch
from furnace.training.optimizer import parameter_groups, polynomial_rate, ramp

PROGRESS = {"iteration": 0, "optimizers": [], "scaler": {}, "counters": {}, "settings": {}}


def small_ensemble(with_teachers: bool = True, classes: int = 3) -> Ensemble:
    return Ensemble(lambda: DeepLabV3Plus("resnet18_v1c", classes, width=0.0625), with_teachers)


def test_a_failed_write_leaves_the_old_file(tmp_path: Path) -> None:
    path = tmp_path / "file"
    write_text(path, "old")

    def fails(file) -> None:
        file.write(b"half of the new")
        raise OSError(28, "No space left on device")

    with pytest.raises(InputError, match="No space left"):
        write_atomically(path, fails)
    assert path.read_text() == "old" and list(tmp_path.iterdir()) == [path]


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


def test_scores_by_hand() -> None:
    label = torch.tensor([[0, 0, 1], [1, 255, 2]])
    prediction = torch.tensor([[0, 1, 1], [1, 0, 1]])
    confusion = confusion_matrix(prediction, label, 4).numpy()
    assert confusion.tolist() == [[1, 1, 0, 0], [0, 2, 0, 0], [0, 1, 0, 0], [0, 0, 0, 0]]
    scores = Scores.from_confusion(confusion)
    np.testing.assert_allclose(scores.iou, [1 / 2, 2 / 4, 0, np.nan])
    assert scores.mean_iou == pytest.approx(1 / 3) and scores.mean_iou_no_background == pytest.approx(1 / 4)
    assert scores.pixel_accuracy == pytest.approx(3 / 5)
    assert score_columns(scores, "abcd")["IoU_d"] == "" and score_columns(scores, "abcd")["IoU_a"] == "50.000"


def test_loss_meter_leaves_out_what_is_not_finite() -> None:
    def step(meter: LossMeter, iteration: int, loss: float, norm: float) -> None:
        meter.add(iteration, {"loss": torch.tensor(loss), "loss_sup_1": torch.tensor(loss), "norm": torch.tensor(norm)})

    meter, again = LossMeter(), LossMeter()
    for iteration, loss in ((4, 1.0), (5, 3.0)):
        step(meter, iteration, loss, norm=2.0)
    assert meter.read_back() == [] and meter.read_back() == []
    assert meter.means() == {"loss": 2.0, "loss_sup_1": 2.0, "norm": 2.0, "skipped_steps": 0}
    step(meter, 6, float("inf"), norm=float("nan"))
    step(meter, 7, 8.0, norm=5.0)
    step(meter, 8, 9.0, norm=float("-inf"))
    found = meter.read_back()
    assert found == [NotFinite(6, "loss_sup_1", float("inf")), NotFinite(8, "norm", float("-inf"))]
    expected = {"loss": 4.0, "loss_sup_1": 4.0, "norm": 3.0, "skipped_steps": 2}
    again.restore(meter.state())
    assert meter.means() == again.means() == expected
    meter.reset()
    step(meter, 9, float("nan"), norm=1.0)
    meter.read_back()
    assert np.isnan(meter.means()["loss"]) and meter.means()["skipped_steps"] == 1


def test_epoch_table_drops_rows_after_the_resumed_epoch(tmp_path: Path) -> None:
    table = EpochTable(tmp_path / "metrics.csv", 0)
    for epoch in (1, 2, 3):
        table.append({"epoch": epoch, "loss": 1 / epoch})
    resumed = EpochTable(tmp_path / "metrics.csv", 1)
    resumed.append({"epoch": 2, "loss": 9.0})
    assert pd.read_csv(tmp_path / "metrics.csv")["loss"].tolist() == [1.0, 9.0]


def epoch_row(epoch: int, seconds: float, data_seconds: float) -> dict[str, float | int]:
    losses = dict.fromkeys(("loss", "loss_sup_1", "loss_sup_2", "loss_cross_1", "loss_cross_2"), 0.5)
    times = {"seconds": seconds, "step_seconds": 0.1, "data_seconds": data_seconds}
    return {"epoch": epoch, "iteration": 10 * epoch, **losses, **times}


@pytest.mark.parametrize(
    ("workers", "advice"), [(0, "set num_workers=2 (it is 0)"), (3, "set num_workers=4 (it is 3)")]
)
def test_a_long_wait_for_data_is_said_once(
    tmp_path: Path, capsys: pytest.CaptureFixture, monkeypatch: pytest.MonkeyPatch, workers: int, advice: str
) -> None:
    monkeypatch.setattr("os.sched_getaffinity", lambda _: range(4))
    logs = RunLogs(tmp_path, nepochs=4, epochs_done=0, iterations_done=0, workers=workers)
    logs.add(epoch_row(1, seconds=9.0, data_seconds=2.9))
    assert "note:" not in capsys.readouterr().out
    logs.add(epoch_row(2, seconds=9.0, data_seconds=3.6))
    assert f"note: 40% of the time is waiting for data; {advice}" in capsys.readouterr().out
    logs.add(epoch_row(3, seconds=9.0, data_seconds=8.0))
    assert "note:" not in capsys.readouterr().out
    logs.close()


def test_where_every_core_loads_data_more_workers_are_no_advice(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("os.sched_getaffinity", lambda _: range(4))
    assert "faster disk" in waiting_advice(4)


def test_stopwatch_parts_waiting_from_stepping(monkeypatch: pytest.MonkeyPatch) -> None:
    clock = iter([0.0, 0.0, 3.0, 3.0, 7.0, 7.0, 7.0, 7.0, 7.0])  # two batches, waited for 3 s and 4 s; then the end
    monkeypatch.setattr("time.perf_counter", lambda: next(clock))
    stopwatch = Stopwatch()
    assert list(stopwatch.waiting("ab")) == ["a", "b"]
    monkeypatch.setattr("time.perf_counter", lambda: 12.0)
    assert (stopwatch.seconds, stopwatch.data_seconds, stopwatch.step_seconds) == (12.0, 7.0, 2.5)


def test_schedule() -> None:
    assert polynomial_rate(0.1, 0, 100) == 0.1 and polynomial_rate(0.1, 50, 100) == pytest.approx(0.1 * 0.5**0.9)
    assert [ramp(t, 100, 0.3, 0.6) for t in (0, 29, 30, 45, 60, 99)] == pytest.approx([0, 0, 0, 0.5, 1, 1])
    assert ramp(0, 100, 0, 0) == 1
    assert iterations_per_epoch(25, 175, 8) == 21


def test_decay_is_for_convolution_weights_alone() -> None:
    network = DeepLabV3Plus("resnet18_v1c", 3, width=0.0625)
    groups = parameter_groups(network, 0.1)
    assert sum(len(group["params"]) for group in groups) == len(list(network.parameters()))
    for group in groups:
        assert all((parameter.ndim == 4) == (group["weight_decay"] > 0) for parameter in group["params"])


def test_colours_and_panel() -> None:
    label = np.array([[0, 1], [255, 1]], dtype=np.uint8)
    colours = colourize(label, [(1, 2, 3), (4, 5, 6)])
    assert colours[0, 1].tolist() == [4, 5, 6] and colours[1, 0].tolist() == [224, 224, 192]
    sheet = panel([[colours, colours]], ["one", "two"])
    assert sheet.dtype == np.uint8 and (sheet == [4, 5, 6]).all(axis=2).sum() == 4


@pytest.mark.parametrize("line", ["1,0.5,mine", "1"])
def test_a_table_of_epochs_with_a_cell_too_many_or_too_few_is_refused(tmp_path: Path, line: str) -> None:
    (tmp_path / "metrics.csv").write_text(f"epoch,loss\n{line}\n")
    with pytest.raises(InputError, match=r"not a table of epochs: .*longer or shorter"):
        EpochTable(tmp_path / "metrics.csv", last_epoch=1)


def test_columns_of_an_earlier_start_stay(tmp_path: Path) -> None:
    (tmp_path / "metrics.csv").write_text("epoch,loss,note\n1,0.5,mine\n")
    table = EpochTable(tmp_path / "metrics.csv", last_epoch=1)
    table.append({"epoch": 2, "loss": 0.25, "new": 3.0})
    assert (tmp_path / "metrics.csv").read_text() == "epoch,loss,new,note\n1,0.5,,mine\n2,0.25,3,\n"


@pytest.mark.parametrize(
    ("ends", "status"),
    [
        ([(0.0, 0, -15), (1.0, 1, -9)], 137),
        ([(0.0, 1, 1), (30.1, 0, -9)], 1),  # torchrun's own kill
        ([(0.0, 1, 1), (0.1, 0, -15)], 1),
        ([(0.0, 1, 1), (0.2, 0, 2)], 2),
        ([(0.0, 1, -11), (0.1, 0, 1)], 139),
        ([(0.0, 0, -15)], 143),
    ],
)
def test_one_status_for_all_processes(ends: list, status: int, capsys: pytest.CaptureFixture) -> None:
    assert launch._status(ends) == status
    assert ("was ended by SIG" in capsys.readouterr().err) == (status in (137, 139))
