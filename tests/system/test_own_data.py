"""docs/own_data.md is followed word for word: every command it shows is run, in its order, and a network is trained."""

import json
from pathlib import Path

import pandas as pd
from followed import follow
from PIL import Image
from repository import REPOSITORY

from tests.bench.study.weights import make_weights

PAGE = REPOSITORY / "docs/own_data.md"
FEW = "\n## Few labels\n"


def test_the_page_leads_to_a_trained_network(tmp_path: Path) -> None:
    for name in ("furnace", "exp.voc", "exp.camvid"):  # what the page needs of a checkout
        (tmp_path / name).symlink_to(REPOSITORY / name)
    before, few = PAGE.read_text().split(FEW)
    assert "no problem found" in follow(before, tmp_path)
    table = pd.read_csv(tmp_path / "exp.photos/ensemble_teacher+cutmix/log_df.csv").set_index("Ensemble")
    assert len(table) == 7
    assert table.loc["v3", "IoU_ground"] > 60 and table.loc["v3", "IoU_object"] > 50  # chance gives 34 or 0
    colours = Image.open(next((tmp_path / "output_photos").rglob("results_color/*.png"))).convert("RGB").getcolors()
    assert {colour for _, colour in colours} <= {(0, 0, 0), (0, 160, 0)}  # those of classes.csv

    make_weights(weights := tmp_path / "lite0.pth")
    tiny = {"nepochs": "1", "image_size": "32", "batch_size": "16", "eval_scales": "0.25"}
    said = follow(few, tmp_path / "exp.photos/ensemble_teacher+cutmix", pretrained_model=str(weights), **tiny)
    assert "3 runs, 0 of them done" in said and "[3/3] ema 1/4 seed 0" in said
    assert len(pd.read_csv(tmp_path / "exp.photos/lite0/log_df.csv")) == 2 * 3 + 7
    ours = json.loads((tmp_path / "output_photos/lite0_4_EMA/config.json").read_text())["settings"]
    assert ours["cps_weight"] == 0.2 and ours["lists_path"] == str(tmp_path / "DATA/photos")
