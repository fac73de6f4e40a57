"""Three processes agree: on gradients to the last bit after a resume, on losses, and with what torch.compile makes."""

import copy
import os
import socket
import warnings
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
import torch.multiprocessing as multiprocessing
from torch import Tensor, nn
from torch._dynamo.utils import counters

from furnace.engine.distributed import World
from furnace.engine.join import join_world, leave_world
from furnace.semi.batch import Batch
from furnace.semi.cross_supervision import CrossSupervision, as_it_is
from furnace.semi.ensemble import Ensemble
from furnace.training.meters import LossMeter
from furnace.training.optimizer import build_optimizer

pytestmark = [pytest.mark.xdist_group("several processes"), pytest.mark.slow]
PROCESSES, STEPS, CLASSES, SIZE = 3, 4, 5, 17


class Network(nn.Module):
    """Its parts are declared in another order than gradients come in, as those of DeepLabv3+ are."""

    def __init__(self) -> None:
        super().__init__()
        self.classifier = nn.Conv2d(16, CLASSES, 1)
        self.backbone = nn.Sequential(nn.Conv2d(3, 16, 3, padding=1), nn.BatchNorm2d(16), nn.ReLU(inplace=True))
        self.head = nn.Sequential(nn.Conv2d(16, 16, 3, padding=1), nn.BatchNorm2d(16), nn.ReLU())

    def forward(self, image: Tensor) -> Tensor:
        return self.classifier(self.head(self.backbone(image)))


class Run:
    """Cross pseudo supervision of two small students, from the same start in every process."""

    def __init__(self, world: World, ready: Callable[[nn.Module], nn.Module] = as_it_is) -> None:
        torch.manual_seed(0)
        self.world = world
        self.ensemble = Ensemble(Network, with_teachers=True)
        self.ensemble.map(world.synchronized)
        self.algorithm = CrossSupervision(
            self.ensemble.students,
            self.ensemble.teachers,
            "weak",
            average=world.mean,
            compiled=ready,
            parallel=world.data_parallel,
        )
        self.optimizers = [build_optimizer(student, 0.1, 1e-4) for student in self.ensemble.students]

    def step(self, number: int) -> dict[str, float]:
        random = torch.Generator().manual_seed(10 * number + self.world.rank)
        images = [torch.randn(2, 3, SIZE, SIZE, generator=random) for _ in range(3)]
        label = torch.randint(0, CLASSES, (2, SIZE, SIZE), generator=random).to(torch.uint8)
        mask = (torch.rand(2, 1, SIZE, SIZE, generator=random) < 0.3).to(torch.uint8)
        terms = self.algorithm.accumulate_gradients(Batch(images[0], label, (images[1], images[2]), None, mask), 1.5)
        for optimizer in self.optimizers:
            optimizer.step()
            optimizer.zero_grad()
        return {name: value.item() for name, value in terms.terms().items()}

    def state(self) -> dict:
        networks = self.ensemble.networks().values()
        return copy.deepcopy([part.state_dict() for part in (*networks, *self.optimizers)])

    def restore(self, state: list[dict]) -> None:
        for part, saved in zip((*self.ensemble.networks().values(), *self.optimizers), state, strict=True):
            part.load_state_dict(saved)


def whole(module: nn.Module) -> nn.Module:
    """Compiles without inductor's slow way to machine code, and refuses to break the graph."""
    module.compile(backend="aot_eager", dynamic=False, fullgraph=True)
    return module


def resumed(world: World) -> dict:
    """The weights of a run that was never stopped, and of one that was after its second step."""
    straight = Run(world)
    for step in range(2):
        straight.step(step)
    saved, again = straight.state(), Run(world)
    again.restore(saved)
    for step in range(2, STEPS):
        straight.step(step), again.step(step)
    rebuilt = [parallel._has_rebuilt_buckets for parallel in straight.algorithm.losses_of]
    return {"straight": straight.state(), "again": again.state(), "rebuilt": rebuilt}


def compiled(world: World) -> dict:
    """The losses without and with torch.compile, and how many graphs each step has added to those before."""
    plain, made, graphs = Run(world), Run(world, whole), []
    losses = [(plain.step(step), made.step(step), graphs.append(counters["stats"]["unique_graphs"])) for step in (0, 1)]
    return {"losses": [both[:2] for both in losses], "graphs": graphs, "states": (plain.state(), made.state())}


def metered(world: World) -> dict:
    """What each process finds of three steps, of which the second is not finite in the last process."""
    meter = LossMeter(world.mean)
    for iteration, loss in enumerate((1.0, float("nan") if world.rank == 2 else 5.0, 2.0)):
        meter.add(iteration, {"loss_sup_1": torch.tensor(loss + world.rank)})
    found = [(bad.iteration, bad.term) for bad in meter.read_back()]
    return {"bad": found, "means": meter.means(), "state": meter.state()}


def process(rank: int, port: int, folder: str) -> None:
    torch.set_num_threads(1)
    warnings.simplefilter("error", FutureWarning)  # of names that torch is about to drop
    address = {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port)}
    os.environ.update(RANK=str(rank), LOCAL_RANK=str(rank), WORLD_SIZE=str(PROCESSES), **address)
    world = join_world(gpus=0, timeout_minutes=10)
    found = {"resumed": resumed(world), "metered": metered(world), "compiled": compiled(world)}
    torch.save(found, Path(folder) / f"{rank}.pth")
    leave_world()
    os._exit(0)


@pytest.fixture(scope="module")
def found(tmp_path_factory: pytest.TempPathFactory) -> list[dict]:
    folder = tmp_path_factory.mktemp("three")
    with socket.socket() as server:
        server.bind(("127.0.0.1", 0))
        port = server.getsockname()[1]
    multiprocessing.spawn(process, (port, str(folder)), nprocs=PROCESSES)
    return [torch.load(folder / f"{rank}.pth") for rank in range(PROCESSES)]


def test_a_resumed_run_has_the_same_bits(found: list[dict]) -> None:
    for process in found:
        assert process["resumed"]["rebuilt"] == [True, True]  # what would change the order of sums
        assert_equal(process["resumed"]["straight"], process["resumed"]["again"])
        assert_equal(process["resumed"]["straight"], found[0]["resumed"]["straight"])


def assert_equal(ours: list[dict], theirs: list[dict]) -> None:
    torch.testing.assert_close(ours, theirs, rtol=0, atol=0)


def test_all_find_what_is_not_finite_in_one(found: list[dict]) -> None:
    for process in found:
        assert process["metered"]["bad"] == [(1, "loss_sup_1")]
        assert process["metered"]["means"] == {"loss_sup_1": 2.5, "skipped_steps": 1}  # of 1, 2, 3 and 2, 3, 4
        assert process["metered"]["state"] == found[0]["metered"]["state"]


def test_compiled_whole_with_its_exchanges(found: list[dict]) -> None:
    """One graph for labels and one for losses, whose batch norms and gradients exchange as ever."""
    for process in found:
        assert process["compiled"]["graphs"] == [2, 2]
        for plain, made in process["compiled"]["losses"]:
            assert made == pytest.approx(plain, rel=1e-5)
        torch.testing.assert_close(*process["compiled"]["states"], rtol=1e-4, atol=1e-6)
        assert_equal(process["compiled"]["states"][1], found[0]["compiled"]["states"][1])
