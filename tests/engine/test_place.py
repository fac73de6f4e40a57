"""One function says which of how many processes this is, whatever torchrun's variables are left over."""

from collections.abc import Callable

import pytest

from furnace.__main__ import main
from furnace.engine.backend import loader_workers
from furnace.engine.gpus import gpus_to_use, processes_in_all
from furnace.engine.place import NEEDED, Place, find_place, speaks_for_machine
from furnace.errors import InputError

SECOND_OF_FOUR = {
    "RANK": "1", "WORLD_SIZE": "4", "LOCAL_RANK": "1", "LOCAL_WORLD_SIZE": "2",
    "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": "29500",
}  # fmt: skip


@pytest.fixture
def environment(monkeypatch: pytest.MonkeyPatch) -> Callable[..., None]:
    """Sets these of torchrun's variables, and no others."""

    def put(**variables: str) -> None:
        for name in SECOND_OF_FOUR:
            monkeypatch.delenv(name, raising=False)
        for name, value in variables.items():
            monkeypatch.setenv(name, value)

    return put


def test_torchrun_is_believed(environment: Callable[..., None]) -> None:
    environment(**SECOND_OF_FOUR)
    assert find_place() == Place(1, 4, 1, 2, launched=True)
    assert processes_in_all(0) == 4 and not speaks_for_machine()
    environment(**SECOND_OF_FOUR | {"LOCAL_WORLD_SIZE": ""})  # others set the variables that torch itself needs
    assert find_place() == Place(1, 4, 1, 2, launched=True)


@pytest.mark.parametrize("left", [{}, {"RANK": "0"}, {"WORLD_SIZE": "1", "LOCAL_RANK": "0"}, {"MASTER_PORT": "1"}])
def test_one_process_alone(environment: Callable[..., None], left: dict[str, str]) -> None:
    environment(**left)
    assert find_place() == Place() and processes_in_all(0) == 1 and speaks_for_machine()


@pytest.mark.parametrize(
    "left",
    [
        {"RANK": "1"},
        {"WORLD_SIZE": "2"},
        {"LOCAL_RANK": "1"},
        {"LOCAL_WORLD_SIZE": "8"},
        {"LOCAL_RANK": "1", "WORLD_SIZE": "2"},
        {"RANK": "1", "WORLD_SIZE": "2", "MASTER_ADDR": "a", "MASTER_PORT": "1"},  # as Kubernetes sets them
        {"RANK": "x"},
        *({name: value for name, value in SECOND_OF_FOUR.items() if name != without} for without in NEEDED),
    ],
)
def test_what_is_left_over_is_named(environment: Callable[..., None], left: dict[str, str]) -> None:
    environment(**left)
    for ask in (find_place, lambda: processes_in_all(0), lambda: gpus_to_use("all")):
        with pytest.raises(InputError, match=r"^\w+=\w+ is set in the environment, .*; unset ") as error:
            ask()
        name, _, value = str(error.value).split()[0].partition("=")
        assert left[name] == value
    assert speaks_for_machine()


@pytest.mark.parametrize("changed", [{"RANK": "4"}, {"LOCAL_RANK": "2"}, {"WORLD_SIZE": "1"}, {"WORLD_SIZE": "0"}])
def test_what_does_not_fit_together_is_refused(environment: Callable[..., None], changed: dict[str, str]) -> None:
    environment(**SECOND_OF_FOUR | changed)
    with pytest.raises(InputError, match="WORLD_SIZE"):
        find_place()


@pytest.mark.parametrize("command", ["train", "eval"])
def test_commands_say_it_in_one_line(
    environment: Callable[..., None], run: Callable[..., int], capsys: pytest.CaptureFixture, command: str
) -> None:
    environment(LOCAL_RANK="1")
    assert run(command) == 2
    assert "error: LOCAL_RANK=1 is set in the environment" in capsys.readouterr().err


def test_other_commands_are_not_silenced(environment: Callable[..., None], capsys: pytest.CaptureFixture) -> None:
    environment(LOCAL_RANK="1")
    assert main(["report", "/nowhere"]) == 2
    assert "error: " in capsys.readouterr().err


def test_workers_are_shared_out_among_the_processes_of_a_machine(
    environment: Callable[..., None], monkeypatch: pytest.MonkeyPatch
) -> None:
    import torch

    monkeypatch.setattr("furnace.engine.backend.cores", lambda: 10)
    environment()
    assert loader_workers("auto", torch.device("cuda")) == 8 and loader_workers("auto", torch.device("cpu")) == 0
    environment(**SECOND_OF_FOUR)
    assert loader_workers("auto", torch.device("cuda")) == 5 and loader_workers(3, torch.device("cuda")) == 3
