"""An experiment's Python files: modules beside them are found, two experiments stay apart, changes are noticed."""

import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from furnace.config.experiment import Experiment, read_experiment
from furnace.config.modules import Code
from furnace.errors import InputError

CONFIG = "from furnace.data.datasets import VOC\n\nconfig = dict(dataset=VOC, epochs=((8, 1),))\n"
NETWORK = """from __future__ import annotations

from dataclasses import dataclass

from my_layers import MARK, Network


@dataclass
class Kind:
    mark: str = MARK


def build_network():
    import blocks.deep

    network = Network()
    network.marks = (Kind().mark, blocks.deep.MARK)
    return network
"""
LAYERS = """from torch import nn

MARK = {mark!r}


class Network(nn.Module):
    def __init__(self):
        super().__init__()
        self.layer = nn.Identity()
"""


@pytest.fixture
def make(tmp_path: Path) -> Callable[..., Path]:
    """Writes experiments whose network.py imports a module, and only when it builds, one in a folder."""

    def write(name: str, network: str = NETWORK, config: str = CONFIG) -> Path:
        folder = tmp_path / name
        (folder / "blocks").mkdir(parents=True)
        (folder / "config.py").write_text(config)
        (folder / "network.py").write_text(network)
        (folder / "my_layers.py").write_text(LAYERS.format(mark=name))
        (folder / "blocks/deep.py").write_text(f"MARK = 'deep in {name}'\n")
        return folder

    return write


@pytest.fixture
def read(tmp_path: Path) -> Callable[[Path], Experiment]:
    return lambda folder: read_experiment(folder, {"dataset_path": str(tmp_path)})


def test_modules_of_one_name_are_not_mixed_up(make: Callable, read: Callable) -> None:
    one, two = read(make("one")), read(make("two"))
    for _ in range(2):
        assert one.network().marks == ("one", "deep in one")
        assert two.network().marks == ("two", "deep in two")
    assert type(one.network()) is type(one.network()) is not type(two.network())
    assert sys.path.count(str(one.folder)) + sys.path.count(str(two.folder)) == 1


def test_a_module_that_was_changed_is_read_anew(make: Callable, read: Callable) -> None:
    folder = make("one")
    read(folder).network()
    (folder / "my_layers.py").write_text(LAYERS.format(mark="another one"))
    assert read(folder).network().marks == ("another one", "deep in one")


def test_digests_are_of_all_that_was_imported(make: Callable, read: Callable) -> None:
    experiment = read(make("one"))
    (experiment.folder / "unused.py").write_text("")
    assert set(experiment.code.digests()) == {"config.py", "my_layers.py", "network.py"}
    experiment.network()
    assert set(experiment.code.digests()) == {"blocks/deep.py", "config.py", "my_layers.py", "network.py"}


def rewritten(old: str, new: str) -> Callable[[Path], object]:
    return lambda path: path.write_bytes(path.read_bytes().replace(old.encode(), new.encode()))


@pytest.mark.parametrize(
    ("name", "change", "said"),
    [
        ("network.py", rewritten("Network()", "Network() "), []),  # spaces at a line's end
        ("network.py", rewritten("\n", "\r\n"), []),  # Windows
        ("network.py", rewritten("@dataclass", "# A comment.\n\n@dataclass"), []),
        ("network.py", rewritten("Kind().mark", "'x'"), ["network.py has changed"]),
        ("my_layers.py", rewritten("Identity", "ReLU"), ["my_layers.py has changed"]),
        ("blocks/deep.py", Path.unlink, ["blocks/deep.py has changed"]),
        ("config.py", rewritten("8", "4"), []),  # its settings are compared themselves
    ],
)
def test_what_counts_as_a_change(make: Callable, read: Callable, name: str, change: Callable, said: list[str]) -> None:
    folder = make("one")
    experiment = read(folder)
    experiment.network()
    before = experiment.code.digests()
    moved = folder.rename(folder.with_name("moved"))
    assert Code(moved).changes(before) == []
    change(moved / name)
    assert Code(moved).changes(before) == said


@pytest.mark.parametrize(
    ("network", "line"),
    [
        ("import no_such_module", "network.py: ModuleNotFoundError: No module named 'no_such_module'; install what"),
        ("import sys\n\nsys.exit(3)", "network.py: SystemExit: 3; mend the file"),
        ("build_network = 3", "network.py: build_network: TypeError: 'int' object is not callable; mend the file"),
        (
            "def build_network(num_classes):\n    return num_classes",
            "network.py: expected build_network to return an nn.Module, found a int; mend the file",
        ),
        (
            "def build_network(classes, num_classes, depth=3):\n    pass",
            "build_network: expected arguments among num_classes, decoder, backbone, width, atrous_rates, image_size, "
            "found classes; name them so, or give them a default",
        ),
        (
            "def build_network(num_classes, /):\n    pass",
            "network.py: build_network: TypeError: build_network() got some positional-only arguments passed as",
        ),
    ],
)
def test_a_network_that_cannot_be_built_is_one_line(make: Callable, read: Callable, network: str, line: str) -> None:
    folder = make("one", network=network)
    with pytest.raises(InputError) as caught:
        read(folder).network()
    assert line in str(caught.value) and "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("config", "line"),
    [
        ("config = 3", "expected config to be an EasyDict, found a int"),
        ("config = {1: 2}", "expected config to hold settings by their names, found 1; mend it"),
        (
            "config = dict(dataset='x', epochs=34)",
            "expected epochs to be pairs of labeled_ratio and a number of epochs",
        ),
        ("config = dict(dataset='x', epochs=((8, 34)))", "expected epochs to be pairs"),
        ("config = dict(dataset='x', epochs=((8, '34'),))", "found ((8, '34'),); mend it"),
        ("config = dict(dataset='x', epochs=((8, 3),), labelled_ratio=4)", "labelled_ratio (perhaps labeled_ratio); "),
    ],
)
def test_a_configuration_of_another_form_is_one_line(make: Callable, read: Callable, config: str, line: str) -> None:
    folder = make("one", config=config)
    with pytest.raises(InputError) as caught:
        read(folder)
    assert line in str(caught.value) and "\n" not in str(caught.value)
