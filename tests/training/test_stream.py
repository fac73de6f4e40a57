"""What a run reads is what its settings say."""

from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from repository import REPOSITORY

from furnace.config.experiment import read_experiment
from furnace.semi.cutmix import cutmix_masks
from furnace.training.stream import training_samples

TOLD = {"pretrained_model": "none", "backbone": "resnet18_v1c", "labeled_ratio": "4"}


@pytest.mark.parametrize("told", [{}, {"cutmix_boxes": "1"}, {"cutmix_boxes": "0"}])
def test_pairs_are_mixed_in_as_many_rectangles(demo_data: Path, told: dict[str, str]) -> None:
    experiment = read_experiment(
        REPOSITORY / "exp.voc/ensemble_teacher+cutmix", {"dataset_path": str(demo_data), **TOLD, **told}
    )
    learner = SimpleNamespace(iterations=4, first_iteration_with_pairs=lambda: 0)
    mask = training_samples(experiment, learner, 2).draw_mask((64, 48), np.random.default_rng(5))
    expected = cutmix_masks(1, (64, 48), np.random.default_rng(5), boxes=int(told.get("cutmix_boxes", 3)))[0]
    assert np.array_equal(mask, expected) and mask.any() == (told.get("cutmix_boxes") != "0")
