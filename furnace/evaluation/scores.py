"""An evaluation's scores go to the terminal, to a text log as published, to log_df.csv, and to OUTPUT_PATH/scores."""

import json
import time
from collections.abc import Iterable, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np

from furnace.config.completion import network_name
from furnace.config.experiment import Experiment
from furnace.config.record import settings_record
from furnace.config.settings import Settings
from furnace.engine.files import write_text, writing
from furnace.evaluation.log_table import append_rows, scales_text, score_columns
from furnace.evaluation.metrics import Scores
from furnace.semi.ensemble import PREDICTORS


def log_path(settings: Settings) -> Path:
    """Returns the path of this evaluation's text log, named as published; all its snapshots share the log."""
    codes = "_".join(settings.ensemble).upper()
    return settings.OUTPUT_PATH / f"val_{time.strftime('%Y_%m_%d_%H_%M_%S')}_ensemble{codes}.log"


def report(
    experiment: Experiment,
    trained: Mapping[str, Any],
    model_file: Path,
    epoch: int,
    confusions: Mapping[str, np.ndarray],
    log_file: Path,
) -> None:
    """Writes one snapshot's scores into OUTPUT_PATH/scores, log_df.csv and the text log, and prints them.

    Args:
        trained: the settings that the run was trained with, as its config.json has them.
        confusions: a confusion matrix (N, N) for each predictor's code.

    Raises:
        InputError: one of these files cannot be written; what comes before it is, and the scores are printed.
    """
    settings, classes = experiment.settings, experiment.dataset.classes
    scores = {code: Scores.from_confusion(confusion) for code, confusion in confusions.items()}
    known = {**settings_record(settings), **trained}
    common = {
        "log_file": log_file.name,
        "folder": settings.OUTPUT_PATH.name,
        "model_file": model_file.name,
        "epoch": str(epoch),
        **{name: str(known[name]) for name in ("method", "labeled_ratio", "seed")},
        "backbone": network_name(known),
        "scales": scales_text(settings.eval_scales),
        "flip": str(int(settings.eval_flip)),
        "evaluated_at": time.strftime("%Y-%m-%d %H:%M:%S"),
    }
    rows = [{**common, "Ensemble": code, **score_columns(found, classes)} for code, found in scores.items()]
    if note := note_of_another_list(experiment, epoch, scores):
        print(note, flush=True)
    try:
        for row in rows:
            _write_score_file(experiment, row, confusions[row["Ensemble"]])
        append_rows(experiment.log_table, rows)
        _add_to_log(log_file, model_file, {code: found.text(classes) for code, found in scores.items()})
    finally:
        print(f"epoch {epoch} of {settings.OUTPUT_PATH.name}: mean IoU in percent")
        for code, found in scores.items():
            print(f"  {code:<5} {100 * found.mean_iou:6.2f}", flush=True)
    print(f"added to {experiment.log_table}", flush=True)


def _add_to_log(log_file: Path, model_file: Path, texts: Mapping[str, str]) -> None:
    """Adds one snapshot's scores to the text log; `texts` has them by the predictor's code."""
    sections = [f"Model: {model_file}\nEnsemble: {code}\n{text}\n" for code, text in texts.items()]
    with writing(log_file):
        before = [log_file.read_text(encoding="utf-8")] if log_file.is_file() else []
    write_text(log_file, "\n".join([*before, *sections]))


def score_file(settings: Settings, epoch: int, code: str) -> Path:
    """Returns where one predictor's scores of one epoch lie, such as OUTPUT_PATH/scores/epoch32_v3.json.

    There is a file for each snapshot, predictor, scales and flip, so that evaluations may run at the same time, and one
    that is repeated replaces only its own files.
    """
    scales = scales_text(settings.eval_scales)
    way = f"_scales{scales.replace(' ', '-')}" if scales != "1" else ""
    return settings.OUTPUT_PATH / "scores" / f"epoch{epoch}_{code}{way}{'_flip' * settings.eval_flip}.json"


def read_scores(experiment: Experiment, epoch: int) -> dict[str, float]:
    """Reads the mean IoU of a run's epoch, in percent by predictor, as far as it was scored in this way.

    The way is scales, flip and the validation list. A file that is damaged counts as none: evaluating again replaces
    it.
    """
    found = {}
    for code in PREDICTORS:
        with suppress(OSError, ValueError, TypeError, KeyError):
            record = json.loads(score_file(experiment.settings, epoch, code).read_text(encoding="utf-8"))
            if "list" not in record or record["list"]["sha256"] == experiment.split("val").files.sha256():
                found[code] = float(record["row"]["mean_IU"])
    return found


def _write_score_file(experiment: Experiment, row: dict[str, str], confusion: np.ndarray) -> None:
    """Writes a row of log_df.csv, its confusion matrix (N, N), the classes, and which list was scored."""
    path = score_file(experiment.settings, int(row["epoch"]), row["Ensemble"])
    record = {
        "row": row,
        "log_table": str(experiment.log_table),
        "dataset": experiment.dataset.name,
        "classes": list(experiment.dataset.classes),
        "palette": [list(colour) for colour in experiment.dataset.palette],
        "list": _scored_list(experiment),
        "confusion": confusion.tolist(),
    }
    write_text(path, json.dumps(record) + "\n")


def _scored_list(experiment: Experiment) -> dict[str, Any]:
    files = experiment.split("val").files
    return {"path": str(files.path), "entries": len(files), "sha256": files.sha256()}


def note_of_another_list(experiment: Experiment, epoch: int, codes: Iterable[str]) -> str:
    """Returns a line if scores of another list are about to be replaced; log_df.csv does not say of which they are."""
    ours = _scored_list(experiment)
    for code in codes:
        with suppress(OSError, ValueError, TypeError, KeyError):
            before = json.loads(score_file(experiment.settings, epoch, code).read_text(encoding="utf-8"))["list"]
            if before["sha256"] != ours["sha256"]:
                return (
                    f"note: {before['entries']} images of {before['path']} were scored before; these scores, of "
                    f"{ours['entries']} images of {ours['path']}, replace theirs"
                )
    return ""
