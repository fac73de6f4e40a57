"""metrics.csv, and what a run says at the end of an epoch."""

from pathlib import Path

import pandas as pd
import pytest

from furnace.errors import InputError
from furnace.training.log import EpochTable, RunLogs, waiting_advice


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
    logs.tell(epoch_row(1, seconds=9.0, data_seconds=2.9))
    assert "note:" not in capsys.readouterr().out
    logs.tell(epoch_row(2, seconds=9.0, data_seconds=3.6))
    assert f"note: 40% of the time is waiting for data; {advice}" in capsys.readouterr().out
    logs.tell(epoch_row(3, seconds=9.0, data_seconds=8.0))
    assert "note:" not in capsys.readouterr().out
    logs.close()


def test_where_every_core_loads_data_more_workers_are_no_advice(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("os.sched_getaffinity", lambda _: range(4))
    assert "faster disk" in waiting_advice(4)


@pytest.mark.parametrize("line", ["1,0.5,mine", "1"])
def test_a_table_of_epochs_with_a_cell_too_many_or_too_few_is_put_aside(
    tmp_path: Path, line: str, capsys: pytest.CaptureFixture
) -> None:
    (tmp_path / "metrics.csv").write_text(f"epoch,loss\n{line}\n")
    table = EpochTable(tmp_path / "metrics.csv", last_epoch=1)
    assert "note: not a table of epochs: " in capsys.readouterr().out
    assert (tmp_path / "metrics.damaged.csv").read_text() == f"epoch,loss\n{line}\n"
    table.append({"epoch": 2, "loss": 0.25})
    assert (tmp_path / "metrics.csv").read_text() == "epoch,loss\n2,0.25\n"


@pytest.mark.parametrize("content", ["", "1,0.5\n", "1,0.5\n2,0.25\n"])
def test_a_table_of_epochs_without_its_first_line_is_put_aside(
    tmp_path: Path, content: str, capsys: pytest.CaptureFixture
) -> None:
    (tmp_path / "metrics.csv").write_text(content)
    assert EpochTable(tmp_path / "metrics.csv", last_epoch=2).rows == []
    damaged, lacking = capsys.readouterr().out.splitlines()
    assert damaged.startswith("note: not a table of epochs: ") and lacking.endswith(" without them: 1-2")
    assert (tmp_path / "metrics.damaged.csv").read_text() == content


def test_rows_are_taken_in_the_order_of_epochs_and_those_that_lack_are_named(
    tmp_path: Path, capsys: pytest.CaptureFixture
) -> None:
    path = tmp_path / "metrics.csv"
    path.write_text("epoch,mIoU_v0\n" + "".join(f"{epoch},\n" for epoch in (12, 10, 9, 2, 5)))
    logs = RunLogs(tmp_path, nepochs=20, epochs_done=10, iterations_done=100, workers=0)
    assert f"note: {path} lacks the rows of epochs that are done, and goes on without them: 1, 3-4, 6-8\n" in (
        capsys.readouterr().out
    )
    assert logs.lack_scores(10)
    logs.add_scores(10, 100, {"v0": 50.0})
    logs.close()
    assert path.read_text() == "epoch,mIoU_v0\n2,\n5,\n9,\n10,50\n"
    EpochTable(path.with_name("another.csv"), last_epoch=0)  # which begins, and so lacks nothing
    assert "lacks" not in capsys.readouterr().out


def test_a_folder_in_the_tables_place_is_refused(tmp_path: Path) -> None:
    (tmp_path / "metrics.csv").mkdir()
    with pytest.raises(InputError, match="is a folder; move it away"):
        EpochTable(tmp_path / "metrics.csv", last_epoch=1)


def test_columns_of_an_earlier_start_stay(tmp_path: Path) -> None:
    (tmp_path / "metrics.csv").write_text("epoch,loss,note\n1,0.5,mine\n")
    table = EpochTable(tmp_path / "metrics.csv", last_epoch=1)
    table.append({"epoch": 2, "loss": 0.25, "new": 3.0})
    assert (tmp_path / "metrics.csv").read_text() == "epoch,loss,new,note\n1,0.5,,mine\n2,0.25,3,\n"
