"""What a run reads: the plan of its samples, with the views and masks that its method needs."""

import numpy as np

from furnace.config.experiment import Experiment
from furnace.data.samples import Plan, TrainingSamples
from furnace.semi.cutmix import cutmix_masks
from furnace.training.learner import Learner


def training_samples(experiment: Experiment, learner: Learner, iterations_per_epoch: int) -> TrainingSamples:
    """Returns the samples of the whole run, for all processes. No image is read before a batch is asked for."""
    settings = experiment.settings
    plan = Plan(
        batch_size=settings.batch_size,
        iterations_per_epoch=iterations_per_epoch,
        iterations=learner.iterations,
        pairs_from=learner.first_iteration_with_pairs(),
        crop=settings.image_size,
        scales=settings.train_scales,
        with_strong=experiment.method.view == "strong",
        seed=settings.seed,
    )

    def draw_mask(size: tuple[int, int], random: np.random.Generator) -> np.ndarray:
        return cutmix_masks(1, size, random, boxes=settings.cutmix_boxes)[0]

    return TrainingSamples(experiment.split("labeled"), experiment.split("unlabeled"), plan, draw_mask)
