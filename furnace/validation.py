"""One pass over a validation list: each network sees each image once, whatever the number of predictors."""

from collections.abc import Callable, Mapping, Sequence

import numpy as np
import torch
from torch import Tensor, nn
from tqdm import tqdm

from furnace.data.datasets import Split
from furnace.data.loaders import validation_images
from furnace.data.reading import crashes_named
from furnace.engine.backend import autocast, evaluation_dtype, loader_workers
from furnace.engine.checkpoint import Snapshots
from furnace.engine.distributed import World
from furnace.engine.evaluator import Network, SlidingWindow
from furnace.experiment import Experiment
from furnace.metrics import confusion_matrices
from furnace.semi.ensemble import PREDICTORS, Ensemble, predicted_labels

# Takes an image's number, the image (H, W, 3), its label (H, W) and what P predictors say (P, H, W), all uint8.
Look = Callable[[int, Tensor, Tensor, Tensor], None]


@crashes_named()
def count_confusions(
    experiment: Experiment,
    world: World,
    split: Split,
    networks: Mapping[str, Network],
    predictors: Sequence[str],
    look: Look,
    title: str,
) -> dict[str, np.ndarray]:
    """Confusion matrices (N, N) by predictor, over the images of all processes; `look` sees each image of this one."""
    settings, device, classes = experiment.settings, world.device, experiment.dataset.num_classes
    window = sliding_window(experiment, networks, device)
    images = validation_images(
        split, world.rank, world.size, loader_workers(settings.num_workers, device), pin_memory=device.type == "cuda"
    )
    share = len(range(world.rank, len(split.files), world.size))
    total = torch.zeros(len(predictors), classes, classes, dtype=torch.int64, device=device)
    for number, image, label in tqdm(
        images, total=share, desc=title, unit="image", disable=not world.is_main, dynamic_ncols=True
    ):
        truth = label.to(device, non_blocking=True)
        predicted = predicted_labels(window.scores(image), predictors)
        total += confusion_matrices(predicted, truth, classes)
        look(number, image, label, predicted)
    return dict(zip(predictors, world.sum(total).cpu().numpy(), strict=True))


def sliding_window(experiment: Experiment, networks: Mapping[str, Network], device: torch.device) -> SlidingWindow:
    """The windows, scales and mirroring that the experiment is evaluated with."""
    settings = experiment.settings
    return SlidingWindow(
        networks,
        experiment.dataset.num_classes,
        settings.image_size,
        scales=settings.eval_scales,
        flip=settings.eval_flip,
        device=device,
    )


def evaluation_networks(
    experiment: Experiment, device: torch.device, snapshots: Snapshots, epoch: int, predictors: Sequence[str]
) -> dict[str, Network]:
    """The networks that the predictors need, by name, filled from one epoch's snapshot and ready to score windows."""
    settings = experiment.settings
    dtype = evaluation_dtype(settings.precision, device)
    return {
        name: for_windows(network, device, dtype, settings.channels_last)
        for name, network in filled_networks(experiment, snapshots, epoch, predictors).items()
    }


def filled_networks(
    experiment: Experiment, snapshots: Snapshots, epoch: int, predictors: Sequence[str]
) -> dict[str, nn.Module]:
    """The networks that the predictors need, by name, on the CPU, filled from one epoch's snapshot."""
    needed = {name for code in predictors for name in PREDICTORS[code]}
    ensemble = Ensemble(experiment.network, with_teachers=any(name.startswith("teacher") for name in needed))
    snapshots.load(epoch, ensemble.networks())
    return {name: network for name, network in ensemble.networks().items() if name in needed}


def for_windows(network: nn.Module, device: torch.device, dtype: torch.dtype, channels_last: bool) -> Network:
    """The network in eval mode on the device, its convolutions in `dtype`."""
    layout = torch.channels_last if channels_last else torch.contiguous_format
    network = network.to(device, memory_format=layout).eval()

    def forward(windows: Tensor) -> Tensor:
        with autocast(device, dtype):
            return network(windows.contiguous(memory_format=layout))

    return forward
