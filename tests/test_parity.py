"""The library gives the numbers that the published code gave, from network names to whole training steps.

The numbers, and every seed, size and case they belong to, are read from a folder: by default `tests/reference`, whose
README.md says how each was made. Another folder of the same form is checked with

    PARITY_REFERENCE=/path/to/folder python -m pytest tests/test_parity.py

Float64 results agree to 1e-9. Float32 results of the published code are as far from our float64 ones as its own
float64 run was, where the folder states that distance; other tolerances are explained where they stand. Deliberate
differences have a test of their own that says so.
"""

import dataclasses
import inspect
import re
import runpy
import zlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest
import torch
import torch.nn.functional as F
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
from torch import Tensor, nn

from furnace.config.settings import Settings
from furnace.data.datasets import CITYSCAPES, VOC
from furnace.data.normalization import IMAGENET_MEAN, IMAGENET_STD
from furnace.data.samples import iterations_per_epoch
from furnace.engine.checkpoint import students_state
from furnace.evaluation.metrics import Scores, confusion_matrix
from furnace.evaluation.sliding_window import SlidingWindow
from furnace.labels import IGNORE
from furnace.semi.cutmix import BOXES, PROPORTION, cutmix_masks
from furnace.semi.ema import ema_alpha, update_parameters
from furnace.semi.ensemble import PREDICTORS, Ensemble, predict
from furnace.training.optimizer import MOMENTUM, POWER, build_optimizer, polynomial_rate

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
    assert list(students_state(students.networks())) == names
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
# The published v4 is the sum of v2 and v3, twice our mean of four; the argmax is the same.
PUBLISHED_MULTIPLE = {"v4": 2}


@pytest.fixture(scope="module")
def four_scores() -> dict[str, Tensor]:
    """(N, H, W) of each network by our name for it."""
    num_classes = next(len(value) for name, value in load_arrays("ensemble").items() if "logits" in name)
    scores = {}
    for role, published in PUBLISHED_NAMES.items():
        network = filled_network(TRAINED_BACKBONE, num_classes, f"{ENSEMBLE['weight_name_prefix']}{published}.")
        with torch.no_grad():
            scores[role] = network.eval()(normal(**ENSEMBLE["input"]))[0]
    return scores


def test_every_predictor_has_its_numbers():
    assert set(ENSEMBLE["stats"]) == set(PREDICTORS)


@pytest.mark.parametrize("code", ENSEMBLE["stats"])
def test_predictors_give_the_published_logits(code, four_scores):
    prefix = re.compile(rf"{code}_(?=logits|argmax)")  # v0_ is no prefix of v0_2_logits
    arrays = {prefix.sub("", name): value for name, value in load_arrays("ensemble").items() if prefix.match(name)}
    logits = PUBLISHED_MULTIPLE.get(code, 1) * predict(four_scores, code).numpy()
    check_logits(logits, arrays, ENSEMBLE["stats"][code])


@pytest.mark.parametrize("identity", ENSEMBLE["identities_max_abs_diff"])
def test_published_predictors_are_made_of_each_other(identity):
    """Among the stored float32 logits, for example `v2=(v0+v0_2)/2`: which shows that the published v4 is a sum."""
    arrays = load_arrays("ensemble")
    logits = {code: arrays[name] for code in PREDICTORS for name in arrays if name.startswith(f"{code}_logits_f32")}
    left, right = identity.split("=")
    combined = sum(logits[code] for code in re.findall(r"v\d(?:_\d)?", right)) / (2 if right.endswith("/2") else 1)
    assert np.abs(logits[left] - combined).max() == ENSEMBLE["identities_max_abs_diff"][identity]


# D. CutMix masks

CUTMIX = load_json("cutmix")
MASKS = re.compile(
    r"(?P<case>\w+?_(?P<height>\d+)x(?P<width>\d+)(_b\d+)?)(_(?P<calls>\d+)batches_of_(?P<n>\d+))?(_packed)?"
)


def mask_size(name: str) -> tuple[int, int]:
    parts = MASKS.fullmatch(name)
    return int(parts["height"]), int(parts["width"])


@pytest.mark.parametrize("name", load_arrays("cutmix"))
def test_masks_are_the_published_ones_bit_for_bit(name):
    """In one call, and in several that share a stream of random numbers."""
    parts, expected = MASKS.fullmatch(name), load_arrays("cutmix")[name]
    info = CUTMIX[parts["case"]]
    all_at_once = info["n"] if "n" in info else info["shape"][0]
    calls, n = int(parts["calls"] or 1), int(parts["n"] or all_at_once)
    random = np.random.RandomState(info["seed"])
    masks = np.concatenate([cutmix_masks(n, mask_size(name), random) for _ in range(calls)])
    assert list(masks.shape) == info.get("shape", [calls * n, 1, *mask_size(name)])
    np.testing.assert_array_equal(np.packbits(masks) if name.endswith("_packed") else masks, expected)


@pytest.mark.parametrize("case", [case for case in CUTMIX if "covered_fraction" in CUTMIX[case]])
def test_each_mask_covers_the_published_share(case):
    masks = cutmix_masks(CUTMIX[case]["n"], mask_size(case), np.random.RandomState(CUTMIX[case]["seed"]))
    assert_close64(masks.mean(axis=(1, 2, 3)), CUTMIX[case]["covered_fraction"])


@pytest.mark.parametrize("case", [case for case in CUTMIX if "quantiles" in CUTMIX[case]])
def test_many_masks_have_the_published_statistics(case):
    expected, random = CUTMIX[case], np.random.RandomState(CUTMIX[case]["seed"])
    calls = range(expected["n"] // expected["batches_of"])
    covered = np.concatenate(
        [cutmix_masks(expected["batches_of"], mask_size(case), random).mean(axis=(1, 2, 3)) for _ in calls]
    )
    ours = {"n": len(covered), "mean": covered.mean(), "std": covered.std(), "min": covered.min(), "max": covered.max()}
    for name, value in ours.items():
        assert_close64(value, expected[name], name)
    for share, value in expected["quantiles"].items():
        assert_close64(np.quantile(covered, float(share)), value, share)
    for name in (name for name in expected if "_below_" in name):  # fraction_of_images_below_0_10
        limit = float(name.rpartition("_below_")[2].replace("_", "."))
        assert_close64((covered < limit).mean(), expected[name], name)


# E. The schedule

SCHEDULE = load_json("schedule")
# The published base learning rate grew with the number of processes on VOC alone; Cityscapes alone has OHEM.
RATE_GROWS_WITH_PROCESSES = {"voc": True, "city": False}
MIN_KEPT_PER_IMAGE = {"voc": None, "city": Settings().ohem_min_kept}
EXPERIMENT = "exp.{name}/ensemble_teacher+cutmix/config.py"


def setting_name(setting: dict) -> str:
    return "-".join(str(part) for part in (setting["dataset"], *setting["env"].values()))


@pytest.fixture(params=SCHEDULE["settings"], ids=setting_name)
def setting(request) -> dict:
    return request.param


def test_iterations_are_the_published_number(setting):
    config = setting["config"]
    labeled, unlabeled = config["num_train_imgs"], config["num_unsup_imgs"]
    assert labeled == (labeled + unlabeled) // config["labeled_ratio"]
    assert max(labeled, unlabeled) == config["max_samples"]
    assert iterations_per_epoch(labeled, unlabeled, config["batch_size"]) == config["niters_per_epoch"]
    assert config["nepochs"] * config["niters_per_epoch"] == setting["total_iterations"]


def test_learning_rates_are_the_published_ones(setting):
    config = setting["config"]
    warmup = config["warm_up_epoch"] * config["niters_per_epoch"]
    for world, expected in setting["lr"].items():
        processes = int(world.removeprefix("world_size_"))
        growth = processes if RATE_GROWS_WITH_PROCESSES[setting["dataset"]] else 1
        assert_close64(growth * config["lr"], expected["base_lr"], world)
        for iteration, rate in expected["lr"].items():
            ours = polynomial_rate(expected["base_lr"], int(iteration), setting["total_iterations"], warmup)
            assert_close64(ours, rate, f"{world}, iteration {iteration}")


def test_processes_share_the_batch_as_published(setting):
    batch_size, per_image = setting["config"]["batch_size"], MIN_KEPT_PER_IMAGE[setting["dataset"]]
    for world, expected in setting["lr"].items():
        processes = int(world.removeprefix("world_size_"))
        assert expected["per_process_batch"] == batch_size // processes
        assert expected["ohem_min_kept"] == (per_image and per_image * batch_size // processes)


def test_the_environment_reached_the_published_configuration(setting):
    for name, value in setting["env"].items():
        assert value in (None, setting["config"][{"learning_rate": "lr"}.get(name, name)])


def test_our_constants_are_the_configured_ones(setting):
    config, dataset = setting["config"], DATASETS[setting["dataset"]]
    norm = unfilled_network(TRAINED_BACKBONE, dataset.num_classes).backbone.bn1
    ours = {
        "num_classes": dataset.num_classes,
        "train_source": f"{dataset.folder}/{dataset.labeled_list.format(ratio=config['labeled_ratio'])}",
        "unsup_source": f"{dataset.folder}/{dataset.unlabeled_list.format(ratio=config['labeled_ratio'])}",
        "eval_source": f"{dataset.folder}/{dataset.val_list}",
        "bn_eps": norm.eps,
        "bn_momentum": norm.momentum,
        "cutmix_mask_prop_range": list(PROPORTION),
        "cutmix_boxmask_n_boxes": BOXES,
        "lr_power": POWER,
        "momentum": MOMENTUM,
        "image_mean": list(IMAGENET_MEAN),
        "image_std": list(IMAGENET_STD),
        "eval_stride_rate": inspect.signature(SlidingWindow).parameters["stride_rate"].default,
    }
    assert ours == {name: config[name] for name in ours}


def test_experiments_keep_the_published_configuration(setting):
    """Weight decay alone is twice the published one: what the published division by two processes made of it."""
    file = Path(__file__).parents[1] / EXPERIMENT.format(name=setting["dataset"])
    settings = {**dataclasses.asdict(Settings()), **runpy.run_path(str(file))["config"]}
    ours = {
        **dict.fromkeys(("image_height", "image_width", "eval_base_size", "eval_crop_size"), settings["image_size"]),
        "train_scale_array": list(settings["train_scales"]),
        "cps_weight": settings["cps_weight"],
        "weight_decay": settings["weight_decay"] / 2,
        "ema_decay": settings["ema_decay"],
        "eval_scale_array": list(settings["eval_scales"]),
        "eval_flip": settings["eval_flip"],
    }
    assert ours == {name: setting["config"][name] for name in ours}


def test_warm_up_follows_the_published_rule():
    example = SCHEDULE["warmup_example"]
    for iteration, rate in example["lr"].items():
        ours = polynomial_rate(
            example["start_lr"], int(iteration), example["total"], example["warmup_steps"], example["power"]
        )
        assert_close64(ours, rate, f"iteration {iteration}")


# E. The exponential moving average


def test_ema_alpha_is_the_published_one():
    expected = SCHEDULE["ema_alpha"]
    for step, alpha in expected["alpha"].items():
        assert_close64(ema_alpha(int(step), expected["decay"]), alpha, f"step {step}")


def described_module(text: str) -> nn.Module:
    """`Sequential: 0 = Conv2d(2,3,3,bias), 1 = BatchNorm2d(3), 2 = Conv2d(3,2,1,no bias); ...` as layers."""
    layers = []
    for kind, arguments in re.findall(r"\d+ = (\w+)\(([^)]*)\)", text):
        numbers = [int(number) for number in re.findall(r"\d+", arguments)]
        options = {"bias": "no bias" not in arguments} if kind == "Conv2d" else {}
        layers.append({"Conv2d": nn.Conv2d, "BatchNorm2d": nn.BatchNorm2d}[kind](*numbers, **options))
    return nn.Sequential(*layers)


def draw_state(module: nn.Module, seed: int) -> None:
    """Every entry anew, in order, from one generator."""
    random = np.random.default_rng(seed)
    for name, value in module.state_dict().items():
        if name.endswith("num_batches_tracked"):
            value.fill_(int(random.integers(1, 1000)))
        else:
            value.copy_(torch.from_numpy(random.standard_normal(tuple(value.shape)).astype(np.float32)))


def flat_state(module: nn.Module) -> dict[str, list]:
    return {name: value.flatten().tolist() for name, value in module.state_dict().items()}


@pytest.mark.parametrize("case", SCHEDULE["ema_update"]["cases"])
def test_ema_update_moves_parameters_alone_as_published(case):
    expected = SCHEDULE["ema_update"]["cases"][case]
    student, teacher = (described_module(SCHEDULE["ema_update"]["module"]) for _ in range(2))
    draw_state(teacher, expected["teacher_seed_initial"])
    initial = flat_state(teacher)
    assert initial == expected["teacher_initial"]
    for step in expected["steps"]:
        draw_state(student, step["student_seed"])
        assert flat_state(student) == step["student"]
        alpha = ema_alpha(step["global_step"], SCHEDULE["ema_alpha"]["decay"])
        assert_close64(alpha, step["alpha"])
        update_parameters(teacher, student, alpha)
        for name, values in flat_state(teacher).items():
            if name in expected["never_changed_by_the_update"]:
                assert values == step["teacher"][name] == initial[name]
            else:  # in float32 theirs adds two products and ours a difference: a few roundings apart
                averaged = [initial[name], *(earlier["student"][name] for earlier in expected["steps"])]
                largest = np.abs(averaged).max()
                assert_within(values, step["teacher"][name], 4 * FLOAT32_STEP * largest, name)


def test_only_buffers_are_left_alone_by_the_update():
    module = described_module(SCHEDULE["ema_update"]["module"])
    for case in SCHEDULE["ema_update"]["cases"].values():
        assert case["never_changed_by_the_update"] == [name for name, _ in module.named_buffers()]


# F. Losses

LOSSES = load_json("losses")


@pytest.fixture(scope="module")
def loss_inputs() -> tuple[np.ndarray, np.ndarray]:
    """Logits (B, N, H, W) float32 and labels (B, H, W)."""
    batch, classes, height, width = LOSSES["shape"]
    random = np.random.default_rng(LOSSES["seed"])
    logits = (2 * random.standard_normal((batch, classes, height, width))).astype(np.float32)
    labels = random.integers(0, classes, (batch, height, width))
    boosted, ignored = random.random(labels.shape) < 0.5, random.random(labels.shape) < 0.15
    true_class = np.arange(classes)[:, None, None] == labels[:, None]  # (B, N, H, W)
    logits[true_class & boosted[:, None]] += np.float32(5)
    labels[ignored] = IGNORE
    return logits, labels


def case_labels(case: str, labels: np.ndarray) -> np.ndarray:
    if "all_ignored" in case:
        return np.full_like(labels, IGNORE)
    if "one_valid" in case:
        labels = np.full_like(labels, IGNORE)
        labels[0, 3, 4] = 7
    return labels


def test_our_loss_inputs_are_the_reference_s(loss_inputs):
    logits, labels = loss_inputs
    assert_close64(logits.astype(np.float64).sum(), load_arrays("losses")["logits_sum_check"])
    np.testing.assert_array_equal(labels, load_arrays("losses")["labels"])


@pytest.mark.parametrize("case", LOSSES["cases"])
def test_losses_and_gradients_are_the_published_ones(case, loss_inputs):
    """Where no pixel counts the published loss is NaN and ours, deliberately, 0; the gradient is 0 in both."""
    expected, labels = LOSSES["cases"][case], torch.from_numpy(case_labels(case, loss_inputs[1]))
    logits = torch.from_numpy(loss_inputs[0]).double().requires_grad_()
    loss = supervised_loss(None if expected["thresh"] is None else expected)(logits, labels).mean()
    loss.backward()
    gradient = logits.grad.numpy()
    touched = (gradient != 0).any(axis=1)  # (B, H, W)

    assert (expected["thresh"] is None) == (expected["min_kept"] is None) == ("ohem" not in case)
    assert (labels != IGNORE).sum() == expected["valid_pixels"]
    assert touched.sum() == expected["pixels_with_gradient"]
    assert (expected["loss_f64"] is None) == (expected["valid_pixels"] == 0)
    assert_close64(loss.item(), expected["loss_f64"] or 0.0)
    rounding = FLOAT32_STEP * np.abs(loss_inputs[0]).max()  # of a pixel's float32 loss
    assert_within(loss.item(), expected["loss_f32"] or 0.0, rounding, "float32 loss")
    assert_close64(np.linalg.norm(gradient), expected["grad_norm_f64"])
    stored = {k.removeprefix(f"{case}/"): v for k, v in load_arrays("losses").items() if k.startswith(f"{case}/")}
    np.testing.assert_array_equal(np.packbits(touched), stored.pop("kept_mask"))
    for name, values in stored.items():  # float32
        assert_within(strided(gradient, name), values, rounding / max(1, touched.sum()), name)


# G. The evaluator

EVALUATOR = load_json("evaluator")


def fake_network(seed: int, num_classes: int) -> Callable[[Tensor], Tensor]:
    """A 3x3 convolution of the window, made of one random generator."""
    random = np.random.default_rng(seed)
    weight = (random.standard_normal((num_classes, 3, 3, 3)) * np.sqrt(2 / 27)).astype(np.float32)
    bias = (0.1 * random.standard_normal(num_classes)).astype(np.float32)
    return lambda windows: F.conv2d(windows, torch.from_numpy(weight), torch.from_numpy(bias), padding=1)


def mirrored(network: Callable[[Tensor], Tensor]) -> Callable[[Tensor], Tensor]:
    """The network's scores of the mirrored window, mirrored back."""
    return lambda windows: network(windows.flip(-1)).flip(-1)


@dataclass(frozen=True)
class Evaluation:
    """One case of the evaluator: its image and what is stored of its scores."""

    info: dict
    image: np.ndarray  # (H, W, 3)
    stride: int
    expected: np.ndarray  # (H/stride, W/stride, N)
    argmax: np.ndarray  # (H, W)

    @classmethod
    def load(cls, case: str) -> "Evaluation":
        info, arrays = EVALUATOR["cases"][case], load_arrays("evaluator")
        height, width = (int(side) for side in re.search(r"(\d+)x(\d+)", case).groups())
        image = np.random.default_rng(info["image_seed"]).integers(0, 256, (height, width, 3), dtype=np.uint8)
        name = next(name for name in arrays if re.fullmatch(rf"{re.escape(case)}_scores(_s\d+)?", name))
        return cls(info, image, stride_of(name), arrays[name], arrays[f"{case}_argmax"])

    def network(self, weight_set: int = 0) -> Callable[[Tensor], Tensor]:
        return fake_network(EVALUATOR["network_seed"] + weight_set, self.expected.shape[-1])

    def scores(self, network: Callable[[Tensor], Tensor], flip: bool) -> np.ndarray:
        """(H, W, N) by our evaluator."""
        options = {"scales": self.info["scales"], "flip": flip}
        if "stride_rate" in self.info:
            options["stride_rate"] = float(Fraction(self.info["stride_rate"]))  # "2/3"
        window = SlidingWindow({"only": network}, self.expected.shape[-1], self.info["crop"], **options)
        return window.scores(torch.from_numpy(self.image))["only"].permute(1, 2, 0).numpy()

    @property
    def error(self) -> float:
        """A few float32 roundings of the largest score. Where scores are resized, positions up to the longest side
        are rounded too, which moves a score by that much of its difference from the next one.
        """
        resized = any(scale != 1 for scale in self.info["scales"])
        longest_side = max(self.image.shape) * max(self.info["scales"])
        return FLOAT32_STEP * np.abs(self.expected).max() * (longest_side if resized else 8)

    def check(self, scores: np.ndarray) -> None:
        """An argmax may differ where the two best scores are closer than their error."""
        assert_within(scores[:: self.stride, :: self.stride], self.expected, self.error, "scores")
        chosen = np.take_along_axis(scores, self.argmax[..., None].astype(np.intp), axis=2)[..., 0]
        assert_within(chosen, scores.max(axis=2), 2 * self.error, "score of the stored argmax")


SHOWS_THE_FLIP_BUG = [case for case, info in EVALUATOR["cases"].items() if "ensemble" in info]
ORDINARY = [case for case in EVALUATOR["cases"] if case not in SHOWS_THE_FLIP_BUG]


@pytest.mark.parametrize("case", ORDINARY)
def test_evaluator_gives_the_published_scores(case):
    evaluation = Evaluation.load(case)
    scores = evaluation.scores(evaluation.network(), evaluation.info["flip"])
    evaluation.check(scores)
    # Roundings of either sign mostly cancel in a sum of all scores.
    assert_within(scores.sum(dtype=np.float64), evaluation.info["score_sum_f64"], 1e-6 * np.abs(scores).sum(), "sum")
    second, first = np.sort(scores, axis=2)[..., -2:].transpose(2, 0, 1)
    assert_within((first - second).min(), evaluation.info["smallest_top2_gap"], 2 * evaluation.error, "gap")


@pytest.mark.parametrize("case", ORDINARY)
def test_evaluator_shows_the_network_the_published_windows(case):
    evaluation, shapes = Evaluation.load(case), []
    network = evaluation.network()

    def watched(windows: Tensor) -> Tensor:
        shapes.extend(list(window.shape) for window in windows)
        return network(windows)

    evaluation.scores(watched, evaluation.info["flip"])
    views = 2 if evaluation.info["flip"] else 1  # the reference counts a window and its mirror image once
    assert len(shapes) == views * evaluation.info["n_network_calls"]
    assert all(shape in evaluation.info["network_input_shapes"] for shape in shapes)
    assert all(shape in shapes for shape in evaluation.info["network_input_shapes"])


@pytest.mark.parametrize("case", SHOWS_THE_FLIP_BUG)
def test_mirrored_views_are_scored_by_the_networks_asked_for(case):
    """Deliberately not as published: there the straight view was scored by the networks asked for (here the second
    weight set), the mirrored one always by student 1 (the first). Ours must differ just in that.
    """
    evaluation = Evaluation.load(case)
    first, second = evaluation.network(), evaluation.network(weight_set=1)
    if not evaluation.info["flip"]:
        evaluation.check(evaluation.scores(second, flip=False))
        return
    ours = evaluation.scores(second, flip=True)
    longhand = evaluation.scores(lambda windows: second(windows) + mirrored(second)(windows), flip=False)
    published = evaluation.scores(lambda windows: second(windows) + mirrored(first)(windows), flip=False)
    assert_within(ours, longhand, evaluation.error)
    evaluation.check(published)
    assert np.abs(ours - published).max() > 100 * evaluation.error


# H. Metrics

METRICS = load_json("metrics")


@dataclass(frozen=True)
class Counted:
    """A data set's expected numbers, our confusion matrix of each of its images, and our scores of their sum."""

    expected: dict
    confusions: list[np.ndarray]
    scores: Scores


@pytest.fixture(scope="module", params=METRICS)
def counted(request) -> Counted:
    expected, confusions = METRICS[request.param], []
    classes, random = expected["num_classes"], np.random.default_rng(expected["seed"])
    for image in expected["images"]:
        label = random.integers(0, classes - 2, image["shape"])
        right = random.random(label.shape) < 0.6
        prediction = np.where(right, label, random.integers(0, classes - 1, label.shape))
        label[random.random(label.shape) < 0.1] = IGNORE
        confusions.append(confusion_matrix(torch.from_numpy(prediction), torch.from_numpy(label), classes).numpy())
    return Counted(expected, confusions, Scores.from_confusion(sum(confusions)))


def test_confusion_matrix_is_the_published_one(counted):
    assert sum(counted.confusions).tolist() == counted.expected["hist"]
    for confusion, image in zip(counted.confusions, counted.expected["images"], strict=True):
        assert confusion.sum() == image["labeled"]
        assert np.trace(confusion) == image["correct"]


def test_scores_are_the_published_ones(counted):
    expected, ours = counted.expected, counted.scores
    assert_close64(ours.iou, np.array(expected["iu"], dtype=np.float64))  # null is NaN
    assert_close64(ours.mean_iou, expected["mean_IU"])
    assert_close64(ours.mean_iou_no_background, expected["mean_IU_no_back"])
    assert_close64(ours.pixel_accuracy, expected["mean_pixel_acc"])


def test_result_text_is_the_published_one(counted):
    text = counted.scores.text(counted.expected["class_names"])
    assert text == counted.expected["result_text"]
    names_and_values = [line.split("\t", 1) for line in text.splitlines()]
    unnamed = [f"Class {number}:\t{values}" for number, (_, values) in enumerate(names_and_values[:-1], 1)]
    assert "\n".join([*unnamed, "\t".join(names_and_values[-1])]) == counted.expected["result_text_no_names"]


@pytest.mark.parametrize("name", METRICS)
def test_classes_have_the_published_names(name):
    assert list(DATASETS[name].classes) == METRICS[name]["class_names"]
    assert DATASETS[name].num_classes == METRICS[name]["num_classes"]


# I. Whole training steps


@dataclass(frozen=True)
class Run:
    """A train_step file and our replay of it, whose arrays go by the same names less the precision."""

    info: dict
    arrays: dict[str, np.ndarray]
    ours: Replay

    def pairs(self, pattern: str) -> Iterator[tuple[str, np.ndarray, np.ndarray]]:
        """Every stored array whose whole name fits: its name, ours at the stored size, and the stored one."""
        for name, expected in self.arrays.items():
            if re.fullmatch(pattern, name):
                yield name, subsample(self.ours.arrays[without_precision(name)], expected.shape), expected

    def float32_stats(self, name: str) -> dict:
        """What the reference states about the float32 run, of the step and network in an array's name."""
        step, network = re.match(r"step(\d+)/(\w+)/", name).groups()
        return self.info["steps"][int(step) - 1]["f32_vs_f64"][network]


def without_precision(name: str) -> str:
    return re.sub(r"_f(32|64)(?=/|$)", "", name)


GRADIENT_NORMS = "grad_norm relative: median, max, name of max"  # the name of a statement about float32


@pytest.fixture(
    scope="module", params=[pytest.param(name, marks=pytest.mark.slow) for name in names_of_files("train_step_*")]
)
def run(request) -> Run:
    info, arrays = load_json(request.param), load_arrays(request.param)
    whole_entries = {without_precision(name) for name in arrays if name.count("/") == 3}  # step/network/kind/entry
    return Run(info, arrays, replay(info, whole_entries))


def test_training_is_configured_as_published(run):
    assert run.info["momentum"] == MOMENTUM
    assert run.info["niters_per_epoch"] * run.info["nepochs"] == run.info["total_iterations"]
    assert run.info["supervised_criterion"] == ("ProbOhemCrossEntropy2d" if run.info["ohem"] else "CrossEntropyLoss")
    assert run.info["num_classes"] == DATASETS[run.info["dataset"]].num_classes
    network = unfilled_network(TRAINED_BACKBONE, run.info["num_classes"])
    assert [name for name, _ in network.named_parameters()] == run.arrays["parameter_names"].tolist()
    assert [name for name, _ in network.named_buffers()] == run.arrays["buffer_names"].tolist()


def test_training_steps_have_the_published_learning_rate(run):
    for number, (ours, expected) in enumerate(zip(run.ours.steps, run.info["steps"], strict=True), 1):
        assert expected["step"] == number
        assert_close64(ours.learning_rates, expected["lr_in_every_group"])
        assert_close64(ours.learning_rates, [expected["lr"]])


def test_training_losses_are_the_published_ones(run):
    for ours, expected in zip(run.ours.steps, run.info["steps"], strict=True):
        assert set(ours.losses) == set(expected["float64"]) == set(expected["float32"])
        for name, loss in ours.losses.items():
            assert_close64(loss, expected["float64"][name], name)
            error = float32_growth(expected["step"]) + flipped_share(run.info, expected)
            assert_within(loss, expected["float32"][name], error * loss, name)


def flipped_share(info: dict, step: dict) -> float:
    """The share of pixels whose pseudo-label is another one in float32, as stated, or that OHEM may select otherwise:
    one or two of those it keeps.
    """
    flipped = sum(step[f"pseudo_label_{number}_pixels_differing_f32_vs_f64"] for number in (1, 2)) / step["n_pixels"]
    return flipped + (2 / info["ohem"]["min_kept"] if info["ohem"] and info["ohem"]["min_kept"] else 0)


def float32_growth(step: int) -> float:
    """How far float32 may have drifted, relatively: about 1e-6 in step 1 and 1e-4 in step 2 (README, section I), and
    ten times that for safety.
    """
    return 1e-5 * 100 ** (step - 1)


def test_training_masks_and_pseudo_labels_are_the_published_ones(run):
    compared = list(run.pairs(r"step\d+/(mask|pseudo_label_\d_f64)"))
    assert len(compared) == 3 * len(run.info["steps"])
    for name, ours, expected in compared:
        np.testing.assert_array_equal(ours, expected, name)


def test_float32_pseudo_labels_differ_in_the_stated_pixels(run):
    for name, ours, expected in run.pairs(r"step\d+/pseudo_label_\d_f32"):
        stated = run.info["steps"][int(re.search(r"\d+", name)[0]) - 1]
        label = name.partition("/")[2].removesuffix("_f32")
        assert ours.size == stated["n_pixels"]
        assert (ours != expected).sum() == stated[f"{label}_pixels_differing_f32_vs_f64"], name
        assert len(np.unique(ours)) == stated[f"classes_in_{label}"], name


@pytest.mark.parametrize("quantity", ["grad", "grad_norm", "delta_norm", "value", "norm", "sum", "buffer", "bsum"])
def test_training_gives_the_published_numbers(run, quantity):
    """Gradients, changes of the step, parameters and running statistics after it: sums and norms of all, some whole."""
    compared = list(run.pairs(rf"step\d+/\w+/{quantity}_f64(/.*)?"))
    assert compared
    for name, ours, expected in compared:
        assert_close64(ours, expected, name)


def test_training_counts_the_published_number_of_batches(run):
    for ours, expected in zip(run.ours.steps, run.info["steps"], strict=True):
        assert ours.batches_tracked == expected["num_batches_tracked"]


def test_float32_gradient_norms_are_off_as_stated(run):
    for name, ours, expected in run.pairs(r"step\d+/\w+/grad_norm_f32"):
        relative = np.abs(expected - ours) / ours
        stats = run.float32_stats(name)
        median, largest, name_of_largest = stats[GRADIENT_NORMS]
        np.testing.assert_allclose([np.median(relative), relative.max()], [median, largest], rtol=1e-6, err_msg=name)
        assert run.arrays["parameter_names"][relative.argmax()] == name_of_largest
        for index, parameter in enumerate(run.arrays["parameter_names"]):  # two norms are closer than the gradients
            assert relative[index] <= stats.get(f"grad/{parameter} relative L2", np.inf) * (1 + 1e-6), parameter


def test_float32_parameters_are_off_as_stated(run):
    """The largest error of a whole parameter is stated: a bound on it where only every n-th entry is stored."""
    for name, ours, expected in run.pairs(r"step\d+/\w+/value_f32/.*"):
        stated = run.float32_stats(name)[f"value/{name.rpartition('/')[2]} max abs"]
        if ours.shape == run.ours.arrays[without_precision(name)].shape:
            assert_float32_error(ours, expected, stated, name)
        else:
            assert_within(ours, expected, stated * (1 + 1e-6), name)


def test_float32_changes_norms_and_sums_follow(run):
    """Parameters are off by about the error of their gradients, as stated, times the way they went; besides rounding.

    The norm, and the norm of the change, is off by at most the norm of that, a sum of n entries by sqrt(n) of it.
    """
    network = unfilled_network(TRAINED_BACKBONE, run.info["num_classes"])
    allowed_factor = {"norm": 1, "delta_norm": 2, "sum": np.sqrt([value.numel() for value in network.parameters()])}
    for name, ours, expected in run.pairs(r"step\d+/\w+/(norm|delta_norm|sum)_f32"):
        step, branch, quantity = name.removesuffix("_f32").split("/")
        until_then = range(1, int(step.removeprefix("step")) + 1)
        gradient_error = max(stated_gradient_error(run, earlier, branch.removeprefix("ema_")) for earlier in until_then)
        way = sum(run.ours.arrays[f"step{earlier}/{branch}/delta_norm"] for earlier in until_then)
        error = 3 * gradient_error * way + FLOAT32_STEP * run.ours.arrays[f"{step}/{branch}/norm"]
        assert_within(ours, expected, allowed_factor[quantity] * error, name)


def stated_gradient_error(run: Run, step: int, student: str) -> float:
    stats = run.float32_stats(f"step{step}/{student}/")
    return max(stats[GRADIENT_NORMS][1], *(value for name, value in stats.items() if name.endswith("relative L2")))


def test_float32_sums_of_running_statistics_follow(run):
    """Nothing is stated about these: they are forward results, like the losses."""
    for name, ours, expected in run.pairs(r"step\d+/\w+/bsum_f32"):
        step = int(re.search(r"\d+", name)[0])
        assert_within(ours, expected, float32_growth(step) * np.abs(expected).max(), name)
