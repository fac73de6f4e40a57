"""With compile=1 a step is whole graphs, a loss or labels each, made once, whose losses are those without."""

from pathlib import Path

import pytest
import torch
from batches import random_batch
from repository import REPOSITORY
from torch import nn
from torch._dynamo.utils import counters

from furnace.config.experiment import read_experiment
from furnace.engine.distributed import World
from furnace.semi.batch import Batch
from furnace.training import learner as learner_file
from furnace.training.learner import Learner

pytestmark = pytest.mark.slow
ITERATIONS = 4


@pytest.fixture
def without_inductor(monkeypatch: pytest.MonkeyPatch) -> None:
    """Graphs run as PyTorch's operators, because inductor takes minutes; none may be broken."""

    def whole(module: nn.Module) -> nn.Module:
        module.compile(backend="aot_eager", dynamic=False, fullgraph=True)
        return module

    monkeypatch.setattr(learner_file, "compiled", whole)
    torch.compiler.reset()
    counters.clear()


def learner_with(folder: Path, texts: dict[str, str], dtype: torch.dtype) -> Learner:
    small = {"pretrained_model": "none", "backbone": "resnet18_v1c", "width": "0.0625", "dataset_path": str(folder)}
    experiment = read_experiment(REPOSITORY / "exp.voc/ensemble_teacher+cutmix", small | texts)
    learner = Learner(experiment, World(), ITERATIONS)
    learner.ensemble.map(lambda network: network.to(dtype))
    for optimizer in learner.optimizers:
        for state in optimizer.state.values():
            state["momentum_buffer"] = state["momentum_buffer"].to(dtype)
    return learner


def batch_of(dtype: torch.dtype) -> Batch:
    def images(of: tuple[torch.Tensor, ...]) -> tuple[torch.Tensor, ...]:
        return tuple(image.to(dtype).contiguous(memory_format=torch.channels_last) for image in of)

    batch = random_batch(size=33)
    return Batch(images([batch.image])[0], batch.label, images(batch.weak), images(batch.strong), batch.mask)


@pytest.mark.parametrize(
    ("texts", "dtype", "graphs", "exact"),
    [
        ({"method": "ema"}, torch.float64, 2, 1e-9),  # a labeller's labels, and a student's loss, the same for both
        (
            {"method": "org", "ohem_threshold": "0.1", "ohem_min_kept": "100", "precision": "bf16"},
            torch.float32,
            3,
            3e-2,
        ),
        # A third graph is that of the cross term, whose mean is over all pixels.
        ({"method": "ema", "confidence": "0.08"}, torch.float64, 3, 1e-9),
        ({"method": "ema", "confidence": "0.08", "label_temperature": "0.5"}, torch.float64, 3, 1e-9),
        ({"method": "ema", "label_temperature": "0.5", "distribution_alignment": "1"}, torch.float64, 3, 1e-9),
    ],
    ids=["Ensemble Teacher", "CPS with OHEM in bf16", "confidence", "soft labels", "aligned labels"],
)
def test_steps_equal_those_without(
    without_inductor: None, tmp_path: Path, texts: dict[str, str], dtype: torch.dtype, graphs: int, exact: float
) -> None:
    plain, made = (learner_with(tmp_path, {**texts, "compile": compile_}, dtype) for compile_ in "01")
    for iteration in range(3):
        batch = batch_of(dtype)
        expected, found = (learner.step(batch, iteration).terms for learner in (plain, made))
        for name, value in expected.items():
            assert found[name].item() == pytest.approx(value.item(), rel=exact), name
        assert counters["stats"]["unique_graphs"] == graphs  # all of the first step, and of both networks of a kind
    assert not counters["graph_break"]
    for ours, theirs in zip(made.ensemble.networks().values(), plain.ensemble.networks().values(), strict=True):
        assert ours.state_dict().keys() == theirs.state_dict().keys()
        assert ours.backbone.bn1.num_batches_tracked == theirs.backbone.bn1.num_batches_tracked > 0
