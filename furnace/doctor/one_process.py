"""One process of a run: its networks and its share of every batch, for the program's own steps.

B is the number of images of a batch, S is the side of the crop.
"""

import copy
import dataclasses
import gc
from collections.abc import Generator
from contextlib import closing
from typing import NamedTuple, cast

import torch

from furnace.config.experiment import Experiment
from furnace.data.loaders import training_batches
from furnace.data.samples import RawBatch, TrainingSamples
from furnace.doctor.fitting import LEAST
from furnace.doctor.peaks import Peaks
from furnace.doctor.train_checks import with_settings
from furnace.engine.backend import loader_workers, memory_failure
from furnace.engine.distributed import World
from furnace.engine.machine import cores
from furnace.engine.memory import said
from furnace.errors import InputError
from furnace.training.footprint import least_bytes, surely_fits
from furnace.training.learner import Learner
from furnace.training.stream import training_samples
from furnace.training.transfer import sending_to

MANY = 10**6  # iterations; a stream of samples has no end before that


class Work(NamedTuple):
    """Iterations that do the same work.

    Attributes:
        with_pairs: whether they use unlabelled images.
        first: the number of the first of them in the run.
        iterations: how many of the run there are.
    """

    with_pairs: bool
    first: int
    iterations: int


class OneProcess:
    """One process of a run, alone: what it exchanges with others is not tried.

    Args:
        experiment: whose images are there.
        world: this process, on the device.
        processes: how many the run has, on all machines.
        here: how many of them share this machine's cores.

    Attributes:
        experiment: the same, with a batch of the images that are tried.
        share: the images of a batch that a process has.
        images: those that are tried: two where the share is a single one, because batch norms need two.
        listed: images of the longer one of the lists that are learned from.
        workers: that load for the process.
        cores: of this machine, for the process.
    """

    def __init__(self, experiment: Experiment, world: World, processes: int, here: int) -> None:
        settings = experiment.settings
        self.world, self.processes, self.here = world, processes, here
        self.share = settings.batch_size // processes
        self.images = max(LEAST, self.share)
        self.experiment = with_settings(experiment, batch_size=self.images)
        self.listed = max(len(experiment.split(which).files) for which in ("labeled", "unlabeled"))
        self.iterations_per_epoch = max(1, experiment.iterations_per_epoch)
        self.workers = loader_workers(settings.num_workers, world.device, here)
        self.cores = max(1, cores() // here)
        self.learner = Learner(self.experiment, world, experiment.epochs * self.iterations_per_epoch)
        self._samples = training_samples(self.experiment, self.learner, self.iterations_per_epoch)
        self._to_device = sending_to(world.device, settings.channels_last)

    @property
    def tries_more(self) -> bool:
        """Whether more images are tried than the process has in the run."""
        return self.images > self.share

    def works(self) -> list[Work]:
        """Returns the kinds of work of the run, in their order; there are one or two."""
        pairs_from, iterations = self._samples.plan.pairs_from, self.learner.iterations
        kinds = [Work(False, 0, min(pairs_from, iterations)), Work(True, pairs_from, iterations - pairs_from)]
        return [work for work in kinds if work.iterations > 0]

    def samples(self, with_pairs: bool, images: int | None = None) -> TrainingSamples:
        """Returns the run's samples without an end, all of one kind of work; `images` are those of a batch."""
        samples = copy.copy(self._samples)
        samples.plan = dataclasses.replace(
            samples.plan, batch_size=images or self.images, iterations=MANY, pairs_from=0 if with_pairs else MANY
        )
        return samples

    def batches(self, work: Work) -> closing[Generator[RawBatch, None, None]]:
        """Returns the batches of the run's own loader, whose workers end with the context."""
        pinned = self.world.device.type == "cuda"
        batches = training_batches(self.samples(work.with_pairs), 0, 0, 1, self.workers, pinned)
        return closing(cast("Generator[RawBatch, None, None]", batches))

    def step(self, raw: RawBatch, work: Work) -> None:
        """Takes a step as the run's first of this kind. A GPU may not have done it when this returns."""
        self.learner.step(self._to_device(raw), work.first)

    def try_step(self, images: int) -> bool:
        """Takes a step with another number of images, of the work that needs most; False if there is no room for it."""
        if self.why_no_room(images):
            return False
        work = self.works()[-1]
        batch = made(self.samples(work.with_pairs, images), 0)
        try:
            self.step(batch, work)
            self.finish()
            return True
        except (MemoryError, RuntimeError) as error:
            if memory_failure(error) is None:
                raise
        self.tidy()  # only now, because the error held what the step had taken
        return False

    def why_no_room(self, images: int) -> str:
        """Returns why a step of so many images surely finds no room; empty if it may.

        A run asks before it builds its networks. Here they are there already, so that what they hold counts as room.
        """
        device = self.world.device
        room = Peaks(device).room()
        if self.experiment.settings.compile or surely_fits(self.experiment, images, room):
            return ""
        least = least_bytes(self.experiment, images, device)
        needs = f"{self.described(images)} needs about {said(least)}"
        return f"{needs}, of {said(room)} that a process may have on {device}" if least > room else ""

    def described(self, images: int) -> str:
        """Returns what a step of so many images is, in the words of the settings where these can say it."""
        batch = images * self.processes
        words = f"{images} images a process" if self.tries_more else f"batch_size={batch}"
        return f"training with {words} and image_size={self.experiment.settings.image_size}"

    def finish(self) -> None:
        """Waits until the device has done all that it was told."""
        if self.world.device.type == "cuda":
            torch.cuda.synchronize(self.world.device)

    def tidy(self) -> None:
        """Gives back what a step has left that nobody uses any more."""
        for optimizer in self.learner.optimizers:
            optimizer.zero_grad(set_to_none=True)
        gc.collect()
        if self.world.device.type == "cuda":
            torch.cuda.empty_cache()


def made(samples: TrainingSamples, iteration: int) -> RawBatch:
    """Returns the batch of an iteration, made in this process; raises InputError if a file of it is bad."""
    batch = samples[samples.plan.indices(iteration)]
    if isinstance(batch, InputError):
        raise batch
    return batch
