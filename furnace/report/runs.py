"""Reads what there is to know about each run from its folder; what cannot be read becomes a line of its `problems`."""

import os
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pandas as pd

from furnace.config.completion import network_name
from furnace.config.record import read_record, trained_settings
from furnace.errors import InputError, in_short, say_note
from furnace.report.rows import Row, ScoreFile, newest, read_score_file

# The setting `method` and its name for people, in the order in which tables list them.
METHOD_WORDS = {"supervised": "supervised", "org": "CPS", "ema": "Ensemble Teacher"}
SIGNS = ("config.json", "metrics.csv")  # A folder that holds one of them is a run; so is one that holds scores.
# Folders within a run, which are not searched for runs.
OWN_FOLDERS = frozenset(("snapshot", "ema_snapshot", "results", "results_color", "tb", "scores", "gallery"))
SCORES = "scores/epoch*.json"
LARGEST = 1e30  # Larger numbers count as missing, because no chart can be drawn of them.


@dataclass
class Run:
    """What the folder of a run holds: settings, losses and scores."""

    path: Path
    record: dict[str, Any] = field(default_factory=dict)  # the content of config.json
    metrics: pd.DataFrame | None = None  # metrics.csv as read_metrics gives it
    score_files: list[ScoreFile] = field(default_factory=list)  # the files in scores/
    rows: list[Row] = field(default_factory=list)  # the newest rows of the score files, then those of log_df.csv
    problems: list[str] = field(default_factory=list)  # what is missing, damaged or odd, a line each

    @property
    def name(self) -> str:
        """The folder's name, which log_df.csv calls the run by."""
        return self.path.name

    @property
    def settings(self) -> dict[str, Any]:
        """The settings of the last start in config.json, empty if it holds none."""
        return trained_settings(self.record)

    def part(self, name: str) -> dict[str, Any]:
        """Returns an object within config.json, empty if there is none of this name."""
        value = self.record.get(name)
        return value if isinstance(value, dict) else {}

    def setting(self, name: str) -> str:
        """Returns a setting as log_df.csv writes it; if config.json lacks it, the scores' value, or an empty text."""
        if name in self.settings:
            return str(self.settings[name])
        column = "ratio" if name == "labeled_ratio" else name
        return next((found for row in self.rows if (found := getattr(row, column, ""))), "")

    @property
    def classes(self) -> tuple[str, ...]:
        """The names of the classes, from config.json or else from the scores; empty if neither tells them."""
        classes = self.record.get("classes")
        if isinstance(classes, list) and all(isinstance(name, str) for name in classes):
            return tuple(classes)
        return self.score_files[0].classes if self.score_files else ()

    @property
    def data(self) -> str:
        """The data set, by the name of its folder, because one kind of data set may lie in several folders."""
        path = self.settings.get("dataset_path")
        return Path(path).name if isinstance(path, str) and Path(path).name else str(self.record.get("dataset", ""))

    @property
    def method(self) -> str:
        """The method's name for people."""
        return METHOD_WORDS.get(self.setting("method"), self.setting("method"))

    @property
    def last_written(self) -> time.struct_time:
        """When the last row of metrics.csv was written, in local time."""
        return time.localtime((self.path / "metrics.csv").stat().st_mtime)

    @property
    def epochs_done(self) -> int:
        """The last epoch in metrics.csv, 0 if there is none."""
        return 0 if self.metrics is None else int(self.metrics["epoch"].max())

    @property
    def epochs_planned(self) -> int | None:
        """The setting nepochs, None if it is not known."""
        planned = self.settings.get("nepochs")
        return planned if type(planned) is int else None

    def may_have(self, row: Row) -> bool:
        """Returns whether a row of a log_df.csv may belong to this run: nothing that both of them tell differs."""
        if row.folder != self.name or self._other_table(row):
            return False
        if self.classes and row.by_class and not row.occurring <= set(self.classes) <= set(row.by_class):
            return False
        known = {**self.settings, "backbone": network_name(self.settings)} if self.settings else {}
        said = zip(("method", "labeled_ratio", "backbone", "seed"), row.trained[1:], strict=True)
        return all(str(known.get(name, value)) == value for name, value in said if value)

    def _other_table(self, row: Row) -> bool:
        """Returns whether this run's scores name other tables than the row's, at least one of which still exists."""
        tables = {file.row.table for file in self.score_files}
        return bool(tables) and row.table not in tables and any(table.is_file() for table in tables)


def find_runs(folders: Sequence[Path]) -> list[Path]:
    """Finds the runs in and below the folders, each once: folder after folder, and by name within each.

    Raises:
        InputError: one of the folders does not exist.
    """
    found: dict[Path, None] = {}
    for folder in folders:
        if not folder.is_dir():
            raise InputError(f"no folder: {folder}: expected one that runs wrote into; name one such as output_voc")
        for place, below, files in os.walk(folder, onerror=_say_left_out):
            if any(sign in files for sign in SIGNS) or any(Path(place).glob(SCORES)):
                found[Path(place).resolve()] = None
            below[:] = sorted(name for name in below if name not in OWN_FOLDERS and not name.startswith("."))
    return list(found)


def _say_left_out(error: OSError) -> None:
    say_note(f"{error.filename} is left out: {in_short(error)}")


def read_run(path: Path) -> Run:
    """Reads a run's config.json, metrics.csv and scores; what is missing or damaged is noted in its problems."""
    run = Run(path)
    try:
        run.record = read_record(path)
        if not run.record:
            run.problems.append("config.json is missing: settings and commit are not known")
    except (InputError, RecursionError) as error:
        run.problems.append(_without_folder(error, path))
    try:
        run.metrics = read_metrics(path / "metrics.csv")
    except InputError as error:
        run.problems.append(_without_folder(error, path))
    for file in sorted(path.glob(SCORES)):
        try:
            run.score_files.append(read_score_file(file))
        except InputError as error:
            run.problems.append(_without_folder(error, path))
    run.rows = newest([file.row for file in run.score_files])
    return run


def read_metrics(path: Path) -> pd.DataFrame | None:
    """Reads metrics.csv as floats, one row per epoch, ascending; None if there is no such file yet.

    Cells that are no numbers, or too large to draw, become NaN. Of several rows of one epoch the last one counts.

    Raises:
        InputError: the file is damaged.
    """
    try:
        table = pd.read_csv(path, dtype=str, encoding="utf-8", on_bad_lines="skip")
    except FileNotFoundError:
        return None
    except (OSError, ValueError, OverflowError) as error:  # pandas' own errors are ValueErrors
        raise InputError(f"damaged file: {path}: {' '.join(str(error).split())}") from None
    table = table.apply(pd.to_numeric, errors="coerce").astype(float)
    table = table.where(table.abs() < LARGEST)
    if "epoch" not in table.columns or not table.columns.is_unique:
        raise InputError(f"damaged file: {path}: expected a table with a column epoch")
    table = table[table["epoch"].between(1, 1e9)].drop_duplicates("epoch", keep="last").sort_values("epoch")
    if table.empty:
        raise InputError(f"damaged file: {path}: it holds no epoch")
    return table


def note_what_is_odd(run: Run) -> None:
    """Adds to a run's problems what shows only once its rows are complete: scores beyond the end of metrics.csv."""
    last = max((row.epoch for row in run.rows), default=0)
    if run.metrics is not None and last > run.epochs_done:
        run.problems.append(
            f"scores of epoch {last}, but metrics.csv ends with epoch {run.epochs_done}: left here by an earlier run?"
        )


def _without_folder(error: Exception, path: Path) -> str:
    """Returns the error in one line, with paths relative to the run's folder."""
    return " ".join(str(error).split()).replace(f"{path}{os.sep}", "")
