"""Steps that are tried without a run's folder: a learner at its start, and the batches that a run would give it."""

from collections.abc import Iterable, Iterator
from itertools import islice

from furnace.config.experiment import Experiment
from furnace.data.loaders import training_batches
from furnace.engine.backend import prepare_backends
from furnace.engine.distributed import World
from furnace.proof.outcome import largest
from furnace.semi.batch import Batch
from furnace.training.learner import Learner
from furnace.training.stream import training_samples
from furnace.training.transfer import sending_to

STEPS = 200  # the length of a trial, which learning rates follow
Losses = list[dict[str, float]]  # the terms of each step, by name


class Trial:
    """What training uses, at its start."""

    def __init__(self, experiment: Experiment, world: World) -> None:
        self.experiment = experiment
        prepare_backends(experiment.settings.deterministic)
        self.learner = Learner(experiment, world, STEPS)

    def batches(self, count: int) -> Iterator[Batch]:
        """Yields the first batches of a run with these settings, on the learner's device."""
        settings, device = self.learner.settings, self.learner.world.device
        samples = training_samples(self.experiment, self.learner, self.experiment.iterations_per_epoch)
        raw = training_batches(samples, 0, 0, 1, workers=0, pin_memory=device.type == "cuda")
        return map(sending_to(device, settings.channels_last), islice(raw, count))

    def steps(self, batches: Iterable[Batch]) -> Losses:
        """Takes a step with each batch, and returns their terms."""
        terms = [self.learner.step(batch, iteration).terms for iteration, batch in enumerate(batches)]
        return [{name: value.item() for name, value in step.items()} for step in terms]


def difference(found: Losses, expected: Losses) -> float:
    """Returns by how much losses differ at the most, as a share of those expected."""
    return largest(
        abs(step[name] - other[name]) / max(abs(other[name]), 1e-6)
        for step, other in zip(found, expected, strict=True)
        for name in other
        if name.startswith("loss")
    )
