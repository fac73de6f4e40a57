"""The random numbers that networks themselves draw while they train, as dropout and stochastic depth do."""

import numpy as np
import torch


def seed_draws(seed: int, iteration: int, rank: int) -> None:
    """Begins a step's random numbers anew, on the CPU and on GPUs.

    They follow from the run's seed, the step and the process alone. So a run that goes on draws what it would have
    drawn, nothing need be saved for that, and each process drops other parts of its own images.

    Args:
        iteration: the number of the step in the whole run, counted from 0.
    """
    low, high = np.random.SeedSequence([seed, iteration, rank]).generate_state(2).tolist()
    torch.manual_seed(high << 32 | low)
