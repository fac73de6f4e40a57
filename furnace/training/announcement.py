"""What a run says when it starts: what decides its result goes to the screen, everything goes to config.json."""

from collections.abc import Mapping
from typing import Any

from torch import nn

from furnace.config.completion import network_name
from furnace.config.experiment import OF_LABELS, Experiment
from furnace.config.record import last_start, read_record, settings_record, software_record, write_record
from furnace.config.settings import FIELDS, text_of
from furnace.data.learnable import look_at_masks, shared_images
from furnace.errors import say_note
from furnace.training.learner import Learner


def announce(experiment: Experiment, learner: Learner, iterations_per_epoch: int, start: int) -> None:
    """Writes config.json and prints a summary; `start` is the iteration that the run begins with or goes on from."""
    settings, world = experiment.settings, learner.world
    effective = {
        "learning_rate": learner.base_rate,
        "backbone_learning_rate": _backbone_rate(learner),
        "weight_decay": settings.weight_decay,
        "processes": world.size,
        "batch_size_per_process": settings.batch_size // world.size,
        "iterations_per_epoch": iterations_per_epoch,
        "iterations": learner.iterations,
        "precision": str(learner.dtype).removeprefix("torch."),
        "device": str(world.device),
    }
    record = {
        "experiment": experiment.folder.name,
        "experiment_folder": str(experiment.folder),
        "code": experiment.code.digests(),
        "dataset": experiment.dataset.name,
        "classes": list(experiment.dataset.classes),
        "settings": settings_record(settings),
        **software_record(),
        "weights": learner.weights,
        "iteration": start,
        "effective": effective,
        "lists": _lists(experiment),
    }
    if start > 0:
        _note_changes(last_start(read_record(settings.OUTPUT_PATH)), record)
    write_record(settings.OUTPUT_PATH, record, goes_on=start > 0)
    labeled, unlabeled = len(experiment.split("labeled").files), len(experiment.split("unlabeled").files)
    method = experiment.method
    print(
        f"{settings.method}: labellers {method.labellers}, view {method.view}, "
        f"{network_name(record['settings'])} width {settings.width:g}\n"
        f"weights: {learner.weights}\n"
        f"1/{settings.labeled_ratio}: {labeled} labelled, {unlabeled} unlabelled images"
        f"{_ratio_note(settings.labeled_ratio, labeled, unlabeled)}\n"
        f"batch {settings.batch_size} = {world.size} x {effective['batch_size_per_process']}, "
        f"{said_of_optimization(learner)}\n"
        f"crops of {settings.image_size} pixels of images at {text_of(settings.train_scales)} of their size"
        f"{said_of_pairs(experiment)}\n"
        f"{effective['precision']} on {world.device}\n"
        f"{experiment.epochs} epochs of {iterations_per_epoch} iterations, from iteration {start}\n"
        f"writing to {settings.OUTPUT_PATH}",
        flush=True,
    )


def look_at_data(experiment: Experiment) -> None:
    """Says in a line each what cannot be learned from the lists; InputError if nothing can be, or a mask is bad."""
    for line in lines_about_data(experiment):
        print(f"note: {line}", flush=True)


def lines_about_data(experiment: Experiment) -> list[str]:
    """Returns a line about each thing that cannot be learned from the lists.

    Raises:
        InputError: nothing can be learned, or a mask is bad.
    """
    labeled, unlabeled = experiment.split("labeled"), experiment.split("unlabeled")
    val = experiment.split("val") if experiment.needs_validation_images else None
    return look_at_masks(labeled, val) + (shared_images((labeled, unlabeled), val) if val else [])


def said_of_pairs(experiment: Experiment) -> str:
    """Returns the weight of the cross term, and what else decides it and is not at its published value."""
    settings, idle = experiment.settings, experiment.idle_settings()
    values = {
        name: getattr(settings, name)
        for name in ("cps_weight", "cps_ramp", *OF_LABELS, "teacher_norm", "ema_decay")
        if name not in idle
    }
    told = {name: value for name, value in values.items() if name == "cps_weight" or value != FIELDS[name].default}
    words = (f"{name}={text_of(value)}" for name, value in told.items())
    return f"; cross term: {' '.join(words)}" if told else ""


def said_of_optimization(learner: Learner) -> str:
    """Returns by which optimizer students learn and how fast, and what is not at its published value beside that."""
    settings, rate = learner.settings, f"effective learning rate {learner.base_rate:g}"
    if (backbone_rate := _backbone_rate(learner)) is None:
        if settings.backbone_rate_factor != 1:
            say_note("backbone_rate_factor has no effect: no part of the network is called backbone")
    elif backbone_rate != learner.base_rate:
        rate += f" ({backbone_rate:g} for the backbone)"
    parts = [settings.optimizer, rate, f"weight decay {settings.weight_decay:g}"]
    if settings.warmup_iterations:
        parts.append(f"warm-up of {settings.warmup_iterations} iterations")
    if settings.clip_gradients:
        parts.append(f"gradients clipped to a norm of {settings.clip_gradients:g}")
    if settings.backbone_norm == "frozen":
        parts.append("norms of the backbone frozen")
    return ", ".join(parts)


def _backbone_rate(learner: Learner) -> float | None:
    """Returns the effective learning rate of the parts that are called backbone; None if no student has one."""
    students = learner.ensemble.students
    if not any(isinstance(getattr(student, "backbone", None), nn.Module) for student in students):
        return None
    return learner.base_rate * learner.settings.backbone_rate_factor


def _note_changes(before: Mapping[str, Any], now: Mapping[str, Any]) -> None:
    """Says what is no hindrance to going on, but may be an oversight: another folder, another text of config.py."""
    if "code" not in before:  # the run was begun before these were written down
        return
    if (folder := before.get("experiment_folder")) != now["experiment_folder"]:
        print(f"note: this run was begun from {folder}, whose network is the same")
    for name, digest in now["code"].items():
        if name.rpartition("/")[2] == "config.py" and before["code"].get(name) != digest:
            print(f"note: {name} has changed since the run was started last; what decides its result has not")


def _lists(experiment: Experiment) -> dict[str, Any]:
    """The lists that the run uses, by path, with what tells whether another run had the same.

    They come in the order of furnace.config.record.LISTS.
    """
    names = ["labeled", "unlabeled", *(["val"] if experiment.needs_validation_images else [])]
    lists = [experiment.split(name).files for name in names]
    return {str(files.path): {"entries": len(files), "sha256": files.sha256()} for files in lists}


def _ratio_note(ratio: int, labeled: int, unlabeled: int) -> str:
    """What to say where the lists' lengths do not have the ratio that was asked for; nothing where they do.

    A ratio of 1 is every image that has a mask, however many images without one there are beside them.
    """
    found = (labeled + unlabeled) / labeled
    if ratio == 1 or 0.9 * ratio <= found <= 1.1 * ratio:
        return ""
    return f" (note: 1/{found:.1f}, not 1/{ratio}, of them is labelled)"
