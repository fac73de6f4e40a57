"""`python -m furnace eval` scores snapshots with any of the seven predictors in one pass over the images."""

from collections.abc import Sequence
from pathlib import Path

from furnace.config.checks import saved_predictor
from furnace.config.experiment import Experiment
from furnace.config.readers import Epochs
from furnace.config.record import read_record, trained_settings
from furnace.data.entries import Split
from furnace.data.learnable import look_at_masks
from furnace.engine.backend import prepare_backends
from furnace.engine.checkpoint import Snapshots
from furnace.engine.distributed import World
from furnace.engine.files import require_writable
from furnace.errors import EXIT_BAD_INPUT, InputError
from furnace.evaluation.gallery import Gallery
from furnace.evaluation.log_table import read_table
from furnace.evaluation.pictures import EvaluationPictures
from furnace.evaluation.scores import log_path, report
from furnace.evaluation.validation import count_confusions, evaluation_networks
from furnace.semi.ensemble import NETWORKS, PREDICTORS, STUDENTS, predictors_of


def evaluate(experiment: Experiment, world: World) -> None:
    """Evaluates every snapshot that `eval_epochs` asks for; rows go to log_df.csv, labels and pictures to OUTPUT_PATH.

    Raises:
        InputError: a snapshot, or a network that a predictor needs, is missing or does not fit; or an image, a label or
            log_df.csv cannot be read; or a folder cannot be written. Pictures that cannot be written cost no scores:
            that is raised in the end.
    """
    settings = experiment.settings
    prepare_backends(settings.deterministic)
    snapshots = Snapshots(settings.snapshot_dir)
    # A training that goes on adds snapshots and removes old ones. All processes must score the same.
    epochs = world.by_main(lambda: chosen_epochs(snapshots, settings.eval_epochs))
    split = experiment.split("val")
    log_file = log_path(settings)
    world.by_main(lambda: check_evaluation(experiment, split))
    note = experiment.note_of_changes() if world.is_main else ""
    if note:
        print(note, flush=True)
    trained = trained_settings(read_record(settings.OUTPUT_PATH))
    unread: list[InputError | None] = []  # of each snapshot that could not be read: why, None where others know it
    unseen: list[InputError] = []  # pictures that could not be written
    for epoch in epochs:
        fault = None
        try:
            predictors = chosen_predictors(settings.ensemble, snapshots.has_teachers(epoch), settings.snapshot_dir)
            networks = evaluation_networks(experiment, world.device, snapshots, epoch, predictors)
        except InputError as error:
            fault = error if epoch in snapshots.epochs() else _removed(epoch, snapshots.folder)
        if world.highest(fault is not None):  # the other snapshots may be whole
            unread.append(fault)
            continue
        if world.is_main and "all" in settings.ensemble and len(predictors) < len(PREDICTORS):
            left_out = ", ".join(code for code in PREDICTORS if code not in predictors)
            print(f"epoch {epoch} has no teachers: {left_out} left out")
        saved = saved_predictor(settings.save_predictions, predictors)
        gallery = Gallery(settings.OUTPUT_PATH, epoch, split, predictors)
        with EvaluationPictures(settings.OUTPUT_PATH, split, predictors, saved) as pictures:
            looks = (pictures.add, gallery.add)
            confusions = count_confusions(experiment, world, split, networks, predictors, looks, title=f"epoch {epoch}")
            if world.is_main:
                pictures.write_panel()
                gallery.remove_others()
        if world.is_main:
            report(experiment, trained, snapshots.students_file(epoch), epoch, confusions, log_file)
        unseen += [*pictures.faults, *gallery.faults]
    if note:  # once more, beside the scores
        print(note, flush=True)
    _raise_faults(world, unread, unseen, len(epochs))


def _removed(epoch: int, folder: Path) -> InputError:
    """Returns the error of a snapshot that was there when this evaluation began, and is not any more."""
    return InputError(
        f"snapshot removed: {folder}: that of epoch {epoch} was there when this evaluation began, and a training that "
        "goes on keeps only the newest; set keep_snapshots higher for it, or evaluate a newer epoch"
    )


def _raise_faults(
    world: World, unread: Sequence[InputError | None], unseen: Sequence[InputError], snapshots: int
) -> None:
    """Ends all processes alike if something was left out, now that all scores are saved.

    Raises:
        InputError: this process met with a fault.
        SystemExit: only others did, and say so.
    """
    if unread:
        first = next(filter(None, unread), None)
        if first and len(unread) < snapshots:
            first = InputError(
                f"{len(unread)} of {snapshots} snapshots could not be scored, the others' scores are saved: {first}"
            )
    elif world.highest(len(unseen)):
        first = None
        if unseen:
            first = InputError(f"the scores are saved, {len(unseen)} of the pictures are not: {unseen[0]}")
    else:
        return
    raise first or SystemExit(EXIT_BAD_INPUT)


def check_evaluation(experiment: Experiment, split: Split) -> None:
    """Raises InputError if images or labels are missing, or if scores could not be written.

    It is called before the first image is scored, so that no work is lost.
    """
    split.check_files(with_labels=True)
    for line in look_at_masks(None, split):
        print(f"note: {line}", flush=True)
    require_writable(experiment.settings.OUTPUT_PATH)
    require_writable(experiment.folder)
    if experiment.log_table.exists():
        read_table(experiment.log_table)


def chosen_epochs(snapshots: Snapshots, wanted: Epochs) -> list[int]:
    """Returns the epochs to evaluate; raises InputError if one has no snapshot."""
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
    """Returns the predictors to score; raises InputError if one needs teachers and the run in `folder` has none."""
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
