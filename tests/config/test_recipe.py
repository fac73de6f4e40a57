"""An experiment that builds on another: whose values and files hold, what belongs to a run, and what is refused."""

import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from furnace.config.experiment import Experiment, read_experiment
from furnace.data.datasets import CITYSCAPES, VOC
from furnace.errors import InputError

CONFIG = "from furnace.data.datasets import CITYSCAPES, VOC\n\nconfig = dict({})\n"
NETWORK = """from my_layers import MARK
from torch import nn


def build_network(*arguments):
    network = nn.Module()
    network.backbone = network.head = network.classifier = nn.Identity()
    network.mark = MARK
    return network
"""
BASE = "dataset=VOC, epochs=((8, 34), (4, 40)), learning_rate=0.5, weight_decay=0.25, train_scales=(1, 2)"


@pytest.fixture
def write(tmp_path: Path) -> Callable[..., Path]:
    """Writes an experiment's config.py, and further files of it by the names that keywords give them."""

    def write(name: str, config: str, **files: str) -> Path:
        folder = tmp_path / name
        folder.mkdir(parents=True, exist_ok=True)
        (folder / "config.py").write_text(CONFIG.format(config))
        for stem, text in files.items():
            (folder / f"{stem}.py").write_text(text)
        return folder

    return write


@pytest.fixture
def read(tmp_path: Path) -> Callable[..., Experiment]:
    return lambda folder, **texts: read_experiment(folder, {"dataset_path": str(tmp_path), **texts})


@pytest.fixture
def base(write: Callable) -> Path:
    return write("the base+1", BASE, network=NETWORK, my_layers="MARK = 'base'\n")


def refused(read: Callable, folder: Path) -> str:
    with pytest.raises(InputError) as caught:
        read(folder)
    assert "\n" not in str(caught.value)
    return str(caught.value)


def test_what_stands_in_the_own_file_wins(base: Path, write: Callable, read: Callable) -> None:
    own = read(write("own", "base='../the base+1', learning_rate=0.125"))
    assert (own.dataset, own.settings.nepochs) == (VOC, 34)
    assert (own.settings.learning_rate, own.settings.weight_decay, own.settings.train_scales) == (0.125, 0.25, (1, 2))
    assert read(own.folder, learning_rate="1").settings.learning_rate == 1
    assert read(base).settings.learning_rate == 0.5  # nothing of it comes back
    other = read(write("other", "base='../the base+1', dataset=CITYSCAPES, epochs=((8, 3),), learning_rate=None"))
    assert (other.dataset, other.settings.nepochs) == (CITYSCAPES, 3)
    assert other.settings.learning_rate == 0.0025  # not set: the default of all experiments


@pytest.mark.parametrize("named", ["absolute", "$BASES/the base+1", "~/the base+1"])
def test_ways_to_name_a_base(
    base: Path, write: Callable, read: Callable, monkeypatch: pytest.MonkeyPatch, named: str
) -> None:
    monkeypatch.setenv("BASES", str(base.parent))
    monkeypatch.setenv("HOME", str(base.parent))
    own = write("deep/below/own", f"base={str(base) if named == 'absolute' else named!r}")
    assert read(own).settings.weight_decay == 0.25


def test_a_base_of_a_base(base: Path, write: Callable, read: Callable) -> None:
    write("middle", "base='../the base+1', learning_rate=0.125, ema_decay=0.5")
    own = read(write("own", "base='../middle', ema_decay=0.75"))
    assert own.settings.nepochs == 34
    assert (own.settings.weight_decay, own.settings.learning_rate, own.settings.ema_decay) == (0.25, 0.125, 0.75)
    assert own.network().mark == "base"
    assert set(own.code.digests()) == {
        "config.py",
        "../middle/config.py",
        *(f"../the base+1/{name}.py" for name in ("config", "network", "my_layers")),
    }


def test_paths_of_a_base_start_at_the_base_but_for_what_is_written(write: Callable, tmp_path: Path) -> None:
    paths = "volna='root', dataset_path='data', lists_path='lists', OUTPUT_PATH='out', snapshot_dir='snapshots'"
    base = write("the base", f"{BASE}, {paths}, pretrained_model='x.pth'", network=NETWORK, my_layers="MARK = 1\n")
    (base / "data").mkdir()
    own = write("deep/own", "base='../../the base', pretrained_model_2='y.pth'")

    def found(folder: Path, **texts: str) -> list[Path]:
        settings = read_experiment(folder, texts | {"backbone": "resnet18_v1c", "width": "1"}).settings
        read, written = (settings.volna, settings.dataset_path, settings.lists_path), settings.OUTPUT_PATH
        return [*read, Path(settings.pretrained_model), written, settings.snapshot_dir]

    there = [base / name for name in ("root", "data", "lists", "x.pth")]
    assert found(base) == [*there, base / "out", base / "snapshots"]
    assert found(own) == [*there, own / "out", own / "snapshots"]
    (own / "data").mkdir()
    by_hand = found(own, dataset_path="data", lists_path="lists", pretrained_model="x.pth")
    assert by_hand[1:4] == [own / name for name in ("data", "lists", "x.pth")]


@pytest.mark.parametrize("source", ["none", "random", "hub", "torchvision://resnet50", "/x.pth", "{volna}/x.pth"])
def test_what_is_no_relative_path_stays(write: Callable, source: str) -> None:
    from furnace.config.modules import Code
    from furnace.config.recipe import read_recipe

    write("base", f"{BASE}, pretrained_model={source!r}")
    recipe = read_recipe(Code(write("own", "base='../base'")))
    assert recipe.defaults["pretrained_model"] == source


def test_files_of_the_own_folder_come_before_those_of_the_base(base: Path, write: Callable, read: Callable) -> None:
    own = read(write("own", "base='../the base+1'", my_layers="MARK = 'own'\n"))
    for _ in range(2):  # each finds its own modules, in whatever order
        assert own.network().mark == "own"
        assert read(base).network().mark == "base"
    assert set(own.code.digests()) == {
        "config.py",
        "my_layers.py",
        *(f"../the base+1/{n}.py" for n in ("config", "network")),
    }
    assert sys.path.count(str(own.folder)) + sys.path.count(str(base)) == 2
    other = read(write("other", "base='../the base+1'", network=NETWORK.replace("= MARK", "= MARK * 2")))
    assert other.network().mark == "basebase"
    assert sys.path.count(str(own.folder)) == 0 and sys.path.count(str(base)) == 1


def test_an_error_in_a_file_of_the_base_names_it(base: Path, write: Callable, read: Callable) -> None:
    own = write("own", "base='../the base+1'")
    (base / "network.py").write_text("def build_network(*arguments):\n    raise ValueError('too wide')\n")
    with pytest.raises(InputError, match=r"the base\+1/network.py: build_network: ValueError: too wide; mend the file"):
        read(own).network()
    (base / "network.py").unlink()
    assert refused(read, own).startswith(f"no experiment: {own}/network.py is missing; ")


def put(name: str, text: str) -> Callable[[Path], object]:
    return lambda root: (root / name).write_text(text)


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (put("the base+1/network.py", f"# A comment.\n{NETWORK}"), []),
        (put("the base+1/network.py", NETWORK.replace("nn.Identity", "nn.ReLU")), ["../the base+1/network.py"]),
        (put("the base+1/my_layers.py", "MARK = 2\n"), ["../the base+1/my_layers.py"]),
        (put("the base+1/config.py", CONFIG.format(f"{BASE}, seed=1")), []),  # its settings are compared themselves
        (put("own/network.py", NETWORK), []),  # the same, at another place
        (put("own/network.py", NETWORK.replace("nn.Identity", "nn.ReLU")), ["../the base+1/network.py"]),
        (put("own/my_layers.py", "MARK = 2\n"), ["../the base+1/my_layers.py"]),
        (
            put("own/config.py", CONFIG.format("base='../another'")),
            ["../the base+1/my_layers.py", "../the base+1/network.py"],
        ),
    ],
)
def test_what_a_run_belongs_to(
    base: Path, write: Callable, read: Callable, tmp_path: Path, change: Callable, said: list[str]
) -> None:
    write("another", BASE, network=NETWORK, my_layers="MARK = 'base'\n")
    own = read(write("own", "base='../the base+1'"))
    own.network()
    before = own.code.digests()
    change(tmp_path)
    assert read(own.folder).code.changes(before) == [f"{name} has changed" for name in said]


def test_a_run_goes_on_after_its_own_network_has_become_the_base_s(base: Path, write: Callable, read: Callable) -> None:
    own = read(write("own", "base='../the base+1'", network=NETWORK))
    own.network()
    before = own.code.digests()
    (own.folder / "network.py").unlink()
    assert read(own.folder).code.changes(before) == []
    (base / "network.py").write_text(NETWORK.replace("nn.Identity", "nn.ReLU"))
    assert read(own.folder).code.changes(before) == ["network.py has changed"]


@pytest.mark.parametrize("place", ["..", "below"])
def test_a_base_may_lie_above_or_below(write: Callable, read: Callable, place: str) -> None:
    own = write("above/own", f"base={place!r}")
    base = write(f"above/own/{place}", BASE, network=NETWORK, my_layers="MARK = 1\n").resolve()
    experiment = read(own)
    assert experiment.network().mark == 1
    before = experiment.code.digests()
    assert set(before) == {"config.py", *(f"{place}/{name}.py" for name in ("config", "network", "my_layers"))}
    assert experiment.code.changes(before) == []
    (own / "my_layers.py").write_text("MARK = 2\n")
    assert experiment.code.changes(before) == [f"{place}/my_layers.py has changed"] and base.is_dir()


def test_a_base_that_is_none_is_one_line(write: Callable, read: Callable, tmp_path: Path) -> None:
    own = write("own", "base='../nowhere'")
    line = f"{own}/config.py: base: expected the folder of another experiment, found '../nowhere': {tmp_path}/nowhere"
    assert refused(read, own).startswith(f"{line} holds no config.py; ")
    write("own", "base='../own'")
    itself = "expected another experiment, found one that builds on itself"
    assert refused(read, own).startswith(f"{own}/config.py: base: {itself}: {own} -> {own}; ")
    write("own", "base='../second'")
    write("second", "base='../third'")
    write("third", "base='../second'")
    way = " -> ".join(f"{tmp_path}/{name}" for name in ("second", "third", "second"))
    line = f"{tmp_path}/third/config.py: base: expected another experiment, found one that builds on itself: {way}; "
    assert refused(read, own).startswith(line)
    write("own", "base='$NO_SUCH_VARIABLE/x'")
    assert f"{own}/config.py: base: expected a folder ($NO_SUCH_VARIABLE is no variable" in refused(read, own)
    write("own", "base=3")
    assert "expected the folder of another experiment, found '3': " in refused(read, own)


@pytest.mark.parametrize(
    ("in_base", "in_own", "line"),
    [
        (BASE, "learning_rat=1", "own/config.py: unknown setting learning_rat (perhaps learning_rate)"),
        (f"{BASE}, learning_rat=1", "seed=1", "base/config.py: unknown setting learning_rat (perhaps learning_rate)"),
        (BASE, "batch_size=1", "own/config.py: batch_size: expected a whole number of at least 2, found '1'; mend it"),
        (f"{BASE}, batch_size=1", "seed=1", "base/config.py: batch_size: expected a whole number of at least 2, found"),
        (f"{BASE}, lists_path='$NO_SUCH'", "seed=1", "base/config.py: lists_path: expected a folder ($NO_SUCH is no"),
        ("epochs=((8, 1),)", "seed=1", "base/config.py: expected dataset (a furnace.data.datasets.Dataset, or"),
        (BASE, "dataset=3", "own/config.py: expected dataset (a furnace.data.datasets.Dataset, or"),
        ("dataset=VOC, epochs=34", "seed=1", "base/config.py: expected epochs to be pairs"),
        (BASE, "epochs=34", "own/config.py: expected epochs to be pairs"),
        ("3", "seed=1", "base/config.py: TypeError: "),
    ],
)
def test_a_bad_value_names_its_file(write: Callable, read: Callable, in_base: str, in_own: str, line: str) -> None:
    write("base", in_base, network=NETWORK, my_layers="MARK = 1\n")
    own = write("own", f"base='../base', {in_own}")
    assert f"{own.parent}/{line}" in refused(read, own)


def test_a_bad_value_that_another_one_replaces_does_no_harm(write: Callable, read: Callable) -> None:
    write("base", f"{BASE}, seed=-1, ema_decay=7", network=NETWORK, my_layers="MARK = 1\n")
    assert read(write("own", "base='../base', seed=1"), ema_decay="0.5").settings.seed == 1
