"""What a training run tells of each epoch: a row in metrics.csv, scalars in TensorBoard, a line on the screen."""

import csv
import io
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from furnace.engine.bars import tell
from furnace.engine.files import write_text, writing
from furnace.engine.machine import cores
from furnace.engine.place import find_place
from furnace.errors import InputError
from furnace.evaluation.metrics import MEAN_IOU
from furnace.training.events import Events
from furnace.training.shares import CONFIDENT

Row = dict[str, Any]  # an epoch's cells by column: numbers, or an empty text where there is none
LONG_WAIT = 1 / 3  # of an epoch's time: a run that waits longer than this for data says so


class EpochTable:
    """`metrics.csv`: one row per epoch. The file is whole at any moment.

    Args:
        path: the file.
        last_epoch: the epoch that a run goes on from; rows of later epochs are dropped. At 0 the table begins anew.

    A file that is no such table is put aside, and a note says so: a run does without it. So it does without the rows of
    epochs that the file lacks, which a note names.

    Raises:
        InputError: a folder is there, or the file cannot be moved.
    """

    def __init__(self, path: Path, last_epoch: int) -> None:
        self.path = path
        self.rows: list[dict[str, str]] = []
        if last_epoch > 0 and path.is_file():
            try:
                with open(path, newline="", encoding="utf-8") as file:
                    table = csv.DictReader(file)
                    if "epoch" not in (table.fieldnames or ()):
                        raise ValueError("its first line names no column epoch")
                    rows = list(table)
                if any(None in row or None in row.values() for row in rows):
                    raise ValueError("a row is longer or shorter than the first line")
                rows.sort(key=lambda row: int(row["epoch"]))  # whoever looked at the table may have sorted it
                self.rows = [row for row in rows if int(row["epoch"]) <= last_epoch]
            except (ValueError, OSError, csv.Error) as error:
                aside = path.with_suffix(".damaged.csv")
                with writing(aside):
                    path.replace(aside)
                tell(f"note: not a table of epochs: {path}: {error}; it is now {aside.name}, and a new one begins")
        if path.is_dir():
            raise InputError(f"not a table of epochs: {path} is a folder; move it away")
        known = {int(row["epoch"]) for row in self.rows}
        if lacking := [epoch for epoch in range(1, last_epoch + 1) if epoch not in known]:
            tell(
                f"note: {path} lacks the rows of epochs that are done, and goes on without them: {_in_ranges(lacking)}"
            )

    def append(self, row: Row) -> None:
        """Adds a row, by column, and writes the file."""
        self.rows.append({name: _cell(value) for name, value in row.items()})
        self._write()

    def fill_in(self, values: dict[str, float]) -> None:
        """Changes cells of the last row and writes the file."""
        self.rows[-1] |= {name: _cell(value) for name, value in values.items()}
        self._write()

    def _write(self) -> None:
        text = io.StringIO()
        # An earlier start of the run may have had other columns; those of the newest row come first.
        columns = dict.fromkeys(name for row in reversed(self.rows) for name in row)
        table = csv.DictWriter(text, fieldnames=list(columns), lineterminator="\n", restval="")
        table.writeheader()
        table.writerows(self.rows)
        write_text(self.path, text.getvalue())


def _in_ranges(numbers: Sequence[int]) -> str:
    """Returns rising numbers as a text such as `1-3, 7`."""
    first = (number for number in numbers if number - 1 not in numbers)
    last = (number for number in numbers if number + 1 not in numbers)
    return ", ".join(f"{low}-{high}" if low < high else str(low) for low, high in zip(first, last, strict=True))


def _cell(value: float | int | str) -> str:
    return f"{value:.6g}" if isinstance(value, float) else str(value)


class RunLogs:
    """The logs of a run, which its main process alone writes: metrics.csv, TensorBoard, a line per epoch.

    Args:
        workers: how many workers load data in this process; the advice for slow loading depends on it.
    """

    def __init__(self, output: Path, nepochs: int, epochs_done: int, iterations_done: int, workers: int) -> None:
        self.nepochs = nepochs
        self.events = Events(output / "tb", first_step=iterations_done + 1)
        self.table = EpochTable(output / "metrics.csv", epochs_done)
        self.advice = waiting_advice(workers)

    def record(self, row: Row, predictors: Sequence[str] = ()) -> None:
        """Writes an epoch's row; the cells for the scores of these predictors are left empty until `add_scores`."""
        self.table.append({**row, **{MEAN_IOU + code: "" for code in predictors}})

    def tell(self, row: Row) -> None:
        """Shows an epoch that is recorded, and saved if that was due."""
        scalars = {
            name.replace(f"{CONFIDENT}_", f"{CONFIDENT}/", 1): value  # which TensorBoard shows together
            for name, value in row.items()
            if name not in ("epoch", "iteration") and value != ""
        }
        self.events.scalars(scalars, int(row["iteration"]))
        tell(
            f"epoch {row['epoch']}/{self.nepochs}  loss {row['loss']:.4f}  supervised "
            f"{row['loss_sup_1']:.4f} {row['loss_sup_2']:.4f}  "
            f"cross {row['loss_cross_1']:.4f} {row['loss_cross_2']:.4f}  {row['seconds']:.1f} s, "
            f"{row['data_seconds']:.1f} s of it waiting for data; {row['step_seconds']:.3f} s a step"
        )
        if self.advice and row["data_seconds"] > LONG_WAIT * row["seconds"]:
            tell(f"note: {row['data_seconds'] / row['seconds']:.0%} of the time is waiting for data; {self.advice}")
            self.advice = ""  # once is enough

    def lack_scores(self, epoch: int) -> bool:
        """Whether the last row is this epoch's and has empty cells for scores."""
        last = self.table.rows[-1] if self.table.rows else {"epoch": ""}
        return last["epoch"] == str(epoch) and "" in (cell for name, cell in last.items() if name.startswith(MEAN_IOU))

    def add_scores(self, epoch: int, iteration: int, scores: dict[str, float]) -> None:
        """Fills in the last row's mean IoU, in percent by predictor."""
        self.table.fill_in({MEAN_IOU + code: score for code, score in scores.items()})
        self.events.scalars({f"mIoU/{code}": score for code, score in scores.items()}, iteration)
        found = "  ".join(f"{code} {score:.2f}" for code, score in scores.items())
        tell(f"epoch {epoch}/{self.nepochs}  mean IoU: {found}")

    def close(self) -> None:
        """Writes the events that are left."""
        self.events.close()


def waiting_advice(workers: int) -> str:
    """Says which setting to change where the networks wait for the `workers` of this process."""
    share = max(1, cores() // find_place().local_size)
    if workers < share:
        return f"set num_workers={min(share, max(2, 2 * workers))} (it is {workers})"
    return f"num_workers={workers} uses every core: put dataset_path on a faster disk, or smaller images into it"
