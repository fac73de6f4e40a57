"""What is kept of the study's runs: their scores and their settings, in the repository.

An experiment's `log_df.csv` has the scores, as every evaluation writes them. `runs.jsonl` beside it has a line for each
run: what it differs in, all settings that decide its result, the commit it was trained at and how long that took.
"""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pandas as pd

from tests.bench.study.plan import FOLDER, Cell

Scores = dict[str, float]  # mean IoU in percent by predictor


class Kept:
    """The kept runs of one data set.

    Args:
        data: the name of its experiment's folder.
        folder: where the experiments' folders are.
    """

    def __init__(self, data: str, folder: Path = FOLDER) -> None:
        self.path = folder / data / "runs.jsonl"
        text = self.path.read_text(encoding="utf-8") if self.path.is_file() else ""
        self.runs: list[dict[str, Any]] = [json.loads(line) for line in text.splitlines()]
        table = folder / data / "log_df.csv"
        self._table = pd.read_csv(table) if table.is_file() else pd.DataFrame(columns=["folder", "Ensemble", "mean_IU"])

    @property
    def scored(self) -> set[str]:
        """The folders of the runs that have scores."""
        return set(self._table["folder"])

    def run(self, cell: Cell, seed: int) -> dict[str, Any] | None:
        """Returns what is kept of the run of a cell with this seed."""
        wanted = {"method": cell.method, "labeled_ratio": cell.ratio, "varied": list(cell.varied), "seed": seed}
        return next((run for run in self.runs if wanted.items() <= run.items()), None)

    def scores(self, cell: Cell, seed: int) -> Scores:
        """Returns the scores of one run's last snapshot; nothing if it is not kept."""
        run = self.run(cell, seed)
        if run is None:
            return {}
        rows = self._table[self._table["folder"] == run["folder"]]
        return dict(zip(rows["Ensemble"], rows["mean_IU"].astype(float), strict=True))

    def add(self, run: Mapping[str, Any]) -> None:
        """Writes one more run down, in place of an older one of the same folder."""
        self.runs = [*(each for each in self.runs if each["folder"] != run["folder"]), dict(run)]
        self.runs.sort(key=lambda each: each["folder"])
        self.path.write_text("".join(f"{json.dumps(each)}\n" for each in self.runs), encoding="utf-8")
