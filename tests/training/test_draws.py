"""What networks draw at random in a step follows from the run's seed, the step and the process alone."""

import dataclasses
from pathlib import Path

import pytest
import torch
from batches import random_batch
from learners import ITERATIONS, in_float64, small_learner
from repository import REPOSITORY
from torch import Tensor, nn

from furnace.config.experiment import read_experiment
from furnace.engine.distributed import World
from furnace.semi.batch import Batch
from furnace.training import learner as learner_file
from furnace.training.draws import seed_draws
from furnace.training.learner import Learner


class Dropping(nn.Module):
    """A network with dropout, and with a parameter that no gradient reaches."""

    def __init__(self, num_classes: int) -> None:
        super().__init__()
        self.body = nn.Sequential(nn.Conv2d(3, 8, 3, padding=1), nn.BatchNorm2d(8), nn.Dropout(0.5))
        self.last, self.nowhere = nn.Conv2d(8, num_classes, 1), nn.Parameter(torch.ones(3))

    def forward(self, image: Tensor) -> Tensor:
        return self.last(self.body(image))


def dropping_learner(folder: Path, rank: int = 0, **texts: str) -> Learner:
    settings = {"pretrained_model": "none", "dataset_path": str(folder), "image_size": "16"}
    experiment = read_experiment(REPOSITORY / "exp.voc/ensemble_teacher+cutmix", settings | texts)
    return Learner(dataclasses.replace(experiment, build_network=Dropping), World(rank=rank), ITERATIONS)


def batch(number: int) -> Batch:
    with torch.random.fork_rng():  # or every step would begin with the same random numbers
        torch.manual_seed(number)
        whole = random_batch(size=16)

    def images(of: tuple[Tensor, ...]) -> tuple[Tensor, ...]:
        return tuple(image.float() for image in of)

    return Batch(whole.image.float(), whole.label, images(whole.weak), images(whole.strong), whole.mask)


def weights_of(learner: Learner) -> dict[str, Tensor]:
    networks = learner.ensemble.networks().items()
    return {f"{name}.{key}": value for name, network in networks for key, value in network.state_dict().items()}


def drawn(seed: int, iteration: int, rank: int) -> list[float]:
    seed_draws(seed, iteration, rank)
    return torch.rand(3).tolist()


def test_draws_follow_from_seed_step_and_process() -> None:
    places = [(0, 0, 0), (0, 1, 0), (1, 0, 0), (0, 0, 1), (2**63 - 1, 10**9, 511)]
    before = [drawn(*place) for place in places]
    torch.manual_seed(7)
    assert [drawn(*place) for place in reversed(places)] == before[::-1]
    assert len({tuple(numbers) for numbers in before}) == len(places)


@pytest.mark.parametrize("compiled", [False, True], ids=["eager", "compiled"])
@pytest.mark.parametrize("texts", [{"method": "ema"}, {"method": "org"}, {"optimizer": "adamw", "clip_gradients": "1"}])
def test_a_run_that_goes_on_has_the_same_bits(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, texts: dict[str, str], compiled: bool
) -> None:
    """Also of what gradients do not reach, which no optimizer moves."""

    def whole(module: nn.Module) -> nn.Module:
        module.compile(backend="aot_eager", dynamic=False, fullgraph=True)
        return module

    monkeypatch.setattr(learner_file, "compiled", whole)
    texts = {**texts, "compile": "01"[compiled]}
    straight, again = dropping_learner(tmp_path, **texts), dropping_learner(tmp_path, **texts)
    for iteration in range(2):
        straight.step(batch(iteration), iteration)
    for name, network in again.ensemble.networks().items():
        network.load_state_dict(straight.ensemble.networks()[name].state_dict())
    again.restore(straight.state())
    torch.manual_seed(1)  # what else the process has drawn
    for learner in (straight, again):
        learner.step(batch(2), 2)
    for name, value in weights_of(straight).items():
        assert torch.equal(value, weights_of(again)[name]), name
        assert not name.endswith("nowhere") or torch.equal(value, torch.ones(3))


def test_processes_drop_other_parts(tmp_path: Path) -> None:
    """Of the same images, which they would never have: a process alone takes the losses of its own draws."""
    losses = [
        dropping_learner(tmp_path, rank, method="supervised").step(batch(0), 0).terms["loss"].item()
        for rank in (0, 0, 1)
    ]
    assert losses[0] == losses[1] != losses[2]


def test_where_nothing_is_drawn_nothing_is_seeded(tmp_path: Path) -> None:
    learner, whole = in_float64(small_learner(tmp_path, {"method": "org"})), random_batch()
    before = torch.get_rng_state()
    learner.step(whole, 0)
    assert torch.equal(torch.get_rng_state(), before)
    assert not learner.algorithm.off_while_labelling  # nor is any mode changed
