"""Pixels below a threshold of confidence are not learned from; the mean of the cross term stays over all pixels."""

import copy
from contextlib import nullcontext

import pytest
import torch
from batches import CLASSES, random_batch, small_network
from steps import require_longhand_step
from torch.utils._python_dispatch import TorchDispatchMode

from furnace.engine.memory import Counting
from furnace.labels import IGNORE
from furnace.semi import confidence as confidence_file
from furnace.semi.confidence import likeliest_and_confident
from furnace.semi.cross_supervision import CrossSupervision
from furnace.semi.ensemble import Ensemble
from furnace.semi.losses import cross_entropy, cross_entropy_over_all
from furnace.semi.terms import LabelsOf


def logits_of(dtype: torch.dtype, layout: torch.memory_format = torch.contiguous_format) -> torch.Tensor:
    """Logits of which some pixels are unsure, some sure, and some have a probability of exactly 1 in fp32."""
    scale = torch.tensor([0.1, 1.0, 5.0, 200.0])[torch.randint(4, (3, 1, 17, 23))]
    return (torch.randn(3, 7, 17, 23) * scale).to(dtype).contiguous(memory_format=layout)


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.bfloat16, torch.float16], ids=str)
@pytest.mark.parametrize("layout", [torch.contiguous_format, torch.channels_last], ids=str)
@pytest.mark.parametrize("threshold", [0.2, 0.5, 0.95, 1.0])
@pytest.mark.parametrize("band", [1, 7 * 3 * 23 * 5, 2**24])
def test_confident_pixels_are_those_of_softmax(
    monkeypatch: pytest.MonkeyPatch, dtype: torch.dtype, layout: torch.memory_format, threshold: float, band: int
) -> None:
    monkeypatch.setattr(confidence_file, "BAND", band)
    logits = logits_of(dtype, layout)
    probability = logits.double().softmax(dim=1).amax(dim=1)  # at full resolution, in float64
    # Rounding decides near the threshold. At 1, fp32 does not see what fp64 sees of the other classes.
    clear = (probability - threshold).abs() > 1e-5 if threshold < 1 else (1 - probability > 1e-5) | (probability == 1)
    assert clear.float().mean() > 0.95
    before = logits.clone()
    likeliest, confident = likeliest_and_confident(logits, threshold)
    assert torch.equal(logits, before)
    assert torch.equal(likeliest, logits.argmax(dim=1))
    assert torch.equal(confident[clear], (probability >= threshold)[clear])
    assert 0 < confident.float().mean() < 1


def test_every_pixel_is_confident_at_a_tiny_threshold_but_none_that_is_no_number() -> None:
    logits = logits_of(torch.float32)
    logits[0, 3, 2, 2] = torch.nan
    _, confident = likeliest_and_confident(logits, 1e-300)
    assert not confident[0, 2, 2] and confident.sum() == confident.numel() - 1


def test_nothing_as_large_as_the_logits_is_held() -> None:
    """The largest tensor that is made is a band of differences in fp32; beside it are a few maps of single numbers."""
    logits = torch.randn(2, 21, 64, 64).bfloat16()
    band, a_map = logits.numel() // 8, 2 * 64 * 64
    with pytest.MonkeyPatch.context() as patched, Counting([logits]) as counting:
        patched.setattr(confidence_file, "BAND", band)
        likeliest_and_confident(logits, 0.9)
    assert counting.peak < 4 * (band + 7 * a_map) < 4 * logits.numel()


@pytest.mark.parametrize("shape", [(8, 21, 512, 512), (4, 19, 800, 800)], ids=["VOC", "Cityscapes"])
def test_a_threshold_costs_few_operators(shape: tuple[int, ...]) -> None:
    """On a GPU a step waits for its thousands of kernels to be started; these are of one of a step's four looks."""
    called: dict[float, list[str]] = {}

    class Calls(TorchDispatchMode):
        def __torch_dispatch__(self, function, types, arguments=(), keywords=None):
            if not function.is_view:
                called[threshold].append(str(function))
            return function(*arguments, **(keywords or {}))

    for threshold in (0.0, 0.95):
        called[threshold] = []
        logits = torch.empty(shape, dtype=torch.bfloat16, device="meta")
        with Calls():
            LabelsOf(torch.nn.Identity(), nullcontext, threshold)(logits)
    assert len(called[0.95]) - len(called[0.0]) <= 20 and len(called[0.0]) == 2, called


def test_unsure_pixels_are_ignored_and_their_class_is_kept() -> None:
    network = small_network()
    image = random_batch().image
    every, none, *_ = LabelsOf(copy.deepcopy(network), torch.no_grad)(image)
    assert none is None
    label, likeliest, soft, _ = LabelsOf(copy.deepcopy(network), torch.no_grad, 0.3)(image)
    assert label.dtype == likeliest.dtype == torch.uint8 and soft is None
    sure = network(image).softmax(dim=1).amax(dim=1) >= 0.3
    assert torch.equal(likeliest, every) and torch.equal(label, every.where(sure, torch.tensor(IGNORE).to(torch.uint8)))
    assert 0 < sure.sum() < sure.numel()


def test_ignored_pixels_count_in_the_mean() -> None:
    logits, labels = torch.randn(2, CLASSES, 9, 9, dtype=torch.float64), torch.randint(CLASSES, (2, 9, 9))
    assert torch.equal(cross_entropy_over_all(logits, labels).mean(), cross_entropy(logits, labels).mean())
    labels[0, :5] = IGNORE
    pixels = [
        -logits[image, :, row, column].log_softmax(0)[labels[image, row, column]]
        for image, row, column in (labels != IGNORE).nonzero().tolist()
    ]
    expected = sum(pixels).item() / labels.numel()
    assert cross_entropy_over_all(logits, labels).mean().item() == pytest.approx(expected, rel=1e-12)
    assert cross_entropy_over_all(logits.bfloat16(), labels).count.dtype == torch.float32


@pytest.mark.parametrize("labellers", ["students", "teachers"])
@pytest.mark.parametrize("threshold", [0.0, 0.3, 1.0])
def test_step_equals_longhand(labellers: str, threshold: float) -> None:
    losses = require_longhand_step(Ensemble(small_network, with_teachers=True), labellers, confidence=threshold)
    shares = [(label != IGNORE).double().mean().item() for label in losses.pseudo_labels]
    if threshold == 0:
        assert losses.likeliest is None and shares == [1, 1]
    else:
        assert all(0.05 < share < 0.95 for share in shares) if threshold < 1 else shares == [0, 0]


def test_at_1_nothing_is_learned_from_pairs() -> None:
    """The gradients are those of a supervised step, but for what the pairs do to no weight: running statistics."""
    ensemble = Ensemble(small_network, with_teachers=True)
    alone, batch = copy.deepcopy(ensemble), random_batch()
    losses = CrossSupervision(ensemble.students, ensemble.teachers, "strong", confidence=1.0)
    found = losses.accumulate_gradients(batch, 1.0)
    CrossSupervision(alone.students, [], "strong").accumulate_gradients(batch, 1.0)
    assert all(loss == 0 for loss in found.cross)
    for ours, theirs in zip(ensemble.students, alone.students, strict=True):
        for (name, weight), right in zip(ours.named_parameters(), theirs.parameters(), strict=True):
            assert torch.equal(weight.grad, right.grad), name
