"""What there is to know about each run, read from its folder; whatever cannot be read becomes a line of `problems`."""

import os
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pandas as pd

from furnace.config.record import read_record
from furnace.errors import InputError
from furnace.report.rows import Row, ScoreFile, newest, read_score_file

METHODS = {"supervised": "supervised", "org": "CPS", "ema": "Ensemble Teacher"}
SIGNS = ("config.json", "metrics.csv")  # a folder with one of them is a run, as is one with scores
OWN_FOLDERS = frozenset(("snapshot", "ema_snapshot", "results", "results_color", "tb", "scores", "gallery"))
SCORES = "scores/epoch*.json"
LARGEST = 1e30  # of a number that a chart is drawn of


@dataclass
class Run:
    """A run's folder: settings, losses, scores."""

    path: Path
    record: dict[str, Any] = field(default_factory=dict)  # config.json
    metrics: pd.DataFrame | None = None  # metrics.csv: a row per epoch, numbers, NaN where there is none
    score_files: list[ScoreFile] = field(default_factory=list)
    rows: list[Row] = field(default_factory=list)
    problems: list[str] = field(default_factory=list)

    @property
    def name(self) -> str:
        return self.path.name

    @property
    def settings(self) -> dict[str, Any]:
        return self.part("settings")

    def part(self, name: str) -> dict[str, Any]:
        """An object within config.json, empty if there is none."""
        value = self.record.get(name)
        return value if isinstance(value, dict) else {}

    def setting(self, name: str) -> str:
        """A setting as log_df.csv writes it; what config.json lacks is taken from the scores."""
        if name in self.settings:
            return str(self.settings[name])
        column = "ratio" if name == "labeled_ratio" else name
        return next((found for row in self.rows if (found := getattr(row, column, ""))), "")

    @property
    def classes(self) -> tuple[str, ...]:
        classes = self.record.get("classes")
        if isinstance(classes, list) and all(isinstance(name, str) for name in classes):
            return tuple(classes)
        return self.score_files[0].classes if self.score_files else ()

    @property
    def data(self) -> str:
        """The data set: its folder's name, because one kind of data set may lie in several folders."""
        path = self.settings.get("dataset_path")
        return Path(path).name if isinstance(path, str) and Path(path).name else str(self.record.get("dataset", ""))

    @property
    def method(self) -> str:
        """The method's name for people."""
        return METHODS.get(self.setting("method"), self.setting("method"))

    @property
    def last_written(self) -> time.struct_time:
        """When the last row of metrics.csv came."""
        return time.localtime((self.path / "metrics.csv").stat().st_mtime)

    @property
    def epochs_done(self) -> int:
        return 0 if self.metrics is None else int(self.metrics["epoch"].max())

    @property
    def epochs_planned(self) -> int | None:
        planned = self.settings.get("nepochs")
        return planned if type(planned) is int else None

    def may_have(self, row: Row) -> bool:
        """Whether a row of a log_df.csv tells of this run, as far as both say."""
        if row.folder != self.name or self._other_table(row):
            return False
        if self.classes and row.by_class and not row.occurring <= set(self.classes) <= set(row.by_class):
            return False
        said = zip(("method", "labeled_ratio", "backbone", "seed"), row.trained[1:], strict=True)
        return all(str(self.settings.get(name, value)) == value for name, value in said if value)

    def _other_table(self, row: Row) -> bool:
        """Whether this run's own scores name other tables, which are there to be read."""
        tables = {file.row.table for file in self.score_files}
        return bool(tables) and row.table not in tables and any(table.is_file() for table in tables)


def find_runs(folders: Sequence[Path]) -> list[Path]:
    """The runs in and below the folders, in the order of their names.

    Raises:
        InputError: one of the folders is not there.
    """
    found: dict[Path, None] = {}
    for folder in folders:
        if not folder.is_dir():
            raise InputError(f"no folder: {folder}: expected one that runs wrote into; name one such as output_voc")
        for place, below, files in os.walk(folder):
            if any(sign in files for sign in SIGNS) or any(Path(place).glob(SCORES)):
                found[Path(place).resolve()] = None
            below[:] = sorted(name for name in below if name not in OWN_FOLDERS and not name.startswith("."))
    return list(found)


def read_run(path: Path) -> Run:
    """Reads config.json, metrics.csv and scores."""
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
    """metrics.csv as numbers, one row per epoch; None before the first epoch is over. InputError if it is damaged."""
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
    """Adds to `problems` what only all parts together tell."""
    last = max((row.epoch for row in run.rows), default=0)
    if run.metrics is not None and last > run.epochs_done:
        run.problems.append(
            f"scores of epoch {last}, but metrics.csv ends with epoch {run.epochs_done}: left here by an earlier run?"
        )


def _without_folder(error: Exception, path: Path) -> str:
    """The error in one line, without the run's own folder."""
    return " ".join(str(error).split()).replace(f"{path}{os.sep}", "")
