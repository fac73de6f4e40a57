"""The study's tables are computed from what is kept, and what is kept differs only in what it says."""

import json
import re
from pathlib import Path

import pandas as pd
import pytest
from repository import REPOSITORY

from furnace.config.experiment import OF_LABELS
from furnace.config.record import filled
from tests.bench.study import tables
from tests.bench.study.kept import Kept
from tests.bench.study.plan import FOLDER, PARTS, SUPERVISED, TITLES, Cell, Part

PAGE = (REPOSITORY / "docs/study.md").read_text(encoding="utf-8")
# What decides nothing in a run of a method; files that were kept before this was left out have it.
IDLE = {
    "supervised": ("view", "cps_weight", "cps_ramp", "teacher_norm", "ema_decay", *OF_LABELS),
    "org": ("ema_decay",),
    "ema": (),
}
SUPERVISED_CELLS = {cell for part in PARTS for cell in part.cells if cell.method == SUPERVISED}
FEW, MANY = Cell("roads", 8, "supervised"), Cell("roads", 8, "ema", ("view=weak",))


@pytest.fixture
def kept(tmp_path: Path) -> dict[str, Kept]:
    """Two cells with three seeds, of which the second cell lacks one."""
    (tmp_path / "roads").mkdir()
    rows, both = [], Kept("roads", tmp_path)
    for cell, seed in ((FEW, 0), (FEW, 1), (FEW, 2), (MANY, 0), (MANY, 2)):
        folder = f"{cell.method}_{seed}"
        both.add({"folder": folder, "method": cell.method, "labeled_ratio": 8, "varied": [*cell.varied], "seed": seed})
        codes = {"v0": 40, "v0_2": 42, "v2": 43} if cell == FEW else {"v0": 1, "v1": 50, "v1_2": 48, "v2": 2, "v3": 51}
        rows += [{"folder": folder, "Ensemble": code, "mean_IU": score + seed} for code, score in codes.items()]
    pd.DataFrame(rows).to_csv(tmp_path / "roads/log_df.csv", index=False)
    return {"roads": Kept("roads", tmp_path)}


def test_scores_are_averaged_over_seeds_and_compared_seed_by_seed(
    kept: dict[str, Kept], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(TITLES, "roads", "Roads")
    part = Part("X", "?", (FEW, MANY), ((MANY, FEW),))
    assert tables.score_table(part, kept).splitlines()[2:] == [
        "| Roads 1/8 | supervised | 41.0 ± 1.0 | 43.0 ± 1.0 | - | - | 44.0 ± 1.0 | - | - |",
        "| Roads 1/8 | Ensemble Teacher, view=weak | 2.0 (2) | - | 51.0 (2) | 49.0 (2) | 3.0 (2) | 52.0 (2) | - |",
    ]
    # One network: (50 + 48) / 2 - (40 + 42) / 2 with seed 0 and with seed 2; two networks: 51 - 43.
    assert tables.difference_table(part, kept).splitlines()[2:] == [
        "| Roads 1/8 | Ensemble Teacher, view=weak | supervised | one network | 0: +8.0, 2: +8.0 | +8.0 (2) |",
        "| Roads 1/8 | Ensemble Teacher, view=weak | supervised | two networks | 0: +8.0, 2: +8.0 | +8.0 (2) |",
    ]


def test_what_nobody_trained_is_counted_and_has_no_rows(kept: dict[str, Kept], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(TITLES, "roads", "Roads")
    none = FEW.varying("view=strong")
    scores, missing = tables.tables(Part("X", "?", (FEW, none), ((none, FEW),)), kept).split("\n\n")
    assert len(scores.splitlines()) == 3 and missing == "Not trained yet: 3 of 6 runs."
    assert tables.tables(Part("X", "?", (none,), ()), kept) == "Not trained yet: 3 of 3 runs."
    assert "Not trained yet: 1 of 6 runs." in tables.tables(Part("X", "?", (FEW, MANY), ()), kept)
    assert "Not trained" not in tables.tables(Part("X", "?", (FEW,), ()), kept)


def test_two_seeds_have_no_deviation_and_more_than_three_are_counted() -> None:
    assert tables.with_deviation([1, 2, 3]) == "2.0 ± 1.0" and tables.with_deviation([1, 2, 3], signed=True)[0] == "+"
    assert tables.with_deviation([1, 2]) == "1.5 (2)" and tables.with_deviation([]) == "-"
    assert tables.with_deviation([1, 1, 3, 3, 2]) == "2.0 ± 1.0 (5)"


def test_the_methods_have_five_seeds_where_it_is_close() -> None:
    assert {cell.seeds for cell in PARTS[0].cells if cell.place == "MSRC-21 1/16"} == {(0, 1, 2, 3, 4)}
    assert Cell("msrc21", 16, "ema", ("view=weak",)).seeds == Cell("camvid", 16, "ema").seeds == (0, 1, 2)


@pytest.mark.parametrize("part", PARTS, ids=lambda part: part.name)
def test_a_part_says_of_each_of_its_cells_what_it_is(part: Part) -> None:
    assert len({(cell.place, cell.title) for cell in part.cells}) == len(part.cells)
    assert {cell for pair in part.differences for cell in pair} <= {*part.cells, *SUPERVISED_CELLS}


def test_a_run_that_is_added_replaces_one_of_its_folder(kept: dict[str, Kept], tmp_path: Path) -> None:
    kept["roads"].add({"folder": "ema_0", "method": "ema", "labeled_ratio": 8, "varied": [], "seed": 0})
    assert Kept("roads", tmp_path).run(MANY, 0) is None
    assert len((tmp_path / "roads/runs.jsonl").read_text().splitlines()) == 5


@pytest.mark.parametrize("part", PARTS, ids=lambda part: part.name)
def test_the_page_has_the_tables_of_what_is_kept(part: Part) -> None:
    kept = {data: Kept(data) for data in TITLES}
    for table in tables.tables(part, kept).split("\n\n"):
        assert table in PAGE, (
            f"docs/study.md: part {part.name}: python -m tests.bench.study --tables prints another one"
        )


def settings_of(run: dict) -> dict[str, object]:
    """The settings that decide a kept run, as if it had been trained today."""
    return {name: value for name, value in filled(run["settings"]).items() if name not in IDLE[run["method"]]}


@pytest.mark.parametrize("data", TITLES)
def test_kept_runs_differ_only_in_what_they_say(data: str) -> None:
    """In method, share of labels, seed, what the cell varies, and the epochs, which make iterations alike."""
    runs = Kept(data).runs
    assert {run["folder"] for run in runs} == Kept(data).scored
    scores = pd.read_csv(FOLDER / data / "log_df.csv")
    assert not scores.duplicated(["folder", "Ensemble"]).any()  # no other epoch, scale or flip is among them
    cells = {cell for part in PARTS for cell in part.cells}
    of_all: dict[str, object] = {}  # what a run does not vary is what it is in the first run that does not vary it
    for run in runs:
        varied = [pair.partition("=")[0] for pair in run["varied"]]
        for name, value in settings_of(run).items():
            if name not in varied:
                of_all.setdefault(name, value)
    for run in runs:
        settings = settings_of(run)
        assert (settings.pop("method"), settings.pop("labeled_ratio")) == (run["method"], run["labeled_ratio"])
        assert settings.pop("seed") == run["seed"] and 850 <= run["iterations"] <= 950
        settings.pop("nepochs")
        for pair in run["varied"]:
            name, text = pair.split("=")
            value = settings.pop(name)
            values = value if isinstance(value, list) else [value]
            assert ",".join(f"{each:g}" if isinstance(each, float) else str(each) for each in values) == text
        assert settings == {name: of_all[name] for name in settings}
        assert Cell(data, run["labeled_ratio"], run["method"], tuple(run["varied"])) in cells
        assert re.fullmatch("[0-9a-f]{40}(-dirty)?", run["git_commit"])
        assert (run["device"], run["precision"]) in {("cpu", "float32"), ("cuda:0", "bfloat16")}
    assert [json.dumps(run) for run in runs] == sorted(json.dumps(run) for run in runs)
