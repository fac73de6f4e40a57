"""Published scores stand beside those of runs with the same data, network, method and ratio, and beside no others."""

import csv
from pathlib import Path

import pytest
from pages import Page, row, write_log, write_run

from furnace.__main__ import main
from furnace.config.completion import network_name
from furnace.report import published

# From the table that the authors give: mean IoU in percent at 1/16, 1/8, 1/4 and 1/2.
STATED = {
    ("pascal_voc", "resnet50_v1c", "org"): "72.50 74.75 76.40 76.60",
    ("pascal_voc", "resnet50_v1c", "ema"): "72.86 75.20 76.13 76.95",
    ("pascal_voc", "resnet101_v1c", "org"): "75.13 77.72 78.81 79.20",
    ("pascal_voc", "resnet101_v1c", "ema"): "76.04 77.32 79.38 79.69",
    ("city", "resnet50_v1c", "org"): "66.29 68.35 69.17 69.29",
    ("city", "resnet50_v1c", "ema"): "68.03 70.01 72.93 72.84",
    ("city", "resnet101_v1c", "org"): "68.73 69.41 72.36 73.54",
    ("city", "resnet101_v1c", "ema"): "68.73 70.74 73.62 73.73",
}
AS_PUBLISHED = {"dataset_path": "/data/pascal_voc", "backbone": "resnet50_v1c", "width": 1.0}
SOURCE = "(the paper's repository, README)"


def report_of(root: Path, *runs: dict[str, object]) -> Page:
    """The page about runs with these settings, each evaluated with the predictors v1_2 and v3."""
    rows = []
    for number, settings in enumerate(runs):
        write_run(root / f"output_voc/run{number}", **settings)
        told = {name: settings[name] for name in ("method", "labeled_ratio") if name in settings}
        told["backbone"] = network_name(settings)
        rows += [row(f"run{number}", 3, code, 60.0 + number, **told) for code in ("v1_2", "v3")]
    write_log(root / "exp.voc/ensemble/log_df.csv", rows)
    out = root / "report.html"
    assert main(["report", str(root / "output_voc"), "--out", str(out)]) == 0
    page = Page(out.read_text(encoding="utf-8"))
    heads, *lines = page.tables["across"]
    assert [line[heads.index("runs")] for line in lines] == ["1"] * len(runs)  # each run has found its rows
    return page


def published_cells(page: Page) -> dict[tuple[str, str, str], str]:
    """What stands in the column `published`, by method, ratio and mean IoU; empty without such a column."""
    heads, *lines = page.tables["across"]
    named = [dict(zip(heads, line, strict=True)) for line in lines]
    return {
        (line["method"], line["labelled"], line["last"]): line["published"] for line in named if "published" in line
    }


def test_the_table_holds_what_the_authors_state() -> None:
    with open(published.PUBLISHED, newline="", encoding="utf-8") as file:
        found = {
            (line["data"], line["backbone"], line["method"], line["labeled_ratio"]): (
                line["predictor"],
                line["mean_IU"],
                line["source"],
            )
            for line in csv.DictReader(file)
        }
    predictors = {"org": "v0_2", "ema": "v1_2"}
    assert found == {
        (*key, ratio): (predictors[key[2]], score, "the paper's repository, README")
        for key, scores in STATED.items()
        for ratio, score in zip(("16", "8", "4", "2"), scores.split(), strict=True)
    }


def test_they_stand_beside_runs_that_fit_with_the_predictor_that_they_are_of(tmp_path: Path) -> None:
    page = report_of(
        tmp_path,
        AS_PUBLISHED,
        {**AS_PUBLISHED, "method": "org", "labeled_ratio": 16},
        {**AS_PUBLISHED, "method": "supervised"},
        {**AS_PUBLISHED, "backbone": "resnet101_v1c", "labeled_ratio": 2},
        {**AS_PUBLISHED, "dataset_path": "/data/city", "method": "org", "labeled_ratio": 4},
    )
    assert published_cells(page) == {
        ("CPS", "1/4", "64.0"): f"69.17 published, by v0_2 {SOURCE}",
        ("CPS", "1/16", "61.0"): f"72.50 published, by v0_2 {SOURCE}",
        ("supervised", "1/8", "62.0"): "",
        ("Ensemble Teacher", "1/8", "60.0"): f"75.20 published, by v1_2 {SOURCE}",
        ("Ensemble Teacher", "1/2", "63.0"): f"79.69 published, by v1_2 {SOURCE}",
    }
    text = (tmp_path / "report.html").read_text(encoding="utf-8")
    assert "A published score is that of the predictor named beside it, not of this line's." in text


@pytest.mark.parametrize(
    "other",
    [
        {"dataset_path": "/data/demo"},
        {"backbone": "resnet18_v1c"},
        {"backbone": "resnet50"},  # torchvision's stem
        {"width": 0.5},
        {"atrous_rates": [2, 4, 6]},
        {"decoder": "UPerNet"},
        {"backbone_2": "resnet101_v1c"},
        {"labeled_ratio": 1},
        {"labeled_ratio": 32},
        {"labellers": "students"},
        {"view": "weak"},
    ],
)
def test_nothing_is_shown_beside_other_runs(tmp_path: Path, other: dict[str, object]) -> None:
    page = report_of(tmp_path, {**AS_PUBLISHED, **other})
    assert "published" not in page.tables["across"][0]
    assert "published score" not in (tmp_path / "report.html").read_text(encoding="utf-8")


def test_what_is_set_to_its_usual_value_by_hand_is_no_other_method(tmp_path: Path) -> None:
    page = report_of(tmp_path, {**AS_PUBLISHED, "labellers": "teachers", "view": "strong", "decoder": "published"})
    assert list(published_cells(page).values()) == [f"75.20 published, by v1_2 {SOURCE}"]


def test_what_is_not_known_of_a_run_without_a_folder_does_not_count_against_it(tmp_path: Path) -> None:
    write_run(tmp_path / "output_voc/here", **AS_PUBLISHED)
    network = {"backbone": "resnet50_v1c"}
    rows = [row("here", 3, "v3", 60.0, **network), row("gone", 3, "v3", 61.0, **network)]
    rows.append(row("narrow", 3, "v3", 62.0))  # of resnet18_v1c
    write_log(tmp_path / "exp.voc/ensemble/log_df.csv", rows)
    out = tmp_path / "report.html"
    log = str(tmp_path / "exp.voc/ensemble/log_df.csv")
    assert main(["report", str(tmp_path / "output_voc"), "--log", log, "--out", str(out)]) == 0
    beside = f"75.20 published, by v1_2 {SOURCE}"
    assert published_cells(Page(out.read_text(encoding="utf-8"))) == {
        ("Ensemble Teacher", "1/8", "60.0"): beside,
        ("Ensemble Teacher", "1/8", "61.0"): beside,
        ("Ensemble Teacher", "1/8", "62.0"): "",
    }


HEADS = "data,backbone,method,labeled_ratio,predictor,mean_IU,source\n"


def with_table(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, content: bytes | None) -> None:
    monkeypatch.setattr(published, "PUBLISHED", tmp_path / "published.csv")
    if content is not None:
        (tmp_path / "published.csv").write_bytes(content)


def test_a_table_of_ones_own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Saved by a spreadsheet, which puts a mark before the text, and with two scores for one line of the page."""
    lines = 'pascal_voc, resnet50_v1c ,ema,8,v3,71.5,a paper\r\npascal_voc,resnet50_v1c,ema,8,v0,70,"<b>, p. 3"\r\n'
    with_table(tmp_path, monkeypatch, f"\ufeff{HEADS}{lines}".encode())
    (cell,) = published_cells(report_of(tmp_path, AS_PUBLISHED)).values()
    assert " ".join(cell.split()) == "71.5 published, by v3 (a paper) 70 published, by v0 (<b>, p. 3)"


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (None, "expected a table of published scores in UTF-8, found"),
        (b"", "found none; mend the first line"),
        (b"data,method,labeled_ratio,predictor,mean_IU,source\n", "expected the columns data,backbone,method"),
        (HEADS.replace(",", ";").encode(), "with commas between them, found data;backbone"),
        (f"{HEADS}voc,resnet50_v1c,ema,8,v3,71.5\n".encode(), "line 2: expected a value for each of data"),
        (f"{HEADS}voc,resnet50_v1c,ema,8,v3,71,5,a paper\n".encode(), "line 2: expected a value for each of data"),
        (f"{HEADS}voc,,ema,8,v3,71.5,a paper\n".encode(), "line 2: expected a value for each of data"),
        (
            f"{HEADS}voc,r,EMA,8,v3,71.5,a\n".encode(),
            "line 2: method: expected one of supervised, org, ema, found 'EMA'",
        ),
        (f"{HEADS}voc,r,ema,8,v3,71.5,a\nvoc,r,ema,8,v7,1,a\n".encode(), "line 3: predictor: expected one of v0, "),
        (f"{HEADS}voc,r,ema,1/8,v3,71.5,a\n".encode(), "labeled_ratio: expected the N of 1/N, found '1/8'"),
        (f"{HEADS}voc,r,ema,8,v3,high,a\n".encode(), "mean_IU: expected percent from 0 to 100, found 'high'"),
        (f"{HEADS}voc,r,ema,8,v3,nan,a\n".encode(), "mean_IU: expected percent from 0 to 100, found 'nan'"),
        (f"{HEADS}voc,r,ema,8,v3,101,a\n".encode(), "mean_IU: expected percent from 0 to 100, found '101'"),
        (HEADS.encode() + b"voc,r,ema,8,v3,71.5,\xff\n", "expected a table of published scores in UTF-8"),
        (f'{HEADS}voc,r,ema,8,v3,71.5,"a\n'.encode(), "expected a table of published scores in UTF-8"),
    ],
)
def test_a_bad_table_is_refused_in_one_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture, content: bytes | None, message: str
) -> None:
    with_table(tmp_path, monkeypatch, content)
    write_run(tmp_path / "output_voc/run")
    assert main(["report", str(tmp_path / "output_voc"), "--out", str(tmp_path / "report.html")]) == 2
    (line,) = [line for line in capfd.readouterr().err.splitlines() if line.startswith("error: ")]
    assert message in line and str(tmp_path / "published.csv") in line
    assert not (tmp_path / "report.html").exists()
