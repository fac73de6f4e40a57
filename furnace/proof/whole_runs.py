"""Promises of whole runs: that they repeat and can be stopped anywhere, and what is made of them afterwards."""

import csv
import gc
import os
import signal
from pathlib import Path

import cv2
import numpy as np
import torch
from torch import Tensor

from furnace.errors import EXIT_RESUBMIT
from furnace.evaluation.evaluate import evaluate
from furnace.evaluation.log_table import read_table
from furnace.evaluation.metrics import MEAN_IOU
from furnace.network.tensors import read_tensors
from furnace.prediction.export import export
from furnace.prediction.inputs import find_sources
from furnace.prediction.predict import predict_sources, require_predictions_alone
from furnace.prediction.trained import Trained, find_trained
from furnace.proof.ground import EPOCHS, REPEATED, Ground
from furnace.proof.outcome import require
from furnace.semi.batch import Batch
from furnace.semi.ensemble import PREDICTORS
from furnace.training.learner import Step
from furnace.training.trainer import Trainer

STOPPED_AT = 4  # an iteration within the first epoch
BEST = "v3"  # the predictor whose labels an evaluation of teachers writes


def repeats(ground: Ground) -> str:
    """The same run twice, with deterministic=1, ends with the same bits."""
    ground.train("again", REPEATED)
    return _same_bits(ground.undisturbed_run, ground.folder / "again")


def goes_on(ground: Ground) -> str:
    """A run that is asked to stop within an epoch, and is started again, ends with the bits of one that was not."""
    asked = False

    def stop_within(trainer: Trainer) -> None:
        step = trainer.learner.step

        def ask_and_step(batch: Batch, iteration: int) -> Step:
            nonlocal asked
            if iteration == STOPPED_AT:
                asked = True
                os.kill(os.getpid(), signal.SIGTERM)
            return step(batch, iteration)

        trainer.learner.step = ask_and_step  # type: ignore[method-assign]  # of this one learner

    require(not ground.start("stopped", REPEATED, stop_within), "a run that came to its end", "one that stops")
    if not asked:  # but by somebody else
        raise SystemExit(EXIT_RESUBMIT)
    gc.collect()  # with the run its lock on the folder
    ground.train("stopped", REPEATED)
    return _same_bits(ground.undisturbed_run, ground.folder / "stopped") + f"; stopped in iteration {STOPPED_AT}"


def scores_of_validation(ground: Ground) -> str:
    """An evaluation of the snapshot finds the scores that the run found while it trained."""
    _evaluate_once(ground)
    table = read_table(ground.copy / "log_df.csv")
    found = dict(zip(table["Ensemble"], table["mean_IU"].astype(float), strict=True))
    with open(ground.undisturbed_run / "metrics.csv", newline="", encoding="utf-8") as file:
        *_, last = csv.DictReader(file)
    for code in PREDICTORS:
        expected = float(last[MEAN_IOU + code])
        require(abs(found.get(code, np.nan) - expected) < 2e-3, f"{code} {found.get(code)}", f"{expected:.3f}")
    return ", ".join(f"{code} {score:.2f}" for code, score in found.items())


def predicts_as_evaluated(ground: Ground) -> str:
    """A prediction labels images as the evaluation did."""
    trained, output = _trained(ground), ground.folder / "predictions"
    split = trained.experiment.split("val")
    images = [split.image_path(number) for number in range(len(split.files))]
    _evaluate_once(ground)
    sources, _ = find_sources([str(path) for path in images])
    require_predictions_alone(output, sources)
    predict_sources(trained, sources, output, probabilities=True, disagreement=True, left_out="")
    different = pixels = 0
    for path in images:
        ours, theirs = (
            _picture(folder / f"{path.stem}.png") for folder in (output / "index", ground.undisturbed_run / "results")
        )
        different, pixels = different + int(np.count_nonzero(ours != theirs)), pixels + theirs.size
    # On a GPU an evaluation scores windows of several images at once, for which other kernels may round otherwise.
    allowed = 0 if ground.device.type == "cpu" else pixels // 1000
    require(different <= allowed, f"{different} of {pixels} pixels with another label", f"at most {allowed}")
    return f"{len(images)} images, {different} of {pixels} pixels with another label"


def exports_the_snapshot(ground: Ground) -> str:
    """An export holds the weights of the snapshot's teachers, bit for bit, and a network takes them."""
    from safetensors.torch import load_file  # an export needs it, other commands do not

    trained, output = _trained(ground), ground.folder / "exported"
    export(trained, output, {"state_dict": ".pth", "safetensors": ".safetensors"})
    for number, member in enumerate(PREDICTORS[BEST], 1):
        saved = read_tensors(ground.undisturbed_run / f"ema_snapshot/ema_branch{number}_epoch{EPOCHS}.pth")["model"]
        for found in (read_tensors(output / f"{member}.pth"), load_file(output / f"{member}.safetensors")):
            require(_equal(found, saved), f"other weights for {member}", "the snapshot's")
            trained.experiment.network().load_state_dict(found)
    return "state_dict and safetensors of both teachers"


def _evaluate_once(ground: Ground) -> None:
    """Evaluates the run that nobody disturbed, unless that has been done."""
    if not (ground.undisturbed_run / "results").is_dir():
        evaluate(ground.experiment(REPEATED, ground.undisturbed_run.name), ground.world)


def _trained(ground: Ground) -> Trained:
    settings = ground.settings(REPEATED, ground.undisturbed_run.name)
    return find_trained(ground.copy, [f"{name}={text}" for name, text in settings.items()], None, None, BEST)


def _same_bits(one: Path, other: Path) -> str:
    """Returns how many tensors of the last snapshots are equal; raises BrokenPromiseError if one is not."""
    states = [_last_state(folder) for folder in (one, other)]
    different = [name for name, value in states[0].items() if not torch.equal(value, states[1][name])]
    require(not different, f"{len(different)} of {len(states[0])} tensors differ, {different[:1]} first", "none")
    return f"{len(states[0])} tensors of students and teachers equal"


def _last_state(run: Path) -> dict[str, Tensor]:
    files = sorted(run.glob(f"*snapshot/*_epoch{EPOCHS}.pth"))
    require(len(files) == 3, f"{len(files)} files of the last epoch", "three")
    return {f"{path.stem} {name}": value for path in files for name, value in read_tensors(path)["model"].items()}


def _equal(found: dict[str, Tensor], expected: dict[str, Tensor]) -> bool:
    return found.keys() == expected.keys() and all(torch.equal(found[name], expected[name]) for name in expected)


def _picture(path: Path) -> np.ndarray:
    picture = cv2.imread(str(path), cv2.IMREAD_UNCHANGED)
    require(picture is not None, f"no {path.name} in {path.parent.name}", "one")
    assert picture is not None
    return picture
