"""`python -m furnace report`: its numbers against arithmetic by hand, damaged runs, and the page in a real browser."""

import json
import random
import re
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from pages import (
    CLASSES,
    NASTY,
    NASTY_FOLDER,
    PALETTE,
    Page,
    row,
    write_gallery,
    write_log,
    write_run,
    write_scores,
    write_three_seeds,
)

from furnace.__main__ import main
from furnace.engine import memory
from furnace.report import figures, page
from furnace.report.runs import read_metrics, read_run
from furnace.report.summary import Statistic, ways
from furnace.report.view import mixed_up, status


@pytest.fixture
def report(tmp_path: Path) -> Callable[..., Page]:
    """Makes a report of output_voc and returns its page."""

    def make(*options: str) -> Page:
        out = tmp_path / "report.html"
        assert main(["report", str(tmp_path / "output_voc"), "--out", str(out), *options]) == 0
        return Page(out.read_text(encoding="utf-8"))

    return make


@pytest.fixture
def three_seeds(tmp_path: Path) -> Path:
    return write_three_seeds(tmp_path)


def test_mean_and_deviation_over_seeds_at_the_last_and_at_the_best_epoch(three_seeds: Path, report) -> None:
    made = report()
    heads, *lines = made.tables["across"]
    lines = [dict(zip(heads, line, strict=True)) for line in lines]
    assert [line["method"] for line in lines] == ["CPS", "Ensemble Teacher"]
    cps, ensemble_teacher = lines
    # (60 + 63 + 69) / 3 = 64; squares of -4, -1, 5: 42 / 2 = 21, its root 4.583.
    assert ensemble_teacher["last"] == "64.0 ± 4.6"
    # (70 + 63 + 69) / 3 = 67.333; 2.667², 4.333², 1.667²: 28.667 / 2 = 14.333, its root 3.786.
    assert ensemble_teacher["best"] == "67.3 ± 3.8"
    assert ensemble_teacher["runs"] == "3" and ensemble_teacher["seeds"] == "0, 1, 2"
    assert ensemble_teacher["predictor"] == "v3" and ensemble_teacher["labelled"] == "1/8"
    assert ensemble_teacher["data"] == "streets" and ensemble_teacher["epochs"] == "3"
    assert (cps["predictor"], cps["last"], cps["runs"]) == ("v2", "55.0", "1")
    heads, *lines = made.tables["predictors"]
    values = dict(zip(heads, lines[1], strict=True))
    assert values["v2"] == "54.0 ± 4.6" and values["v3"] == "64.0 ± 4.6" and values["v0"] == "-"
    assert "published" not in made.tables["across"][0]  # there are no published scores to set beside these


def supervised(root: Path, scores: dict[int, dict[int, float]], name: str = "sup", **settings: object) -> None:
    """Adds supervised runs to those of three_seeds: their mean IoU by seed and epoch."""
    table = root.parent / "exp.voc/ensemble/log_df.csv"
    rows = pd.read_csv(table, dtype=str).to_dict("records")
    for seed, by_epoch in scores.items():
        write_run(root / f"{name}_{seed}", method="supervised", seed=seed, **settings)
        of_run = {"method": "supervised", "seed": seed}
        rows += [row(f"{name}_{seed}", epoch, "v2", value, **of_run) for epoch, value in by_epoch.items()]
    write_log(table, rows)


def minus_supervised(made: Page) -> dict[str, str]:
    heads, *lines = made.tables["across"]
    named = [dict(zip(heads, line, strict=True)) for line in lines]
    return {line["last"]: " ".join(line["minus supervised"].split()) for line in named if "minus supervised" in line}


def test_runs_stand_beside_the_supervised_run_of_the_same_seed(three_seeds: Path, report) -> None:
    supervised(three_seeds, {0: {1: 10.0, 3: 50.0}, 1: {3: 60.0}, 2: {3: 70.0}}, cps_weight=0.1, ema_decay=0.5)
    # 60 - 50, 63 - 60, 69 - 70: mean 4; squares of 6, -1, -5: 62 / 2 = 31, its root 5.568.
    expected = {"60.0 ± 10.0": "-", "64.0 ± 4.6": "+4.0 ± 5.6 0: +10.0, 1: +3.0, 2: -1.0", "55.0": "+5.0 0: +5.0"}
    assert minus_supervised(report()) == expected


def test_a_run_does_not_stand_beside_one_that_is_not_alike(three_seeds: Path, report) -> None:
    assert minus_supervised(report()) == {}
    supervised(three_seeds, {0: {3: 50.0}}, nepochs=4)
    assert minus_supervised(report()) == {}
    supervised(three_seeds, {0: {1: 50.0}, 1: {3: 60.0}, 2: {3: 70.0}}, name="short")  # seed 0 is at its first epoch
    assert minus_supervised(report())["64.0 ± 4.6"] == "+1.0 ± 2.8 1: +3.0, 2: -1.0"
    supervised(three_seeds, {2: {3: 71.0}}, name="again")  # nobody knows which of the two
    assert minus_supervised(report())["64.0 ± 4.6"] == "+3.0 1: +3.0"
    shutil.rmtree(three_seeds / "short_1")  # its settings are not known any more
    assert minus_supervised(report()) == {}


def write_lists(path: Path, labelled: str, unlabelled: str = "d" * 64, validation: str = "e" * 64) -> None:
    """Adds the digests of its lists to a run's config.json."""
    record = json.loads((path / "config.json").read_text())
    digests = {"labeled_1-8.txt": labelled, "unlabeled_1-8.txt": unlabelled, "val.txt": validation}
    record["lists"] = {name: {"entries": 4, "sha256": digest} for name, digest in digests.items()}
    (path / "config.json").write_text(json.dumps(record))


def test_runs_of_other_lists_stand_apart(three_seeds: Path, report, tmp_path: Path) -> None:
    """Those that do not tell which lists they had, here the CPS run, count as if they had the usual ones."""
    supervised(three_seeds, {0: {3: 50.0}, 1: {3: 60.0}, 2: {3: 70.0}})
    for name in ("ema_0", "ema_1", "sup_0", "sup_1", "sup_2"):
        write_lists(three_seeds / name, "a" * 64)
    write_lists(three_seeds / "ema_2", "b" * 64, "c" * 64)
    made = report()
    heads, *lines = made.tables["across"]
    found = {line[heads.index("last")]: line[heads.index("set apart by")] for line in lines}
    other = "other labelled list bbbbbbbb, other unlabelled list cccccccc"
    assert found == {"60.0 ± 10.0": "", "61.5 ± 2.1": "", "69.0": other, "55.0": ""}
    expected = {"60.0 ± 10.0": "-", "61.5 ± 2.1": "+6.5 ± 4.9 0: +10.0, 1: +3.0", "69.0": "-", "55.0": "+5.0 0: +5.0"}
    assert minus_supervised(made) == expected
    # What was scored last counts, not what training looked at.
    path, of_run = three_seeds / "sup_0", {"method": "supervised", "seed": 0}
    write_scores(path, tmp_path / "exp.voc/ensemble/log_df.csv", row("sup_0", 3, "v2", 50.0, **of_run), [[1, 0, 0]] * 3)
    file = path / "scores/epoch3_v2.json"
    file.write_text(json.dumps({**json.loads(file.read_text()), "list": {"sha256": "f" * 64}}))
    made = report()
    heads, *lines = made.tables["across"]
    found = {line[heads.index("last")]: line[heads.index("set apart by")] for line in lines}
    assert found == {
        "50.0": "other validation list ffffffff",
        "65.0 ± 7.1": "",
        "61.5 ± 2.1": "",
        "69.0": other,
        "55.0": "",
    }
    assert minus_supervised(made) == {
        "50.0": "-",
        "65.0 ± 7.1": "-",
        "61.5 ± 2.1": "+3.0 1: +3.0",
        "69.0": "-",
        "55.0": "-",
    }


def test_a_run_whose_folder_is_gone_stands_alone(three_seeds: Path, report) -> None:
    """log_df.csv does not hold all settings that decide a score."""
    shutil.rmtree(three_seeds / "ema_2")
    heads, *lines = report().tables["across"]
    lines = [dict(zip(heads, line, strict=True)) for line in lines]
    found = {(line["last"], line["runs"]) for line in lines if line["method"] == "Ensemble Teacher"}
    assert found == {("61.5 ± 2.1", "2"), ("69.0", "1 (1 without folder here)")}


def test_a_seed_that_counts_twice_is_marked(three_seeds: Path, report, tmp_path: Path) -> None:
    write_scores(three_seeds / "ema_0", tmp_path / "t", row("ema_0", 3, "v3", 60.0), [[1, 0, 0]] * 3)
    shutil.copytree(three_seeds / "ema_0", three_seeds / "copy")
    heads, _, ensemble_teacher = report().tables["across"]
    assert ensemble_teacher[heads.index("seeds")] == "0, 1, 2 ⚠ repeated"


def test_runs_that_differ_by_more_than_their_seed_are_not_averaged(three_seeds: Path, report, tmp_path: Path) -> None:
    write_run(three_seeds / "ramp", seed=4, cps_ramp=[0.25, 0.5])
    write_run(three_seeds / "far", seed=5, epochs=2)
    table = tmp_path / "exp.voc/ensemble/log_df.csv"
    rows = pd.read_csv(table, dtype=str).to_dict("records")
    write_log(table, [*rows, row("ramp", 3, "v3", 20, seed=4), row("far", 2, "v3", 64, seed=5)])
    heads, *lines = report().tables["across"]
    lines = [line for line in lines if line[0] == "Ensemble Teacher"]
    lines = sorted((dict(zip(heads, line, strict=True)) for line in lines), key=lambda line: line["seeds"])
    assert [line["seeds"] for line in lines] == ["0, 1, 2, 5", "4"]
    apart = [line["set apart by"] for line in lines]
    assert apart == ["cps_ramp 0,0", "cps_ramp 0.25,0.5"]
    # (60 + 63 + 69 + 64) / 4 = 64; squares of -4, -1, 5, 0: 42 / 3 = 14, its root 3.742.
    assert lines[0]["last"] == "64.0 ± 3.7" and lines[0]["epochs"].split() == ["⚠", "2-3"]


def test_the_same_scores_in_log_and_run_count_once(three_seeds: Path, report, tmp_path: Path) -> None:
    table = tmp_path / "exp.voc/ensemble/log_df.csv"
    for entry in pd.read_csv(table, dtype=str).to_dict("records"):
        if entry["folder"] == "ema_0":
            write_scores(three_seeds / "ema_0", table, entry, np.eye(3, dtype=int).tolist())
    heads, _, line = report().tables["across"]
    assert line[heads.index("last")] == "64.0 ± 4.6"


def test_a_run_moved_without_its_experiment_brings_its_scores(report, tmp_path: Path) -> None:
    path = write_run(tmp_path / "output_voc/run")
    confusion = [[6, 2, 0], [0, 3, 0], [0, 0, 0]]
    write_scores(path, tmp_path / "gone/log_df.csv", row("run", 3, "v3", 66.0), confusion)
    write_gallery(path, 3)
    made = report()
    assert made.tables["across"][1][2] == "66.0"
    run = read_run(path)
    assert mixed_up(run.score_files[0].confusion, CLASSES) == [("road", "tree & bush", 25.0)]
    assert np.array_equal(figures.percent_of_rows(np.array(confusion)), [[75, 25, 0], [0, 100, 0], [0, 0, 0]])
    text = (tmp_path / "report.html").read_text()
    assert "disagreement: 12.5 % of the pixels" in text and "tree &amp; bush" in text


def test_last_best_and_ways_of_one_run() -> None:
    from furnace.report.rows import as_row

    table = Path("log_df.csv")
    entries = [row("a", epoch, "v3", score) for epoch, score in ((9, 50.0), (10, 48.0), (2, 50.0))]
    entries += [row("a", 10, "v3", 52.0, scales="0.75 1", flip="1")]
    plain, several = ways([as_row(entry, table) for entry in entries])
    assert plain.last("v3").epoch == 10 and plain.best("v3").epoch == 2 and plain.epochs == [2, 9, 10]
    assert page.way_text(several.way) == "scales 0.75, 1 and mirrored"
    published = as_row({"folder": "b", "model_file": "epoch-34.pth", "mean_IU": "72.860", "Ensemble": "V2"}, table)
    assert (published.epoch, published.predictor, published.mean_iou) == (34, "v2", 72.86)
    for broken in ({"mean_IU": "nan"}, {"mean_IU": "101"}, {"Ensemble": "v9"}, {"epoch": "x"}, {"mean_IU": ""}):
        assert as_row({**row("a", 1, "v3", 1.0), **broken}, table) is None
    assert Statistic.of([3.0]) == Statistic(3.0, None, 1)


def test_two_runs_of_one_name_in_two_experiments(report, tmp_path: Path) -> None:
    """Class names tell which experiment's log_df.csv a run's rows stand in."""
    path = write_run(tmp_path / "output_voc/run")
    write_log(tmp_path / "exp.voc/e/log_df.csv", [row("run", 3, "v3", 66.0)])
    write_log(tmp_path / "exp.city/e/log_df.csv", [{**row("run", 3, "v3", 11.0), "IoU_bus": "4.0"}])
    made = report()
    heads, *lines = made.tables["across"]
    assert {(line[heads.index("data")], line[heads.index("last")]) for line in lines} == {
        ("streets", "66.0"),
        ("exp.city", "11.0"),
    }
    assert read_run(path).problems == []


def test_two_runs_of_one_name_and_the_same_settings(report, tmp_path: Path) -> None:
    """Only their own scores tell them apart: log_df.csv holds one of the two."""
    table = tmp_path / "exp.voc/e/log_df.csv"
    for group, score in (("a", 60.0), ("b", 64.0)):
        path = write_run(tmp_path / f"output_voc/{group}/run")
        write_scores(path, table, row("run", 3, "v3", score), [[1, 0, 0]] * 3)
    write_log(table, [row("run", 3, "v3", 64.0)])
    heads, *lines = report().tables["across"]
    assert [line[heads.index("last")] for line in lines] == ["62.0 ± 2.8"]
    assert "are not told apart" not in (tmp_path / "report.html").read_text()
    write_log(table, [row("run", 1, "v3", 30.0), row("run", 3, "v3", 64.0)])
    _, first, *_ = report().tables["across"]
    assert first[heads.index("last")] == "62.0 ± 2.8"
    assert (tmp_path / "report.html").read_text().count("are not told apart") == 2
    for group in "ab":
        shutil.rmtree(tmp_path / f"output_voc/{group}/run/scores")
    heads, *lines = report().tables["across"]  # the table's scores are of one of them, whichever it is
    assert [(line[heads.index("last")], line[heads.index("runs")][0]) for line in lines] == [("64.0", "1")]


def test_running_and_damaged_runs_are_shown_with_what_is_wrong(three_seeds: Path, report, tmp_path: Path) -> None:
    assert status(read_run(write_run(three_seeds / "running", epochs=2))).startswith("2 of 3 epochs")
    begun = write_run(three_seeds / "begun")
    (begun / "metrics.csv").unlink()
    half = write_run(three_seeds / "half")
    (half / "config.json").write_text((half / "config.json").read_text()[:50])
    cut = write_run(three_seeds / "cut")
    (cut / "metrics.csv").write_bytes(b"\x00\xff\xfe")
    (cut / "scores").mkdir()
    (cut / "scores/epoch3_v3.json").write_text("[")
    write_gallery(cut, 3)
    (cut / "gallery/epoch3/0_image.jpg").write_bytes(b"no picture")
    (three_seeds / "no config").mkdir()
    (three_seeds / "no config/metrics.csv").write_text("epoch,loss\n1,nan\nx,3\n")
    write_log(tmp_path / "exp.city/e/log_df.csv", [{"a": "b"}])
    made = report()
    assert made.tables["across"][2][2] == "64.0 ± 4.6"
    text = (tmp_path / "report.html").read_text()
    for line in (
        "damaged file: config.json:",
        "damaged file: metrics.csv: ",
        "damaged file: epoch3_v3.json: ",
        "picture missing or damaged: gallery/epoch3/0_image.jpg",
        "config.json is missing",
        "lacks the column log_file",
        "no epoch known to be over",
    ):
        assert line in text, line
    assert len(re.findall('<section class="run">', text)) == 9


# fmt: off
ODD = (  # what may stand in a damaged file instead of a value
    b"[]", b"{}", b"-1", b"1e999", b"1e308", b"null", b",", b"\xff", b"<b>", b'"\\u0000"', b'"\\ud800"',
    b'"' + b"x" * 5000 + b'"',
)
# fmt: on


@pytest.mark.parametrize("seed", range(12))
def test_no_damage_stops_the_others(report, tmp_path: Path, seed: int) -> None:
    """Every file of a run cut, overwritten, or with another kind of value in it: the report is made."""
    chance = random.Random(seed)
    table = tmp_path / "exp.voc/e/log_df.csv"
    path = write_run(tmp_path / "output_voc/run")
    write_log(table, [row("run", 3, "v3", 66.0)])
    write_scores(path, table, row("run", 3, "v3", 66.0), [[6, 2, 0], [0, 3, 0], [0, 0, 0]])
    write_gallery(path, 3)
    write_run(tmp_path / "output_voc/whole")
    for file in [*path.rglob("*.*"), table]:
        content = file.read_bytes()
        place = chance.randrange(len(content))
        value = chance.choice(ODD)
        parts = re.split(rb"(?<=[:,\[]) ?[^:,\[\]{}]+", content, maxsplit=chance.randrange(1, 9))
        file.write_bytes(
            chance.choice([content[:place], content[:place] + value + content[place + 1 :], value.join(parts), value])
        )
    report()
    assert ">whole</a>" in (tmp_path / "report.html").read_text()


def test_names_are_text(report, tmp_path: Path) -> None:
    path = write_run(
        tmp_path / "output_voc" / NASTY_FOLDER, pretrained_model=NASTY, method='"><img src=x onerror=alert(1)>'
    )
    config = json.loads((path / "config.json").read_text())
    names = [NASTY, "$x_{$", "\x07\ud800 路"]
    (path / "config.json").write_text(json.dumps({**config, "classes": names, "git_commit": NASTY}))
    write_gallery(path, 3, name=NASTY)
    entry = {name: value for name, value in row(NASTY_FOLDER, 3, "v3", 66.0).items() if not name.startswith("IoU")}
    record = {"row": {**entry, **{f"IoU_{name}": "50" for name in names}}, "log_table": NASTY, "dataset": NASTY}
    record |= {"classes": names, "palette": PALETTE, "confusion": [[1, 2, 3]] * 3}
    (path / "scores").mkdir()
    (path / "scores/epoch3_v3.json").write_text(json.dumps(record))
    made = report()
    assert made.tags.count("script") == 1
    assert all(address.startswith(("data:", "#")) for address in made.addresses)


def test_the_page_refers_to_nothing_else(three_seeds: Path, report, tmp_path: Path) -> None:
    write_gallery(three_seeds / "ema_0", 3)
    addresses = report().addresses
    assert sum(address.startswith("data:image/svg+xml") for address in addresses) >= 5
    assert all(address.startswith(("data:", "#")) for address in addresses)
    text = (tmp_path / "report.html").read_text()
    assert "@import" not in text and not re.search(r"url\(|https?://|file:", text)
    anchors = [address[1:] for address in addresses if address.startswith("#")]
    assert anchors and all(f'id="{anchor}"' in text for anchor in anchors)


def test_nothing_to_report_is_one_line_and_status_2(tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    (tmp_path / "output_voc").mkdir()
    assert main(["report", str(tmp_path / "output_voc")]) == 2
    error = capsys.readouterr().err
    assert error.startswith("error: nothing to report: expected runs") and error.count("\n") == 1
    assert main(["report", str(tmp_path / "nowhere")]) == 2
    assert "no folder" in capsys.readouterr().err
    assert not (tmp_path / "output_voc/report.html").exists()


def test_runs_are_found_at_any_depth(report, tmp_path: Path) -> None:
    for name in ("a", "a/b", "group/c", ".hidden/d", "a/results/e"):
        write_run(tmp_path / "output_voc" / name)
    alone = tmp_path / "output_voc/scores_alone"
    alone.mkdir()
    write_scores(alone, tmp_path / "log_df.csv", row("scores_alone", 3, "v3", 66.0), [[1, 0, 0]] * 3)
    report()
    found = re.findall('href="#run-[0-9]+">([^<]+)</a></td>', (tmp_path / "report.html").read_text())
    assert found == ["a", "b", "c", "scores_alone"]


def test_options(three_seeds: Path, tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    write_gallery(three_seeds / "ema_0", 3)
    assert main(["report", str(three_seeds / "ema_0"), "--images", "0"]) == 0
    out = three_seeds / "ema_0/report.html"
    assert str(out) in capsys.readouterr().out
    made = Page(out.read_text())
    assert "street.jpg" not in out.read_text()
    assert [line[2] for line in made.tables["across"][1:]] == ["60.0"]  # nobody asked for the other runs
    other = tmp_path / "other.csv"
    write_log(other, [row("ema_0", 3, "v3", 12.0)])
    assert main(["report", str(three_seeds / "ema_0"), "--log", str(other)]) == 0
    assert Page(out.read_text()).tables["across"][1][2] == "12.0"
    assert main(["report", str(three_seeds / "ema_0"), "--log", str(tmp_path / "none.csv")]) == 2
    assert main(["report", str(three_seeds), "--out", str(tmp_path / "page.pdf")]) == 2
    assert "--out: expected a file that ends in .html" in capsys.readouterr().err
    other.write_text("a,b\n1,2\n")
    (three_seeds / "ema_1/config.json").write_text("{")
    assert main(["report", str(three_seeds), "--log", str(other)]) == 0
    said = capsys.readouterr().err
    assert "other.csv lacks the column log_file" in said and "missing or odd in 1 of 4 runs, such as ema_1" in said


def test_a_table_named_by_a_relative_path_is_the_one_that_a_run_names(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    path, table = write_run(tmp_path / "run"), tmp_path / "exp.voc/e/log_df.csv"
    write_log(table, [row("run", 3, "v3", 60.0)])
    write_scores(path, table, row("run", 3, "v3", 60.0), [[1, 0, 0]] * 3)
    assert main(["report", "run", "--log", "exp.voc/e/log_df.csv"]) == 0
    lines = Page((path / "report.html").read_text()).tables["across"][1:]
    assert len(lines) == 1


def test_scores_found_in_training_have_a_chart_of_their_own(tmp_path: Path) -> None:
    path = write_run(tmp_path / "run")
    assert figures.validation_chart(read_metrics(path / "metrics.csv")) is None
    lines = (path / "metrics.csv").read_text().splitlines()
    cells = [",mIoU_v0,mIoU_v3", ",,", ",40.5,41.5", ",,"]
    (path / "metrics.csv").write_text("\n".join(line + more for line, more in zip(lines, cells, strict=True)))
    svg = figures.validation_chart(read_metrics(path / "metrics.csv"))
    assert ">v0<" in svg and ">v3<" in svg and ">v4<" not in svg
    assert main(["report", str(tmp_path)]) == 0
    assert 'alt="mean IoU found in training, by epoch"' in (tmp_path / "report.html").read_text()


def test_a_page_that_does_not_fit_is_refused_before_pictures_are_read(
    three_seeds: Path, report, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture
) -> None:
    write_gallery(three_seeds / "ema_0", 3)
    monkeypatch.setattr(memory, "free", lambda *_: 1000)
    out = three_seeds.parent / "report.html"
    assert main(["report", str(three_seeds), "--out", str(out)]) == 2
    assert re.search(
        r"error: a page about \d+ runs needs about \d+ kB of memory on cpu, 1 kB are free; "
        r"lower --images, or name fewer runs",
        capsys.readouterr().err,
    )
    assert not out.exists()
    report("--images", "0")
