"""Promises of a training step: what it computes, in which precision, and what it does to the device."""

import dataclasses
import gc
import shutil
from collections.abc import Iterable, Sequence
from itertools import chain

import torch
from torch import Tensor

from furnace.engine.compiler import compiler_named
from furnace.engine.distributed import World
from furnace.engine.memory import resident
from furnace.proof.ground import Ground, Texts
from furnace.proof.outcome import NotHereError, require, within
from furnace.proof.trial import STEPS, Trial, difference
from furnace.semi.batch import Batch
from furnace.training.learner import Learner
from furnace.training.meters import LossMeter

ON_THE_CPU = World()
# Shares by which losses, weights, and momentum or what steps change may differ.
EXACT, WEIGHTS, CHANGE = 1e-4, 1e-3, 5e-2
# The same of a loss in half precision, and of its terms, for which labellers at their start call a few pixels otherwise
# (about 1 and 3 % at the most in 12 runs on a CPU, bf16).
HALF, HALF_TERMS = 2e-2, 5e-2
FALLING, ENDS = 30, 5  # steps in which losses fall, and how many at either end are compared
COMPILERS = ("g++", "clang++", "c++")
OHEM = {"ohem_threshold": "0.7", "ohem_min_kept": "1000"}
CONFIDENT = {"method": "ema", "confidence": "0.5"}
SOFT = {**CONFIDENT, "label_temperature": "0.5", "distribution_alignment": "1"}
FP32 = {"precision": "fp32"}
ADAMW = {"optimizer": "adamw", "clip_gradients": "1"}
# At a small rate rounding hardly grows from step to step. At a usual one it grows a hundredfold: batch norm after the
# pooling of the whole image divides by the deviation of as many values as the batch has images.
SLOW = {**FP32, "learning_rate": "0.000001"}


def equal_to_float64(ground: Ground, changed: Texts) -> str:
    """Three fp32 steps on the device are those that the CPU takes in float64, from the same weights."""
    ours, exact = ground.trial({**SLOW, **changed}), _in_float64(ground.trial({**SLOW, **changed}, ON_THE_CPU))
    losses = difference(ours.steps(ours.batches(3)), exact.steps(map(_doubled, exact.batches(3))))
    return within(
        {
            "losses": (losses, EXACT),
            "weights": (_gap(_weights(ours.learner), _weights(exact.learner)), WEIGHTS),
            "momentum": (_gap(_momentum(ours.learner), _momentum(exact.learner)), CHANGE),
        }
    )


def equal_with_ohem(ground: Ground) -> str:
    """The same holds for steps with OHEM, on a GPU with so large a crop that all taps of convolutions see pixels."""
    large = {"image_size": "320"} if ground.device.type == "cuda" else {}
    return equal_to_float64(ground, {"method": "ema", **OHEM, **large})


def half_precision(ground: Ground, precision: str) -> str:
    """The first losses in half precision are near those in fp32, and losses fall."""
    if precision == "fp16" and ground.device.type == "cpu":
        raise NotHereError("fp16 needs a GPU")
    losses = {
        name: ground.losses(FALLING, {"precision": name, "learning_rate": "0.02"}) for name in (precision, "fp32")
    }
    terms = [steps[:1] for steps in losses.values()]
    sums = [[{"loss": step["loss"]} for step in steps] for steps in terms]
    said = within({"the first loss": (difference(*sums), HALF), "its terms": (difference(*terms), HALF_TERMS)})
    for name, steps in losses.items():
        first, last = (sum(step["loss"] for step in part) / ENDS for part in (steps[:ENDS], steps[-ENDS:]))
        require(last < 0.9 * first, f"a loss from {first:.3f} to {last:.3f} in {name}", "one that falls by a tenth")
        said += f"; {name} from {first:.3f} to {last:.3f}"
    return said


def same_losses(ground: Ground, changed: Texts) -> str:
    """Three steps with another way to compute them give the same losses, to rounding."""
    return within({"losses": (difference(ground.losses(3, {**SLOW, **changed}), ground.losses(3, SLOW)), EXACT)})


def same_losses_compiled(ground: Ground) -> str:
    """Three compiled steps give the same losses, to rounding."""
    if not any(map(shutil.which, COMPILERS)):
        raise NotHereError(f"no C++ compiler: {', '.join(COMPILERS)}")
    if ground.device.type == "cpu" and not ground.only:
        raise NotHereError("takes minutes on a CPU, where it gains nothing; --only compile tries it")
    with compiler_named():
        return same_losses(ground, {"compile": "1"})


def poisoned_batch_left_out(ground: Ground) -> str:
    """A step on an image that is not finite changes neither students nor any statistics, and the next one is taken."""
    precisions = ("fp32", "bf16") if ground.device.type == "cpu" else ("fp32", "bf16", "fp16")
    tried = {name: {"precision": name} for name in precisions}
    tried |= {"fp32 with AdamW": {**FP32, **ADAMW}, "fp32 with aligned labels": {**FP32, **SOFT}}
    kept = [_left_out(ground.trial({**settings, "skip_nonfinite": "1"})) for settings in tried.values()]
    return f"{kept[0]} tensors of weights, momentum and statistics unchanged in {', '.join(tried)}"


def _left_out(trial: Trial) -> int:
    """Returns how many tensors a bad step left as they were; raises BrokenPromiseError if it changed one."""
    learner, meter = trial.learner, LossMeter()
    first, bad, last = trial.batches(3)
    learner.step(first, 0)
    before = [tensor.clone() for tensor in _kept(learner)]
    bad.image[0, 0, 0, 0] = torch.nan
    meter.add(1, learner.step(bad, 1).terms)
    require(len(meter.read_back()) == 1, "nothing of it among the losses", "a step that is not finite")
    changed = sum(not torch.equal(tensor, old) for tensor, old in zip(_kept(learner), before, strict=True))
    require(changed == 0, f"{changed} of {len(before)} tensors changed", "none")
    meter.add(2, learner.step(last, 2).terms)
    taken = not meter.read_back() and not all(map(torch.equal, _kept(learner), before))
    require(taken, "a step that does not move the weights, or to no number", "that the next one is taken")
    return len(before)


def nothing_read_back(ground: Ground) -> str:
    """From a batch in pinned memory to the losses on the device, no wait of the host that PyTorch knows of."""
    if ground.device.type == "cpu":
        raise NotHereError("needs a GPU")
    left_out = {"skip_nonfinite": "1"}
    for changed in ({}, OHEM, CONFIDENT, SOFT, left_out, {"precision": "fp16", **left_out}, {**ADAMW, **left_out}):
        trial, meter = ground.trial(changed), LossMeter()
        batches = trial.batches(2)
        trial.learner.step(next(batches), 0)  # libraries choose their kernels
        torch.cuda.set_sync_debug_mode("error")
        try:
            step = trial.learner.step(next(batches), 1)
            meter.add(1, step.terms, step.confident)
        finally:
            torch.cuda.set_sync_debug_mode("default")
        meter.read_back()
    return (
        "cross-entropy, OHEM, confidence, soft and aligned labels, steps that may be left out, fp16, "
        "AdamW with clipped gradients"
    )


def no_more_memory(ground: Ground) -> str:
    """The memory after 200 steps is that after 50."""
    trial, meter, used = ground.trial({}), LossMeter(), {}
    for done, batch in enumerate(trial.batches(STEPS), 1):
        meter.add(done, trial.learner.step(batch, done - 1).terms)
        if meter.due() or done in (50, STEPS):
            meter.read_back()
            gc.collect()  # of what was tried before
            used[done] = _used(ground.device) / 1e6
    found = f"{used[50]:.1f} MB after 50 steps, {used[STEPS]:.1f} MB after {STEPS}"
    # A GPU's allocator tells what tensors take. The system tells of a process, whose libraries take some memory later.
    allowed = 1.05 if ground.device.type == "cpu" else 1.001
    require(used[STEPS] <= allowed * used[50], found, "no more")
    return found


def norm(tensors: Iterable[Tensor]) -> float:
    """Returns the Euclidean norm of all these tensors together."""
    return sum(tensor.square().sum().item() for tensor in tensors) ** 0.5


def _gap(found: Iterable[Tensor], expected: Sequence[Tensor]) -> float:
    """Returns the norm of the difference of tensors on any device from those in float64, as a share of the norm."""
    return norm(ours.double().cpu() - true for ours, true in zip(found, expected, strict=True)) / norm(expected)


def _in_float64(trial: Trial) -> Trial:
    for network in trial.learner.ensemble.networks().values():
        network.double()
    for optimizer in trial.learner.optimizers:
        for entry in optimizer.state.values():
            entry.update({name: tensor.double() for name, tensor in entry.items() if name != "step"})
    return trial


def _doubled(batch: Batch) -> Batch:
    assert batch.weak is not None
    u0, u1 = batch.weak
    strong = None if batch.strong is None else (batch.strong[0].double(), batch.strong[1].double())
    return dataclasses.replace(batch, image=batch.image.double(), weak=(u0.double(), u1.double()), strong=strong)


def _weights(learner: Learner) -> list[Tensor]:
    return [weight.detach() for network in learner.ensemble.networks().values() for weight in network.parameters()]


def _momentum(learner: Learner) -> list[Tensor]:
    """Returns all that the optimizers remember: SGD its momentum, AdamW two averages and how many steps it took."""
    entries = chain.from_iterable(optimizer.state.values() for optimizer in learner.optimizers)
    return list(chain.from_iterable(entry.values() for entry in entries))


def _kept(learner: Learner) -> list[Tensor]:
    """Returns what a step that is left out must not change: students, their momentum, and all statistics."""
    weights = [weight.detach() for student in learner.ensemble.students for weight in student.parameters()]
    return [*weights, *learner.statistics(), *_momentum(learner)]


def _used(device: torch.device) -> int:
    """Returns the bytes that tensors take on a GPU, or that this process takes of the machine."""
    return torch.cuda.memory_allocated(device) if device.type == "cuda" else resident()
