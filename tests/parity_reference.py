"""The recipes of `reference/README.md` in code: how every weight and input behind the reference numbers was made.

Nothing here holds a seed, a size or a case: these come from the folder that the environment variable PARITY_REFERENCE
names, by default `reference` beside this file.
"""

import json
import os
import re
import zlib
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn

from furnace.labels import IGNORE
from furnace.network.deeplabv3plus import DeepLabV3Plus
from furnace.semi.batch import Batch
from furnace.semi.cross_supervision import METHODS, CrossSupervision
from furnace.semi.cutmix import cutmix_masks
from furnace.semi.ensemble import Ensemble
from furnace.semi.losses import PixelLoss, cross_entropy, ohem_cross_entropy
from furnace.semi.terms import Labels
from furnace.training.optimizer import build_optimizer, polynomial_rate, set_learning_rate

FOLDER = Path(os.environ.get("PARITY_REFERENCE", Path(__file__).parent / "reference"))
TRAINED_BACKBONE = "resnet50_v1c"  # README, sections C and I
PUBLISHED_NAMES = {
    "student_1": "branch1",
    "student_2": "branch2",
    "teacher_1": "ema_branch1",
    "teacher_2": "ema_branch2",
}


def load_json(name: str) -> dict:
    return json.loads((FOLDER / f"{name}.json").read_text())


def load_arrays(name: str) -> dict[str, np.ndarray]:
    with np.load(FOLDER / f"{name}.npz") as file:
        return dict(file)


def names_of_files(pattern: str) -> list[str]:
    """The stems of the .json files that match, sorted."""
    return sorted(path.stem for path in FOLDER.glob(f"{pattern}.json"))


# A. Weights and inputs


def fill(name: str, shape: Iterable[int]) -> np.ndarray:
    """One state entry's values; `name` is the whole hashed string, prefix included."""
    random, shape, kind = np.random.default_rng(zlib.crc32(name.encode())), tuple(shape), name.rpartition(".")[2]
    if kind == "num_batches_tracked":
        return np.zeros(shape, dtype=np.int64)
    if kind == "running_var":
        return random.uniform(0.5, 1.5, shape).astype(np.float32)
    values = random.standard_normal(shape)
    if kind == "weight" and len(shape) == 4:
        values *= np.sqrt(2 / np.prod(shape[1:]))  # 2 / fan_in
    elif kind == "weight":
        values = 1 + 0.1 * values
    else:  # bias, running_mean
        values *= 0.1
    return values.astype(np.float32)


def unfilled_network(backbone: str, num_classes: int) -> DeepLabV3Plus:
    """A network without memory for its values: names, shapes and settings alone."""
    with torch.device("meta"):
        return DeepLabV3Plus(backbone, num_classes)


def filled_network(backbone: str, num_classes: int, prefix: str, bn3_multiplier: float = 1.0) -> DeepLabV3Plus:
    """A network in float64 whose values are the recipe's, rounded to float32."""
    network = unfilled_network(backbone, num_classes)
    state = {}
    for name, entry in network.state_dict().items():
        values = fill(prefix + name, entry.shape)
        if name.endswith("bn3.weight"):
            values *= np.float32(bn3_multiplier)
        state[name] = torch.from_numpy(values)
    network.load_state_dict(state, assign=True)
    return network.double()


def normal(seed: int, shape: Iterable[int]) -> Tensor:
    """A standard normal input, rounded to float32, as float64."""
    return torch.from_numpy(np.random.default_rng(seed).standard_normal(tuple(shape)).astype(np.float32)).double()


# Comparisons


def assert_close64(ours, reference, what: str = "") -> None:
    """Equal to 1e-9 of the entry, or of the array's largest entry where the entry is near zero.

    A float32 array holds results of a float64 run too, rounded when they were stored.
    """
    reference = np.asarray(reference)
    tolerance = np.finfo(np.float32).eps if reference.dtype == np.float32 else 1e-9
    largest = np.nanmax(np.abs(reference), initial=0.0)
    np.testing.assert_allclose(ours, reference, rtol=tolerance, atol=tolerance * largest, err_msg=what)


def assert_within(ours, reference, error, what: str = "") -> None:
    """Nowhere further apart than `error`, a number or an array of them."""
    difference = np.abs(np.asarray(ours, np.float64) - np.asarray(reference, np.float64))
    assert (difference <= error).all(), f"{what}: {difference.max():g} apart, allowed {np.max(error):g}"


def assert_float32_error(ours, reference, stated: float, what: str = "") -> None:
    """A float32 result is as far from the float64 one, at its worst entry, as the reference states.

    This is sharper than a tolerance: the statement was made about the same two runs.
    """
    ours = np.asarray(ours, np.float64)
    error, rounding = np.abs(ours - reference).max(), 1e-11 * np.abs(ours).max()
    assert abs(error - stated) <= 1e-6 * stated + rounding, f"{what}: off by {error:g}, stated {stated:g}"


def stride_of(name: str) -> int:
    """N of a name that ends in `_sN`: every N-th row and column is stored."""
    return int(name.rpartition("_s")[2]) if re.search(r"_s\d+$", name) else 1


def subsample(array: np.ndarray, shape: tuple[int, ...]) -> np.ndarray:
    """Every n-th entry of each axis, so that `shape` is left: for arrays whose name does not tell the stride."""
    return array[tuple(slice(None, None, -(-full // kept)) for full, kept in zip(array.shape, shape, strict=True))]


# I. Training steps


@dataclass(frozen=True)
class Observed(CrossSupervision):
    """The algorithm, which leaves its last pseudo-labels in `seen`: looking twice would count two forwards more."""

    seen: list[Tensor] = field(default_factory=list)

    def pseudo_labels(self, batch: Batch) -> list[Labels]:
        found = super().pseudo_labels(batch)
        self.seen[:] = [labels.label for labels in found]
        return found


@dataclass(frozen=True)
class Step:
    """One step's scalars, under their published names."""

    learning_rates: list[float]  # the distinct ones of all groups of both optimizers
    losses: dict[str, float]
    batches_tracked: dict[str, list[int]]  # the distinct counters of each network's batch norms


@dataclass(frozen=True)
class Replay:
    """What one run's steps gave; `arrays` go by the .npz file's names less the precision."""

    arrays: dict[str, np.ndarray]
    steps: list[Step]


def replay(run: dict, wanted: Iterable[str]) -> Replay:
    """Runs a train_step file's steps in float64. Of `wanted` entries all values are kept; they are named such as
    `step1/branch1/value/classifier.weight`.
    """
    method = METHODS[run["script"].removeprefix("train_")]
    prefixes = iter([f"{run['weight_name_prefix']}branch{number}." for number in (1, 2)])
    ensemble = Ensemble(
        lambda: filled_network(TRAINED_BACKBONE, run["num_classes"], next(prefixes), run["bn3_weight_multiplier"]),
        with_teachers=method.labellers == "teachers",
    )
    networks = {PUBLISHED_NAMES[role]: network for role, network in ensemble.networks().items()}
    optimizers = [build_optimizer(net, run["learning_rate"], run["weight_decay"]) for net in ensemble.students]
    algorithm = Observed(
        students=ensemble.students,
        labellers=ensemble.teachers or ensemble.students,
        view=method.view,
        supervised_loss=supervised_loss(run["ohem"]),
    )
    arrays, steps = {}, []
    for step in range(1, len(run["steps"]) + 1):
        before = {name: [value.detach().clone() for value in net.parameters()] for name, net in networks.items()}
        batch = training_batch(run, step)
        losses = take_step(run, step, batch, algorithm, optimizers)
        ensemble.update_teachers(step, run["ema_decay"], with_statistics=False)

        arrays[f"step{step}/mask"] = batch.mask.numpy()
        for number, labels in enumerate(algorithm.seen, 1):
            arrays[f"step{step}/pseudo_label_{number}"] = labels.numpy()
        for name, network in networks.items():
            place = f"step{step}/{name}/"
            entries = [entry.removeprefix(place) for entry in wanted if entry.startswith(place)]
            for key, values in measurements(network, before[name], entries):
                arrays[place + key] = values
        steps.append(
            Step(
                learning_rates=sorted({group["lr"] for optimizer in optimizers for group in optimizer.param_groups}),
                losses=losses,
                batches_tracked={name: batches_tracked(network) for name, network in networks.items()},
            )
        )
    return Replay(arrays, steps)


def take_step(
    run: dict, step: int, batch: Batch, algorithm: CrossSupervision, optimizers: list[torch.optim.Optimizer]
) -> dict[str, float]:
    """Moves both students; the losses by their published names. There the cross term is one, and carries its weight."""
    for optimizer in optimizers:
        optimizer.zero_grad()
    terms = algorithm.accumulate_gradients(batch, run["cps_weight"]).terms()
    rate = polynomial_rate(run["learning_rate"], step - 1, run["total_iterations"])
    for optimizer in optimizers:
        set_learning_rate(optimizer, rate)
        optimizer.step()
    return {
        "loss_sup": terms["loss_sup_1"].item(),
        "loss_sup_r": terms["loss_sup_2"].item(),
        "cps_loss": run["cps_weight"] * (terms["loss_cross_1"] + terms["loss_cross_2"]).item(),
        "loss": terms["loss"].item(),
    }


def training_batch(run: dict, step: int) -> Batch:
    seed, size = run["seed_base"] + 10 * (step - 1), tuple(run["crop"])
    images = partial(normal, shape=(run["batch"], 3, *size))
    random = np.random.default_rng(seed + 1)
    label = random.integers(0, run["num_classes"], (run["batch"], *size))
    label[random.random(label.shape) < 0.1] = IGNORE
    return Batch(
        image=images(seed),
        label=torch.from_numpy(label),
        weak=(images(seed + 2), images(seed + 3)),
        strong=(images(seed + 4), images(seed + 5)),
        mask=torch.from_numpy(cutmix_masks(run["batch"], size, np.random.RandomState(seed + 6))),
    )


def supervised_loss(ohem: dict | None) -> PixelLoss:
    if ohem is None:
        return cross_entropy
    return partial(ohem_cross_entropy, threshold=ohem["thresh"], min_kept=ohem["min_kept"])


def measurements(network: nn.Module, before: list[Tensor], entries: list[str]) -> Iterator[tuple[str, np.ndarray]]:
    """Norms and sums of all parameters and buffers, and all of `entries`: `value/...`, `grad/...` or `buffer/...`."""
    parameters, buffers = dict(network.named_parameters()), dict(network.named_buffers())
    with torch.no_grad():
        if all(value.grad is not None for value in parameters.values()):
            yield "grad_norm", listed(value.grad.norm() for value in parameters.values())
        yield "delta_norm", listed((value - old).norm() for value, old in zip(parameters.values(), before, strict=True))
        yield "norm", listed(value.norm() for value in parameters.values())
        yield "sum", listed(value.sum() for value in parameters.values())
        yield "bsum", listed(value.double().sum() for value in buffers.values())
        for key in entries:
            kind, name = key.split("/")
            entry = buffers[name] if kind == "buffer" else parameters[name]
            yield key, (entry.grad if kind == "grad" else entry).detach().clone().numpy()


def listed(values: Iterable[Tensor]) -> np.ndarray:
    return np.array([value.item() for value in values])


def batches_tracked(network: nn.Module) -> list[int]:
    return sorted({int(value) for name, value in network.named_buffers() if name.endswith("num_batches_tracked")})
