"""Checks of all that training will need, made before a device is touched."""

import re

from torch import nn

from furnace.config.arguments import note
from furnace.config.completion import PLACEHOLDERS, Student
from furnace.config.experiment import NETWORK_FIELDS, Experiment
from furnace.config.settings import Settings
from furnace.data.splits import first_in_both
from furnace.engine.files import require_writable
from furnace.errors import InputError
from furnace.network.choice import PUBLISHED, build_network, require_published
from furnace.network.deeplabv3plus import DeepLabV3Plus
from furnace.network.fit import explained, fault_of_own, require_size, without_values
from furnace.network.library import LibraryNetwork, PairError
from furnace.network.pretrained import check_published_weights, check_weights
from furnace.network.protocol import takes
from furnace.semi.ensemble import NETWORKS, STUDENTS, predictors_of


def check_training(experiment: Experiment) -> None:
    """Checks everything that training and the evaluation after it will need.

    Raises:
        InputError: epochs, weights, a list or a file is missing; lists overlap or are shorter than a batch; the
            evaluation asks for predictors or epochs that there will not be; or OUTPUT_PATH cannot be written.
    """
    check_start(experiment)
    check_data(experiment)
    check_evaluation_afterwards(experiment)
    for path in (experiment.settings.OUTPUT_PATH, experiment.settings.snapshot_dir):
        require_writable(path)
    for line in without_effect(experiment):
        note(line)


def check_data(experiment: Experiment) -> None:
    """Checks that the files that the lists name are there, and that the lists are long enough.

    Raises:
        InputError: a file is missing; lists overlap, or are shorter than a batch or the warm-up.
    """
    settings, labeled, unlabeled = experiment.settings, experiment.split("labeled"), experiment.split("unlabeled")
    labeled.check_files(with_labels=True)
    unlabeled.check_files(with_labels=False)
    if shared := first_in_both(labeled, unlabeled):
        raise InputError(
            f"labelled and unlabelled lists overlap: {shared} is in {labeled.files.path} and {unlabeled.files.path}; "
            "expected an image in one of them; mend the lists, or draw new ones with `python -m furnace prepare split`"
        )
    per_epoch = experiment.iterations_per_epoch
    if per_epoch == 0:
        raise InputError(
            f"batch_size {settings.batch_size} is larger than both lists "
            f"({len(labeled.files)} labelled, {len(unlabeled.files)} unlabelled); lower batch_size"
        )
    if settings.warmup_iterations > (iterations := experiment.epochs * per_epoch):
        raise InputError(
            f"warmup_iterations: expected at most the {iterations} iterations of the run "
            f"({experiment.epochs} epochs of {per_epoch}), found {settings.warmup_iterations}; lower it"
        )
    if experiment.needs_validation_images:
        experiment.split("val").check_files(with_labels=True)


def without_effect(experiment: Experiment) -> list[str]:
    """Says which settings were set by hand, but change nothing in this training, and why."""
    settings = experiment.settings
    unasked = [
        name
        for name in NETWORK_FIELDS
        if name != "image_size" and not takes(experiment.build_network, name.removesuffix("_2"))
    ]
    idle = experiment.idle_settings() | dict.fromkeys(unasked, "with a network.py that does not ask for it")
    unknown = re.findall(r"\{\w+\}", str(settings.OUTPUT_PATH))  # what stands for another setting is replaced
    known = ", ".join(PLACEHOLDERS)
    return [f"{name} has no effect {why}" for name, why in idle.items() if name in experiment.explicit] + [
        f"{name} in OUTPUT_PATH stands for nothing, as {known} would" for name in unknown
    ]


def check_start(experiment: Experiment, with_networks: bool = True) -> None:
    """Checks what takes only a moment: that epochs, weights and both lists are there.

    Args:
        experiment: what is about to be trained.
        with_networks: whether its networks and their weights are looked at, which takes a second or two unless they
            are the published ones.

    Raises:
        InputError: one of them is missing, the weights are those of another network, or there are no unlabelled images
            although the method learns from them.
    """
    settings = experiment.settings
    if settings.nepochs is None:
        raise InputError(
            f"labeled_ratio: {settings.labeled_ratio} has no number of epochs of its own in config.py; set nepochs"
        )
    if settings.backbone_norm == "frozen" and any(each.pretrained_model == "none" for each in settings.students):
        raise InputError(
            "backbone_norm=frozen: expected pretrained weights, whose statistics the norms keep, found "
            "pretrained_model=none; set pretrained_model, or backbone_norm=batch"
        )
    if with_networks:
        check_networks(experiment)
    experiment.split("labeled")
    unlabeled = experiment.split("unlabeled").files
    if len(unlabeled) == 0 and experiment.method.labellers != "none":
        without = "labellers=none" if settings.labellers else "method=supervised"
        raise InputError(
            f"method {settings.method}: expected unlabelled images, found none in {unlabeled.path}; "
            f"set {without} or another labeled_ratio"
        )


def check_networks(experiment: Experiment) -> None:
    """Checks that both students' networks can be built, take images of `image_size`, and take the weights.

    Raises:
        InputError: they do not.
    """
    for name in ("decoder", "decoder_2"):
        if name in experiment.explicit and not takes(experiment.build_network, "decoder"):
            raise InputError(
                f"{name}: {experiment.code.path('network.py')} builds its own network and does not ask for a decoder; "
                f"leave {name} unset, or take furnace.network.choice.build_network there"
            )
    for number, student in enumerate(experiment.settings.students, 1):
        try:
            if student.decoder == PUBLISHED and experiment.build_network is build_network:
                # Its name tells all. To build it without values would take longer than all else before training.
                require_published(student.backbone)
                check_published_weights(student.pretrained_model, student.backbone, student.width)
            else:
                network = _network_that_fits(experiment, number, student)
                check_weights(network, student.pretrained_model, student.backbone, student.width)
        except InputError as error:
            raise (error if number == 1 else InputError(f"student 2 (the settings that end in _2): {error}")) from None


def check_image_size(experiment: Experiment) -> None:
    """Checks that the networks of a trained run take windows of `image_size`, where that is set to another value.

    Raises:
        InputError: they do not.
    """
    if "image_size" in experiment.explicit:
        for number, student in enumerate(experiment.settings.students, 1):
            if student.decoder != PUBLISHED or experiment.build_network is not build_network:
                _network_that_fits(experiment, number, student)


def _network_that_fits(experiment: Experiment, number: int, student: Student) -> nn.Module:
    """Returns a student's network, without values, once it is clear that it takes images of `image_size`."""
    size, classes = experiment.settings.image_size, experiment.dataset.num_classes
    try:
        network = without_values(lambda: experiment.network(number))
    except PairError as error:
        raise explained(error, student.decoder, student.backbone) from None
    if experiment.build_network is not build_network:
        _require_new_parameters(experiment, number, network)
    if isinstance(network, LibraryNetwork):
        require_size(network, student.decoder, student.backbone, size, classes)
    elif not isinstance(network, DeepLabV3Plus) and fault_of_own(network, size, classes):
        # Many a network looks at values, which it has not got there. So it is asked with values before it is refused.
        fault = fault_of_own(experiment.network(number), size, classes)
        if fault:
            raise InputError(f"{experiment.code.path('network.py')}: {fault}")
    return network


def _require_new_parameters(experiment: Experiment, number: int, network: nn.Module) -> None:
    """Raises InputError if the experiment's own build_network would make students that share parameters."""
    next_ones = set(without_values(lambda: experiment.network(number)).parameters())
    shared = next((name for name, parameter in network.named_parameters() if parameter in next_ones), None)
    if shared:
        raise InputError(
            f"{experiment.code.path('network.py')}: expected build_network to return new parameters each time, found "
            f"{shared} again in the next network; make every module within build_network"
        )


def check_evaluation_afterwards(experiment: Experiment) -> None:
    """Checks what evaluation would find out only after days of training; with `eval_epochs=none` there is none.

    Raises:
        InputError: it asks for predictors or epochs that there will not be.
    """
    settings = experiment.settings
    if settings.eval_epochs == "none":
        return
    possible = predictors_of(NETWORKS if experiment.method.labellers == "teachers" else STUDENTS)
    for code in settings.ensemble:
        if code not in ("all", *possible):
            raise InputError(
                f"ensemble: {code} needs teachers, method {settings.method} has none; choose v0, v0_2, v2 or all"
            )
    saved_predictor(settings.save_predictions, possible if "all" in settings.ensemble else settings.ensemble)
    if isinstance(settings.eval_epochs, tuple):
        kept = kept_epochs(settings, experiment.epochs)
        lost = [epoch for epoch in settings.eval_epochs if epoch not in kept]
        if lost:
            raise InputError(
                f"eval_epochs: epoch {lost[0]} will have no snapshot when training ends, there will be "
                f"{', '.join(map(str, kept))}; change eval_epochs, snapshot_iter or keep_snapshots"
            )


def saved_predictor(wanted: str, predictors: tuple[str, ...]) -> str | None:
    """Returns the predictor whose labels are written, None if none are; `auto` takes v3, else v2, else the first.

    Raises:
        InputError: the one asked for is not among the predictors that are evaluated.
    """
    if wanted == "none":
        return None
    if wanted == "auto":
        return next((code for code in ("v3", "v2") if code in predictors), predictors[0])
    if wanted not in predictors:
        raise InputError(
            f"save_predictions: {wanted} is not evaluated; expected one of {', '.join(predictors)}; add it to ensemble"
        )
    return wanted


def kept_epochs(settings: Settings, last: int) -> list[int]:
    """Returns the epochs whose snapshots will be there when training ends with epoch `last`."""
    saved = saved_epochs(settings, last)
    return saved if settings.keep_snapshots == "all" else saved[-max(2, settings.keep_snapshots) :]


def saved_epochs(settings: Settings, last: int) -> list[int]:
    """Returns the epochs after which a run of `last` epochs writes a snapshot."""
    return [epoch for epoch in range(1, last + 1) if epoch % settings.snapshot_iter == 0 or epoch == last]
