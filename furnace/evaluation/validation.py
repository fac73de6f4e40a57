"""One pass over a validation list: each network sees each image once, whatever the number of predictors."""

from collections.abc import Callable, Mapping, Sequence
from functools import partial

import numpy as np
import torch
from torch import Tensor, nn

from furnace.config.experiment import Experiment
from furnace.data.entries import Split
from furnace.data.file_list import spread
from furnace.data.loaders import image_bytes, validation_images
from furnace.data.reading import crashes_named
from furnace.engine.backend import autocast, evaluation_dtype, layout, loader_workers, placed
from furnace.engine.bars import bar
from furnace.engine.checkpoint import Snapshots
from furnace.engine.distributed import World
from furnace.engine.shared_memory import require_shared_memory
from furnace.evaluation.batching import in_groups
from furnace.evaluation.metrics import Scores, confusion_matrices
from furnace.evaluation.room import Room
from furnace.evaluation.sliding_window import Network, SlidingWindow
from furnace.semi.ensemble import PREDICTORS, Ensemble, predicted_labels
from furnace.semi.modes import modes_kept

HEADERS = 100  # images whose sizes are looked at before the first one is scored
REMEDY = "lower image_size, score fewer predictors at once (ensemble), or take an image of this size out of the list"

# A Look takes an image's number, the image (H, W, 3), its label (H, W) and what P predictors say (P, H, W), all uint8.
Look = Callable[[int, Tensor, Tensor, Tensor], None]


@crashes_named()
def count_confusions(
    experiment: Experiment,
    world: World,
    split: Split,
    networks: Mapping[str, Network],
    predictors: Sequence[str],
    looks: Sequence[Look],
    title: str,
    numbers: Sequence[int] | None = None,
    leave: bool = True,
) -> dict[str, np.ndarray]:
    """Counts the confusion matrices (N, N) int64 of predictors over a list, whose images the processes share out.

    Args:
        networks: all that the predictors need, by name.
        looks: each is called with every image that this process scores.
        title: what the progress bar says; `leave` says whether the bar stays when it is full.
        numbers: the images to take, all of the list if None.

    Returns:
        The matrix of each predictor, summed over all processes.
    """
    settings, device, classes = experiment.settings, world.device, experiment.dataset.num_classes
    window = sliding_window(experiment, networks, device)
    share = (range(len(split.files)) if numbers is None else numbers)[world.rank :: world.size]
    workers = loader_workers(settings.num_workers, device)
    # Behind the scores come labels, and what counts them. An image and its label are here, and twice in each worker.
    room = Room(experiment, window, behind=len(predictors) + 16, beside=4 * (1 + 2 * workers) + 16, remedy=REMEDY)
    room.require_largest(split.image_path(share[place]) for place in spread(len(share), HEADERS))
    if workers and share:
        require_shared_memory([image_bytes(split, share)], workers)
    images = validation_images(split, share, workers, pin_memory=device.type == "cuda")
    total = torch.zeros(len(predictors), classes, classes, dtype=torch.int64, device=device)
    with bar(total=len(share), desc=title, unit="image", disable=not world.is_main, leave=leave) as progress:
        for group in in_groups(images, room, split.image_path):
            scored = window.scores_of([image for _, image, _ in group])
            labels = [predicted_labels(scores, predictors) for scores in scored]
            del scored  # or it would take memory while the next images are scored
            for (number, image, label), predicted in zip(group, labels, strict=True):
                total += confusion_matrices(predicted, label.to(device, non_blocking=True), classes)
                for look in looks:
                    look(number, image, label, predicted)
                progress.update()
    return dict(zip(predictors, world.sum(total).cpu().numpy(), strict=True))


def sliding_window(
    experiment: Experiment, networks: Mapping[str, Network], device: torch.device, dtype: torch.dtype = torch.float32
) -> SlidingWindow:
    """Returns the networks' sliding window, with the size, scales and mirroring that the experiment sets.

    Its pixels and sums are of `dtype`.
    """
    settings = experiment.settings
    return SlidingWindow(
        networks,
        experiment.dataset.num_classes,
        settings.image_size,
        scales=settings.eval_scales,
        flip=settings.eval_flip,
        device=device,
        dtype=dtype,
    )


def validate(experiment: Experiment, world: World, ensemble: Ensemble, title: str) -> dict[str, float]:
    """Returns the mean IoU in percent of every predictor of a run in training, whose networks keep their modes."""
    wanted, count = experiment.settings.validate_images, len(experiment.split("val").files)
    numbers = spread(count, count if wanted == "all" else wanted)
    confusions = count_in_training(experiment, world, ensemble, numbers, title)
    return {code: 100 * Scores.from_confusion(confusion).mean_iou for code, confusion in confusions.items()}


def count_in_training(
    experiment: Experiment, world: World, ensemble: Ensemble, numbers: Sequence[int], title: str
) -> dict[str, np.ndarray]:
    """Counts the confusion matrices of every predictor over images of the `val` list, by their numbers in it.

    The networks are those of a run in training, and keep their modes.
    """
    networks = ensemble.networks()
    with modes_kept([module for network in networks.values() for module in network.modules()]):
        return count_confusions(
            experiment,
            world,
            experiment.split("val"),
            ready_networks(experiment, world.device, networks),
            ensemble.predictors(),
            looks=(),
            title=title,
            numbers=numbers,
            leave=False,
        )


def evaluation_networks(
    experiment: Experiment, device: torch.device, snapshots: Snapshots, epoch: int, predictors: Sequence[str]
) -> dict[str, Network]:
    """Returns the networks that the predictors need, by name, filled from a snapshot and ready to score windows."""
    return ready_networks(experiment, device, filled_networks(experiment, snapshots, epoch, predictors))


def ready_networks(
    experiment: Experiment, device: torch.device, networks: Mapping[str, nn.Module]
) -> dict[str, Network]:
    """Returns the networks ready to score windows, on the device and in the precision of evaluation."""
    settings = experiment.settings
    dtype = evaluation_dtype(settings.precision, device)
    return {name: for_windows(each, device, dtype, settings.channels_last) for name, each in networks.items()}


def filled_networks(
    experiment: Experiment, snapshots: Snapshots, epoch: int, predictors: Sequence[str]
) -> dict[str, nn.Module]:
    """Returns the networks that the predictors need, by name, on the CPU, filled from one epoch's snapshot."""
    needed = {name for code in predictors for name in PREDICTORS[code]}
    with_teachers = any(name.startswith("teacher") for name in needed)
    ensemble = Ensemble(experiment.network, with_teachers, build_second=partial(experiment.network, 2))
    snapshots.load(epoch, ensemble.networks())
    return {name: network for name, network in ensemble.networks().items() if name in needed}


def for_windows(network: nn.Module, device: torch.device, dtype: torch.dtype, channels_last: bool) -> Network:
    """Moves the network to the device, sets it to eval mode, and returns it as a function of windows.

    Its convolutions are computed in `dtype`.
    """
    network = placed(network, device, channels_last).eval()

    def forward(windows: Tensor) -> Tensor:
        with autocast(device, dtype):
            return network(windows.contiguous(memory_format=layout(channels_last)))

    return forward
