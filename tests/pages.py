"""Runs made by hand for a report to show, and what a page holds."""

import json
from collections.abc import Sequence
from html.parser import HTMLParser
from pathlib import Path

import cv2
import numpy as np
import pandas as pd

CLASSES = ("road", "tree & bush", "car")


PALETTE = ((128, 64, 128), (107, 142, 35), (0, 0, 142))


Scored = dict[int, dict[str, float]]  # mean IoU by epoch and predictor


def row(folder: str, epoch: int, predictor: str, mean_iou: float, **others: object) -> dict[str, str]:
    """One of log_df.csv."""
    entry = {
        "log_file": "val.log",
        "folder": folder,
        "model_file": f"model_epoch{epoch}.pth",
        "mean_IU": f"{mean_iou:.3f}",
        "mean_IU_no_back": "50.000",
        "mean_pixel_ACC": "90.000",
        "Ensemble": predictor,
        "epoch": epoch,
        "method": "ema",
        "labeled_ratio": 8,
        "backbone": "resnet18_v1c",
        "scales": "1",
        "flip": 0,
        "seed": 0,
        "evaluated_at": "2026-01-01 12:00:00",
        **{f"IoU_{name}": f"{10 * number + 5:.3f}" for number, name in enumerate(CLASSES)},
    }
    return {name: str(value) for name, value in {**entry, **others}.items()}


def write_log(path: Path, rows: Sequence[dict[str, str]]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    pd.DataFrame(rows).to_csv(path, index=False)


def write_run(path: Path, epochs: int = 3, **settings: object) -> Path:
    """A run that has come to an epoch, without scores."""
    path.mkdir(parents=True)
    known = {"method": "ema", "labeled_ratio": 8, "backbone": "resnet18_v1c", "seed": 0, "nepochs": 3, "width": 0.25}
    record = {
        "experiment": "ensemble_teacher+cutmix",
        "dataset": "voc",
        "classes": list(CLASSES),
        "settings": {**known, "dataset_path": "/data/streets", "cps_ramp": [0.0, 0.0], **settings},
        "versions": {"torch": "2.0"},
        "git_commit": "0123456789abcdef",
        "effective": {"learning_rate": 0.02},
    }
    (path / "config.json").write_text(json.dumps(record))
    lines = ["epoch,iteration,loss,loss_sup_1,loss_sup_2,loss_cross_1,loss_cross_2"]
    lines += [f"{epoch},{7 * epoch},{4 / epoch},{2 / epoch},{2 / epoch},0,0" for epoch in range(1, epochs + 1)]
    (path / "metrics.csv").write_text("\n".join(lines))
    return path


def write_scores(path: Path, table: Path, entry: dict[str, str], confusion: Sequence[Sequence[int]]) -> None:
    """One file of a run's scores."""
    record = {"row": entry, "log_table": str(table), "dataset": "voc", "classes": CLASSES, "palette": PALETTE}
    (path / "scores").mkdir(exist_ok=True)
    name = f"epoch{entry['epoch']}_{entry['Ensemble']}.json"
    (path / "scores" / name).write_text(json.dumps({**record, "confusion": confusion}))


def write_gallery(path: Path, epoch: int, name: str = "street.jpg") -> None:
    folder = path / "gallery" / f"epoch{epoch}"
    folder.mkdir(parents=True)
    cv2.imwrite(str(folder / "0_image.jpg"), np.full((40, 60, 3), 90, np.uint8))
    cv2.imwrite(str(folder / "0_disagreement.png"), np.full((40, 60, 3), 200, np.uint8))
    cells = [{"caption": what, "file": f"0_{what}.{end}"} for what, end in (("image", "jpg"), ("disagreement", "png"))]
    (folder / "0.json").write_text(json.dumps({"name": name, "disagreement": 0.125, "networks": 4, "cells": cells}))


class Page(HTMLParser):
    """What a page refers to, and the texts of the cells of its tables by id."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.tags: list[str] = []
        self.addresses: list[str] = []
        self.tables: dict[str, list[list[str]]] = {}
        self._table: list[list[str]] = []
        self._in_cell = False
        self.feed(text)

    def handle_starttag(self, tag: str, attributes: list) -> None:
        found = dict(attributes)
        self.tags.append(tag)
        self.addresses += [found[name] for name in ("src", "href", "srcset", "data", "poster") if name in found]
        if tag == "table":
            self._table = self.tables.setdefault(found.get("id", f"table {len(self.tables)}"), [])
        elif tag == "tr":
            self._table.append([])
        elif tag in ("td", "th"):
            self._table[-1].append("")
            self._in_cell = True

    def handle_endtag(self, tag: str) -> None:
        self._in_cell = self._in_cell and tag not in ("td", "th")

    def handle_data(self, data: str) -> None:
        if self._in_cell:
            self._table[-1][-1] = f"{self._table[-1][-1]} {data.strip()}".strip()


NASTY = "<script>alert(1)</script>"


NASTY_FOLDER = NASTY.replace("/", "")


def write_three_seeds(root: Path) -> Path:
    """Three runs that differ by their seed, and one CPS run; scores in log_df.csv."""
    rows = []
    for seed, (first, last) in enumerate([(70.0, 60.0), (40.0, 63.0), (50.0, 69.0)]):
        write_run(root / f"output_voc/ema_{seed}", seed=seed)
        rows += [row(f"ema_{seed}", 1, "v3", first, seed=seed), row(f"ema_{seed}", 3, "v3", last, seed=seed)]
        rows += [row(f"ema_{seed}", 3, "v2", last - 10, seed=seed)]
    write_run(root / "output_voc/org", method="org")
    rows += [row("org", 3, "v2", 55.0, method="org"), row("org", 3, "v0", 54.0, method="org")]
    write_log(root / "exp.voc/ensemble/log_df.csv", rows)
    return root / "output_voc"
