"""The library gives the numbers that the published code gave, from network names to whole training steps.

The numbers, and every seed, size and case they belong to, are read from a folder: by default `tests/reference`, whose
README.md says how each was made. Another folder of the same form is checked with

    PARITY_REFERENCE=/path/to/folder python -m pytest tests/test_parity.py

Float64 results agree to 1e-9. Float32 results of the published code are as far from our float64 ones as its own
float64 run was, where the folder states that distance; other tolerances are explained where they stand. Deliberate
differences have a test of their own that says so.
"""

import re
import zlib
from dataclasses import dataclass
from fractions import Fraction

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from furnace.data.datasets import CITYSCAPES, VOC
from furnace.engine.evaluator import IMAGENET_MEAN, IMAGENET_STD, SlidingWindow
from furnace.losses import IGNORE
from furnace.metrics import Scores, confusion_matrix
from furnace.optimizer import MOMENTUM, POWER, build_optimizer, iterations_per_epoch, polynomial_rate
from furnace.semi.cutmix import BOXES, PROPORTION, cutmix_masks
from furnace.semi.ema import ema_alpha, update_parameters
from furnace.semi.ensemble import PREDICTORS, Ensemble, predict
from parity_reference import (
    PUBLISHED_NAMES,
    TRAINED_BACKBONE,
    Replay,
    assert_close64,
    assert_float32_error,
    assert_within,
    fill,
    filled_network,
    load_arrays,
    load_json,
    names_of_files,
    normal,
    replay,
    stride_of,
    subsample,
    supervised_loss,
    unfilled_network,
)

FLOAT32_STEP = float(np.finfo(np.float32).eps)
DATASETS = {dataset.name: dataset for dataset in (VOC, CITYSCAPES)}


# B. The network: names and settings

KEYS = load_json("network_keys")
ARCHITECTURES = [name for name, entry in KEYS.items() if "state_dict" in entry]


@pytest.fixture(scope="module", params=ARCHITECTURES)
def architecture(request) -> tuple[dict, nn.Module]:
    expected = KEYS[request.param]
    return expected, unfilled_network(f"{request.param}_v1c", expected["num_classes"])


def test_state_has_the_published_names_shapes_and_types_in_order(architecture):
    expected, network = architecture
    ours = [
        [name, list(value.shape), str(value.dtype).removeprefix("torch.")]
        for name, value in network.state_dict().items()
    ]
    assert ours == expected["state_dict"]
    assert len(ours) == expected["n_state_entries"]


def test_parameters_come_in_the_published_order(architecture):
    expected, network = architecture
    names = [name for name, _ in network.named_parameters()]
    assert names == expected["parameter_order"]
    assert len(names) == expected["n_parameters_tensors"]
    assert sum(value.numel() for value in network.parameters()) == expected["n_parameters"]


def test_two_students_are_saved_under_the_published_names(architecture):
    expected, network = architecture
    students = Ensemble(lambda: network, with_teachers=False)
    names = [prefix + entry[0] for prefix in expected["two_branch_prefixes"] for entry in expected["state_dict"]]
    assert list(students.students_state()) == names
    parameters = sum(value.numel() for student in students.students for value in student.parameters())
    assert parameters == expected["two_branch_n_parameters"]


def test_convolutions_have_the_published_settings(architecture):
    expected, network = architecture
    ours = {
        name: {
            "kernel": list(layer.kernel_size),
            "stride": list(layer.stride),
            "padding": list(layer.padding),
            "dilation": list(layer.dilation),
        }
        for name, layer in network.named_modules()
        if isinstance(layer, nn.Conv2d)
    }
    assert ours == expected["conv_settings"]


def test_batch_norms_have_the_published_settings(architecture):
    expected, network = architecture
    norms = [layer for layer in network.modules() if isinstance(layer, nn.BatchNorm2d)]
    assert {norm.eps for norm in norms} == set(expected["bn"]["eps"])
    assert {norm.momentum for norm in norms} == set(expected["bn"]["momentum"])
    assert len(norms) == expected["bn"]["count"]


def test_optimizer_groups_are_the_published_ones(architecture):
    expected, network = architecture
    weight_decay = max(group["weight_decay"] for group in expected["optimizer_groups"])
    optimizer = build_optimizer(network, 1.0, weight_decay)
    names = {parameter: name for name, parameter in network.named_parameters()}
    ours = [
        {
            "index": index,
            "role": f"{names[group['params'][0]].split('.')[0]} {'decay' if group['weight_decay'] else 'no-decay'}",
            "lr_multiplier_of_base_lr": group["lr"],
            **{key: group[key] for key in ("weight_decay", "momentum", "nesterov", "dampening")},
            "n_params": len(group["params"]),
            "n_elements": sum(parameter.numel() for parameter in group["params"]),
            "params": [names[parameter] for parameter in group["params"]],
        }
        for index, group in enumerate(optimizer.param_groups)
    ]
    assert ours == expected["optimizer_groups"]


@pytest.mark.parametrize("name", KEYS["weight_fill_check"])
def test_our_weight_fill_is_the_reference_s(name):
    expected = KEYS["weight_fill_check"][name]
    shapes = {entry: shape for arch in ARCHITECTURES for entry, shape, _ in KEYS[arch]["state_dict"]}
    values = fill(expected["hashed_name"], shapes[name])
    assert expected["hashed_name"].endswith(name)
    assert zlib.crc32(expected["hashed_name"].encode()) == expected["crc32"]
    assert_close64(values.astype(np.float64).sum(), expected["sum_float64"])
    assert values.flatten()[: len(expected["first"])].tolist() == expected["first"]


# B. The network: values

FORWARD = re.compile(r"(?P<backbone>resnet\d+)_c(?P<classes>\d+)_(?P<mode>eval|train)_(?P<input>\w+)")
FORWARD_CASES = [
    (file, case)
    for file in names_of_files("network_forward_*")
    for case in load_json(file)["stats"]
    if FORWARD.fullmatch(case)
]
TRAIN_CASES = [(file, case) for file, case in FORWARD_CASES if FORWARD.fullmatch(case)["mode"] == "train"]


@dataclass(frozen=True)
class Forward:
    """One forward pass of ours, in float64, and the reference's arrays and statistics of the same pass."""

    logits: np.ndarray  # (B, N, H, W)
    feature: np.ndarray | None  # (B, C, H/4, W/4), in train mode
    buffers: dict[str, np.ndarray]  # after that one pass
    arrays: dict[str, np.ndarray]
    stats: dict
    norm_stats: dict[str, dict]  # by the layer's name


@pytest.fixture(scope="module", params=FORWARD_CASES, ids=lambda param: param[1])
def forward(request) -> Forward:
    file, case = request.param
    info, parts = load_json(file), FORWARD.fullmatch(case).groupdict()
    network = filled_network(f"{parts['backbone']}_v1c", int(parts["classes"]), info["weight_name_prefix"])
    image, training = normal(**info[f"input_{parts['input']}"]), parts["mode"] == "train"
    norms = f"{case.removesuffix('_' + parts['input'])} bn "
    with torch.no_grad():
        logits = network.train(training)(image).numpy()
        buffers = {name: value.numpy().copy() for name, value in network.named_buffers()}
        feature = network.features(image).numpy() if training else None
    return Forward(
        logits=logits,
        feature=feature,
        buffers=buffers,
        arrays={k.removeprefix(f"{case}_"): v for k, v in load_arrays(file).items() if k.startswith(f"{case}_")},
        stats=info["stats"][case],
        norm_stats={k.removeprefix(norms): v for k, v in info["stats"].items() if training and k.startswith(norms)},
    )


def strided(maps: np.ndarray, name: str) -> np.ndarray:
    """Every N-th row and column of (..., H, W), N from the stored array's name."""
    return maps[..., :: stride_of(name), :: stride_of(name)]


def check_logits(logits: np.ndarray, arrays: dict[str, np.ndarray], stats: dict) -> None:
    """All that is stored about one pass's logits (..., N, H, W): float64, float32, argmax and what describes them."""
    stated = stats["max_abs_err_f32_vs_f64"]
    for name, expected in arrays.items():
        if name.startswith("logits_f64"):
            assert_close64(strided(logits, name), expected, name)
        elif name.startswith("logits_f32"):
            assert_float32_error(strided(logits, name), expected, stated, name)
    # The stored argmax is the float32 run's.
    assert (logits.argmax(axis=-3) != arrays["argmax"]).sum() == stats["argmax_differs"]
    assert len(np.unique(arrays["argmax"])) == stats["classes_used"]
    # Of all float32 logits, where only every N-th is stored: a few times the error seen there.
    assert_within(logits.std(ddof=1), stats["std"], 4 * stated, "std")
    assert_within(np.abs(logits).max(), stats["absmax"], 4 * stated, "absmax")


def test_network_gives_the_published_logits(forward):
    check_logits(forward.logits, forward.arrays, forward.stats)
    assert list(forward.logits.shape) == forward.stats["shape"]


@pytest.mark.parametrize("forward", TRAIN_CASES, ids=lambda param: param[1], indirect=True)
def test_decoder_feature_is_the_published_one(forward):
    """Stored in float32 alone. The logits are linear in it, so it is as exact as they are, up to a small factor."""
    relative_error = 5 * forward.stats["max_abs_err_f32_vs_f64"] / forward.stats["absmax"]
    name, expected = next((key, value) for key, value in forward.arrays.items() if key.startswith("feature"))
    channels = -(-forward.feature.shape[1] // expected.shape[1])  # every n-th channel is stored
    assert_within(strided(forward.feature[:, ::channels], name), expected, relative_error * np.abs(expected).max())


@pytest.mark.parametrize("forward", TRAIN_CASES, ids=lambda param: param[1], indirect=True)
def test_one_pass_moves_running_statistics_as_published(forward):
    for layer, stats in forward.norm_stats.items():
        mean, variance = (forward.buffers[f"{layer}.running_{kind}"] for kind in ("mean", "var"))
        assert_float32_error(mean, forward.arrays[f"running_mean/{layer}"], stats["max_abs_diff_mean"], layer)
        relative = forward.arrays[f"running_var/{layer}"] / variance
        assert_float32_error(np.ones_like(relative), relative, stats["max_rel_diff_var"], layer)
        assert forward.buffers[f"{layer}.num_batches_tracked"] == stats["num_batches_tracked"]


# C. The seven predictors

ENSEMBLE = load_json("ensemble")


@pytest.fixture(scope="module")
def four_scores() -> dict[str, Tensor]:
    """(N, H, W) of each network by our name for it."""
    num_classes = len(load_arrays("ensemble")["v0_logits_f64_s8"])
    scores = {}
    for role, published in PUBLISHED_NAMES.items():
        network = filled_network(TRAINED_BACKBONE, num_classes, f"{ENSEMBLE['weight_name_prefix']}{published}.")
        with torch.no_grad():
            scores[role] = network.eval()(normal(**ENSEMBLE["input"]))[0]
    return scores
