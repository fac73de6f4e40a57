"""A report of real runs, and its page in a real browser."""

import base64
import shutil
from pathlib import Path

import browser
import pytest
from pages import NASTY, NASTY_FOLDER, Page, row, write_gallery, write_run, write_scores, write_three_seeds
from selenium.webdriver.common.by import By

from furnace.__main__ import main
from furnace.evaluation.metrics import Scores
from furnace.report.runs import read_run
from furnace.semi.ensemble import PREDICTORS


def test_an_evaluation_leaves_what_the_report_shows(run, tmp_path: Path) -> None:
    assert run("train", "nepochs=2") == 0
    assert run("eval", "eval_epochs=all") == 0
    assert run("eval", "eval_flip=1", "eval_scales=0.75,1", "ensemble=v3") == 0
    output = tmp_path / "run"
    found = read_run(output)
    assert found.problems == [] and len(found.score_files) == 2 * len(PREDICTORS) + 1
    for file in found.score_files:
        expected = Scores.from_confusion(file.confusion)
        assert file.row.mean_iou == pytest.approx(100 * expected.mean_iou, abs=1e-3)
        assert file.row.pixel_accuracy == pytest.approx(100 * expected.pixel_accuracy, abs=1e-3)
    assert (output / "scores/epoch2_v3_scales0.75-1_flip.json").is_file()
    assert len(list((output / "gallery/epoch2").glob("*.json"))) == 6
    assert main(["report", str(output)]) == 0
    text = (output / "report.html").read_text()
    made = Page(text)
    assert len(made.tables["across"]) == 1 + 2  # each way of evaluating has its line
    for caption in ("image", "truth", "student 1", "student 2", "teacher 1", "teacher 2", "together (v4)"):
        assert text.count(f"<figcaption>{caption}</figcaption>") == 6
    assert text.count("<figcaption>disagreement: ") == 6
    shutil.rmtree(output / "scores")
    log = next(tmp_path.glob("exp*/log_df.csv"))
    assert main(["report", str(output), "--log", str(log)]) == 0
    assert Page((output / "report.html").read_text()).tables["across"] == made.tables["across"]


@pytest.mark.skipif(not (browser.CHROMIUM and browser.DRIVER), reason="chromium and chromedriver are not installed")
def test_the_page_in_a_real_browser(tmp_path: Path) -> None:
    folder, table = write_three_seeds(tmp_path), tmp_path / "exp.voc/ensemble/log_df.csv"
    write_scores(folder / "ema_0", table, row("ema_0", 3, "v3", 60), [[6, 2, 0], [0, 3, 0], [0, 0, 1]])
    write_gallery(folder / "ema_0", 3)
    write_run(folder / NASTY_FOLDER, pretrained_model=NASTY * 9)
    assert main(["report", str(folder), "--out", str(tmp_path / "report.html")]) == 0
    with browser.chromium(tmp_path / "profile") as chromium:
        for width in (360, 1280):
            browser.show(chromium, tmp_path / "report.html", width)
            assert chromium.get_log("browser") == []
            assert (
                chromium.execute_script("return [...document.images].filter((image) => !image.naturalWidth).length")
                == 0
            )
            assert chromium.execute_script("return document.images.length") > 6
            assert chromium.execute_script("return document.scrollingElement.scrollWidth") <= width
        column = "[...document.querySelectorAll('#across tbody tr')].map((row) => row.cells[2].textContent.trim())"
        button = chromium.find_elements(By.CSS_SELECTOR, "#across th button")[2]
        for direction, expected in (("ascending", ["55.0", "64.0 ± 4.6"]), ("descending", ["64.0 ± 4.6", "55.0"])):
            button.click()
            assert chromium.execute_script(f"return {column}") == expected
            assert chromium.execute_script("return document.querySelectorAll('#across th')[2].ariaSort") == direction
        assert base64.b64decode(chromium.print_page()).startswith(b"%PDF")
        assert chromium.get_log("browser") == []
