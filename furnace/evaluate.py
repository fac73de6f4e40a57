"""`python -m furnace eval`: scores snapshots with any of the seven predictors in one pass over the images."""

import time
from pathlib import Path

import numpy as np
import torch
from tqdm import tqdm

from furnace.data.datasets import Split
from furnace.data.loaders import validation_images
from furnace.engine.backend import autocast, evaluation_dtype, loader_workers, prepare_backends
from furnace.engine.checkpoint import Snapshots
from furnace.engine.distributed import World
from furnace.engine.evaluator import SlidingWindow
from furnace.engine.files import require_writable, write_text
from furnace.engine.results import append_rows, read_table, score_columns
from furnace.errors import InputError
from furnace.experiment import Experiment
from furnace.metrics import Scores, confusion_matrix
from furnace.pictures import colourize, panel, write_png
from furnace.record import plain, read_record
from furnace.semi.ensemble import NETWORKS, PREDICTORS, STUDENTS, Ensemble, predict, predictors_of
from furnace.settings import Settings

PANEL_ROWS = 4  # images shown in panel.png


def evaluate(experiment: Experiment, world: World) -> None:
    """Evaluates every snapshot that `eval_epochs` asks for; rows go to log_df.csv, maps and a panel to OUTPUT_PATH.

    Raises:
        InputError: a snapshot or a network that a predictor needs is missing, or does not fit.
    """
    settings = experiment.settings
    prepare_backends(settings.deterministic, settings.precision)
    snapshots = Snapshots(settings.snapshot_dir)
    epochs = chosen_epochs(snapshots, settings.eval_epochs)
    split = experiment.split("val")
    log_file = log_path(settings)
    world.share_error(lambda: check_evaluation(experiment, split))
    short_names = settings.save_predictions != "none" and stems_are_unique(split)
    for epoch in epochs:
        predictors = chosen_predictors(settings.ensemble, snapshots.has_teachers(epoch), settings.snapshot_dir)
        if world.is_main and "all" in settings.ensemble and len(predictors) < len(PREDICTORS):
            left_out = ", ".join(code for code in PREDICTORS if code not in predictors)
            print(f"epoch {epoch} has no teachers: {left_out} left out")
        confusions = Evaluation(experiment, world, split, predictors, short_names).run(snapshots, epoch)
        if world.is_main:
            report(experiment, snapshots.students_file(epoch), epoch, confusions, log_file)


def check_evaluation(experiment: Experiment, split: Split) -> None:
    """Before the first image is scored: the images are there, and the scores will find a place."""
    split.check_files(with_labels=True)
    require_writable(experiment.settings.OUTPUT_PATH)
    require_writable(experiment.folder)
    if experiment.log_table.is_file():
        read_table(experiment.log_table)


def stems_are_unique(split: Split) -> bool:
    """Whether a prediction can be named as its image without its folders."""
    count = len(split.files)
    return len({split.image_path(number).stem for number in range(count)}) == count


class Evaluation:
    """One pass over a validation list: each network runs once per image, whatever the number of predictors.

    Args:
        short_names: predictions are named without the folders of their images.
    """

    def __init__(
        self, experiment: Experiment, world: World, split: Split, predictors: tuple[str, ...], short_names: bool
    ) -> None:
        self.experiment, self.world, self.split, self.predictors = experiment, world, split, predictors
        self.settings = experiment.settings
        self.saved = saved_predictor(self.settings.save_predictions, predictors)
        self.short_names = short_names

    def run(self, snapshots: Snapshots, epoch: int) -> dict[str, np.ndarray]:
        """Confusion matrices (N, N) by predictor, over the images of all processes."""
        window = self._window(snapshots, epoch)
        num_classes, device = self.experiment.dataset.num_classes, self.world.device
        totals = {
            code: torch.zeros(num_classes, num_classes, dtype=torch.int64, device=device) for code in self.predictors
        }
        rows: list[list[np.ndarray]] = []
        images = validation_images(
            self.split, self.world.rank, self.world.size, loader_workers(self.settings.num_workers, self.world.device)
        )
        share = len(range(self.world.rank, len(self.split.files), self.world.size))
        for number, image, label in tqdm(
            images, total=share, desc=f"epoch {epoch}", unit="image", disable=not self.world.is_main, dynamic_ncols=True
        ):
            scores = window.scores(image)
            truth = torch.from_numpy(label).to(device)
            maps = {code: predict(scores, code).argmax(dim=0) for code in self.predictors}  # each (H, W)
            for code, prediction in maps.items():
                totals[code] += confusion_matrix(prediction, truth, num_classes)
            if self.saved:
                self._save(number, maps[self.saved])
            if self.world.is_main and len(rows) < PANEL_ROWS:
                rows.append(self._panel_row(image, label, scores))
        if self.world.is_main:
            captions = ["image", "truth", *self._panel_predictors().values()]
            write_png(self.settings.OUTPUT_PATH / "panel.png", panel(rows, captions))
        return {code: self.world.sum(total).cpu().numpy() for code, total in totals.items()}

    def _window(self, snapshots: Snapshots, epoch: int) -> SlidingWindow:
        settings, device = self.settings, self.world.device
        needed = {name for code in self.predictors for name in PREDICTORS[code]}
        ensemble = Ensemble(self.experiment.network, with_teachers=any(name.startswith("teacher") for name in needed))
        snapshots.load(epoch, ensemble.networks())
        layout = torch.channels_last if settings.channels_last else torch.contiguous_format
        ensemble.map(lambda network: network.to(device, memory_format=layout).eval())
        dtype = evaluation_dtype(settings.precision, device)

        def in_precision(network):
            def forward(windows):
                with autocast(device, dtype):
                    return network(windows.contiguous(memory_format=layout))

            return forward

        return SlidingWindow(
            {name: in_precision(network) for name, network in ensemble.networks().items() if name in needed},
            self.experiment.dataset.num_classes,
            settings.image_size,
            scales=settings.eval_scales,
            flip=settings.eval_flip,
            device=device,
        )

    def _save(self, number: int, prediction: torch.Tensor) -> None:
        """Index and colour PNGs, named as the image."""
        indices = prediction.to(torch.uint8).cpu().numpy()
        path = self.split.image_path(number)
        below = path.relative_to(self.split.root).with_suffix("").parts
        name = f"{path.stem if self.short_names else '_'.join(below)}.png"
        output = self.settings.OUTPUT_PATH
        write_png(output / "results" / name, indices)
        write_png(output / "results_color" / name, colourize(indices, self.experiment.dataset.palette))

    def _panel_predictors(self) -> dict[str, str]:
        """Predictors and their captions: single networks first, the largest ensemble last."""
        singles = {PREDICTORS[code][0]: code for code in self.predictors if len(PREDICTORS[code]) == 1}
        shown = {singles[name]: name.replace("_", " ") for name in NETWORKS if name in singles}
        together = max(self.predictors, key=lambda code: len(PREDICTORS[code]))
        return shown if together in shown else {**shown, together: "together"}

    def _panel_row(self, image: np.ndarray, label: np.ndarray, scores: dict[str, torch.Tensor]) -> list[np.ndarray]:
        palette = self.experiment.dataset.palette
        maps = (predict(scores, code).argmax(dim=0).cpu().numpy() for code in self._panel_predictors())
        return [image, colourize(label, palette), *(colourize(prediction, palette) for prediction in maps)]


def chosen_epochs(snapshots: Snapshots, wanted: str | tuple[int, ...]) -> list[int]:
    """The epochs to evaluate; InputError if one has no snapshot."""
    there = snapshots.epochs()
    if wanted == "none":
        return []
    if not there:
        raise InputError(
            f"no snapshot found: {snapshots.folder / 'snapshot'}: expected model_epochN.pth; "
            "train first, or set method, OUTPUT_PATH or snapshot_dir to the run's"
        )
    if wanted == "last":
        return there[-1:]
    if wanted == "all":
        return there
    missing = [epoch for epoch in wanted if epoch not in there]
    if missing:
        raise InputError(
            f"eval_epochs: no snapshot of epoch {missing[0]} in {snapshots.folder}; "
            f"there are {', '.join(map(str, there))}"
        )
    return list(wanted)


def chosen_predictors(wanted: tuple[str, ...], has_teachers: bool, folder: Path) -> tuple[str, ...]:
    """The predictors to score; InputError if one was named that needs teachers where there are none."""
    possible = predictors_of(NETWORKS if has_teachers else STUDENTS)
    if "all" in wanted:
        return possible
    for code in wanted:
        if code not in possible:
            raise InputError(
                f"ensemble: {code} needs teachers, but {folder / 'ema_snapshot'} has none for this epoch "
                f"(CPS and supervised runs have none); choose one of {', '.join(possible)} or all"
            )
    return tuple(dict.fromkeys(wanted))


def saved_predictor(wanted: str, predictors: tuple[str, ...]) -> str | None:
    """The predictor whose maps are written: the one asked for; by itself v3, else v2, else the only one."""
    if wanted == "none":
        return None
    if wanted == "auto":
        return next((code for code in ("v3", "v2") if code in predictors), predictors[0])
    if wanted not in predictors:
        raise InputError(
            f"save_predictions: {wanted} is not evaluated; expected one of {', '.join(predictors)}; add it to ensemble"
        )
    return wanted


def log_path(settings: Settings) -> Path:
    """One text log for all snapshots of this evaluation, named as published."""
    codes = "_".join(settings.ensemble).upper()
    return settings.OUTPUT_PATH / f"val_{time.strftime('%Y_%m_%d_%H_%M_%S')}_ensemble{codes}.log"


def report(
    experiment: Experiment, model_file: Path, epoch: int, confusions: dict[str, np.ndarray], log_file: Path
) -> None:
    """Prints the scores, adds them to the published log and to log_df.csv."""
    settings, classes = experiment.settings, experiment.dataset.classes
    trained = read_record(settings.OUTPUT_PATH).get("settings", {})
    sections, rows = [log_file.read_text()] if log_file.is_file() else [], []
    print(f"epoch {epoch} of {settings.OUTPUT_PATH.name}: mean IoU in percent")
    for code, confusion in confusions.items():
        scores = Scores.from_confusion(confusion)
        print(f"  {code:<5} {100 * scores.mean_iou:6.2f}")
        sections.append(f"Model: {model_file}\nEnsemble: {code}\n{scores.text(classes)}\n")
        rows.append(
            {
                "log_file": log_file.name,
                "folder": settings.OUTPUT_PATH.name,
                "model_file": model_file.name,
                "Ensemble": code,
                "epoch": str(epoch),
                **{
                    name: str(trained.get(name, plain(getattr(settings, name))))
                    for name in ("method", "labeled_ratio", "backbone", "seed")
                },
                "scales": " ".join(f"{scale:g}" for scale in settings.eval_scales),
                "flip": str(int(settings.eval_flip)),
                "evaluated_at": time.strftime("%Y-%m-%d %H:%M:%S"),
                **score_columns(scores, classes),
            }
        )
    write_text(log_file, "\n".join(sections))
    append_rows(experiment.log_table, rows)
    print(f"added to {experiment.log_table}", flush=True)
