"""The study's look at pseudo-labels: what it counts, pixel by pixel, and that it labels as training does."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from runs import tiny_settings

from furnace.config.experiment import read_experiment
from furnace.data.samples import LABELED
from furnace.engine.checkpoint import Snapshots
from furnace.engine.distributed import World
from furnace.evaluation.metrics import Scores, confusion_matrix
from furnace.semi.batch import Batch
from furnace.training.learner import Learner
from tests.bench.study.masks import mask_like
from tests.bench.study.pseudo_labels import PseudoLabels, as_trained, main
from tests.bench.study.tally import Tally

CPU = torch.device("cpu")


def test_counts_are_those_made_pixel_by_pixel() -> None:
    """Two batches of made-up pixels; one class never occurs, one is never said. Unsure pixels are right, others not."""
    tally, pixels = Tally(4, CPU), []
    for count in (300, 200):
        label, other, truth = (torch.randint(low, 3 + low, (count,), dtype=torch.uint8) for low in (0, 0, 1))
        probability = 0.3 + 0.7 * torch.rand(count)
        truth = torch.where((probability < 0.6) & (label > 0), label, truth)
        tally.add(label, probability, other, truth)
        pixels += zip(label.tolist(), probability.tolist(), other.tolist(), truth.tolist(), strict=True)
    bins = [[pixel for pixel in pixels if k / 15 < pixel[1] <= (k + 1) / 15] for k in range(15)]
    assert sum(map(len, bins)) == 500 and not bins[0] and len(bins[14]) > 10

    def right(chosen: list) -> float:
        return 100 * sum(label == truth for label, _, _, truth in chosen) / len(chosen)

    error = 0.0
    for chosen in filter(None, bins):
        confidence = 100 * sum(probability for _, probability, _, _ in chosen) / len(chosen)
        error += len(chosen) / 500 * abs(right(chosen) - confidence)
    sure = [pixel for pixel in pixels if pixel[1] >= 0.8]
    agreed = [pixel for pixel in pixels if pixel[0] == pixel[2]]
    said_1 = [pixel for pixel in pixels if pixel[0] == 1]
    occurs_1 = [pixel for pixel in pixels if pixel[3] == 1]
    both_1 = sum(pixel[3] == 1 for pixel in said_1)
    expected = {
        "pixels": 500,
        "accuracy": right(pixels),
        "confidence": 100 * sum(probability for _, probability, _, _ in pixels) / 500,
        "calibration_error": error,
        "share_0.8": len(sure) / 5,
        "accuracy_0.8": right(sure),
        "agreement": len(agreed) / 5,
        "accuracy_agreed": right(agreed),
        "accuracy_disagreed": right([pixel for pixel in pixels if pixel[0] != pixel[2]]),
        "IoU_b": 100 * both_1 / (len(said_1) + len(occurs_1) - both_1),
        "recall_b": 100 * both_1 / len(occurs_1),
        "said_b": len(said_1) / 5,
        "occurs_b": len(occurs_1) / 5,
        "occurs_a": 0,
        "said_d": 0,
        "recall_d": 0,
    }
    row = tally.row("abcd")
    assert {name: row[name] for name in expected} == pytest.approx(expected, abs=6e-4)
    assert np.isnan(row["recall_a"]) and error > 10 + abs(row["accuracy"] - row["confidence"])


@pytest.mark.parametrize(
    ("image", "known_image", "known_mask", "mask"),
    [
        ("d/images/train/a.jpg", "d/images/train/b.jpg", "d/labels/train/b.png", "d/labels/train/a.png"),
        ("d/train/images/a.jpg", "d/train/images/b.jpg", "d/train/labels/b.png", "d/train/labels/a.png"),
        ("d/x/aachen/a_left.png", "d/x/bonn/b_left.png", "d/y/bonn/b_gt.png", "d/y/aachen/a_gt.png"),
        ("d/a.JPG", "d/bb.JPG", "d/bb_mask.png", "d/a_mask.png"),
    ],
)
def test_masks_lie_where_those_of_labelled_images_do(image: str, known_image: str, known_mask: str, mask: str) -> None:
    assert mask_like(*map(Path, (image, known_image, known_mask))) == Path(mask)


RUNNING = "teacher_norm=running"


@pytest.mark.parametrize(
    "settings", [("method=org",), ("method=org", RUNNING), ("method=ema",), ("method=ema", RUNNING)]
)
def test_labels_are_those_that_training_learns_from(
    settings: tuple[str, ...], straight: Callable[..., Path], experiment: Path, demo_data: Path, tmp_path: Path
) -> None:
    """The labellers of a Learner that goes on from the snapshot say the same of the same views.

    That of a run with teachers knows its norms from config.json alone: the command does not name them.
    """
    run, table = straight(*settings, "keep_snapshots=all"), tmp_path / "table.csv"
    pairs = tiny_settings(demo_data, run)
    assert main([str(experiment), *pairs, "--epochs", "1,3", "--out", str(table)]) == 0
    rows = pd.read_csv(table)
    kinds = ("student",) if "method=org" in settings else ("student", "teacher")
    names = [f"{kind}_{number}" for kind in kinds for number in (1, 2)]
    assert list(zip(rows.epoch, rows.labeller, strict=True)) == [(epoch, name) for epoch in (1, 3) for name in names]

    described = as_trained(read_experiment(experiment, dict(pair.split("=", 1) for pair in (*pairs, *settings))))
    learner = Learner(described, World(), 21)
    Snapshots(run).load(3, learner.ensemble.networks())
    confusions = torch.zeros(2, 21, 21, dtype=torch.int64)
    for views in PseudoLabels(described, None, with_strong=False).views():
        batch = Batch(views.weak, views.truth, (views.weak,) * 2, mask=torch.zeros(4, 1, 32, 32))
        for confusion, said in zip(confusions, learner.algorithm.pseudo_labels(batch), strict=True):
            confusion += confusion_matrix(said.label, views.truth, 21)
    scores = [Scores.from_confusion(confusion.numpy()) for confusion in confusions]
    last = rows.tail(2)
    assert last.pixels.tolist() == confusions.sum((1, 2)).tolist()
    assert last.accuracy.tolist() == pytest.approx([100 * each.pixel_accuracy for each in scores], abs=1e-3)
    assert last.mean_IoU.tolist() == pytest.approx([100 * each.mean_iou for each in scores], abs=1e-3)
    assert last.agreement.nunique() == 1 and rows.accuracy.nunique() > 2


def test_strong_and_mixed_views_are_of_the_same_crops(
    straight: Callable[..., Path], experiment: Path, demo_data: Path, capsys: pytest.CaptureFixture
) -> None:
    run = straight("method=org", "keep_snapshots=all")
    arguments = [str(experiment), *tiny_settings(demo_data, run), "--epochs", "last", "--images", "9"]
    tables = []
    for more in ([], ["--strong"]):
        assert main([*arguments, *more]) == 0
        assert "8 unlabelled images" in capsys.readouterr().out
        tables.append(pd.read_csv(run / "pseudo_labels.csv"))
    assert tables[0].equals(tables[1].head(2)) and [*tables[1].view] == [
        view for view in ("weak", "strong", "weak mixed", "strong mixed") for _ in range(2)
    ]
    assert tables[1].pixels[:4].nunique() == 1 and tables[1].confidence.nunique() == 8

    labels = PseudoLabels(read_experiment(experiment, dict(pair.split("=", 1) for pair in arguments[1:-4])), 8, True)
    places = [labels.plan.place(index) for index in labels.plan.indices(0)]
    seen, _ = labels.samples.labeled(places)
    assert torch.equal(labels.samples.unlabeled(LABELED, places).weak, seen.weak)
    first, again = next(labels.views()), next(labels.views())
    assert all(map(torch.equal, first, again)) and not torch.equal(first.weak, first.strong)

    assert 0 < first.mask.float().mean() < 0.5
    for view, image in (("weak mixed", first.weak), ("strong mixed", first.strong)):
        for row in range(4):
            mask, following = first.mask[row, 0].bool(), (row + 1) % 4
            for mixed, whole in zip(first.of(view), (image, first.truth), strict=True):
                assert torch.equal(mixed[row][..., ~mask], whole[row][..., ~mask])
                assert torch.equal(mixed[row][..., mask], whole[following][..., mask])


def test_missing_masks_are_said_in_one_line(
    straight: Callable[..., Path], experiment: Path, demo_data: Path, tmp_path: Path, capsys: pytest.CaptureFixture
) -> None:
    run, data = straight("method=org", "keep_snapshots=all"), tmp_path / "data"
    data.mkdir()
    for path in demo_data.iterdir():
        (data / path.name).symlink_to(path)
    lists = data / "lists"
    lists.mkdir()
    for path in [*demo_data.glob("*.txt"), *demo_data.glob("*/*.txt")]:
        target = lists / path.relative_to(demo_data)
        target.parent.mkdir(exist_ok=True)
        text = path.read_text()
        target.write_text(text + "train_aug/image/nobody.jpg\n" if "unlabeled" in path.name else text)
    settings = [*tiny_settings(data, run), f"lists_path={lists}"]
    assert main([str(experiment), *settings]) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith("error: expected a mask for each unlabelled image") and "nobody" in line
    assert main([str(experiment), *tiny_settings(demo_data, run), "--images", "3"]) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith("error: expected at least a batch of 4 unlabelled images, found 3 to look at of")
