"""By which interface the machines of a run reach each other, whatever the first one's name stands for."""

import os
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

import pytest
from torch.distributed import HashStore

from furnace.engine import interface

HERE, FIRST, SECOND = "127.0.0.1", "192.168.7.1", "192.168.7.2"
NAMES = {HERE: "lo", FIRST: "eth0", SECOND: "eno1"}


@pytest.fixture
def told(monkeypatch: pytest.MonkeyPatch) -> Callable[..., dict[str, str]]:
    """What the first of several processes tells the libraries; `ways` says which address leads where from there."""
    for name in ("GLOO_SOCKET_IFNAME", "NCCL_SOCKET_IFNAME"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("MASTER_ADDR", "first")
    monkeypatch.setattr(interface, "interface_of", NAMES.get)

    def call(ways: dict[str, str], others: list[str], **environment: str) -> dict[str, str]:
        for name, value in environment.items():
            monkeypatch.setenv(name, value)
        monkeypatch.setattr(interface, "address_towards", lambda address: ways.get(address, ""))
        board = HashStore()
        for rank, address in enumerate(others, 1):
            board.set(f"address/{rank}", address)
        with ThreadPoolExecutor(1) as thread:  # it would wait for ever for an address that nobody says
            thread.submit(interface.choose_interface, board, 0, len(others) + 1).result(20)
        return {name.split("_")[0]: os.environ[name] for name in sorted(os.environ) if name.endswith("_SOCKET_IFNAME")}

    return call


@pytest.mark.parametrize("others", [[SECOND], [HERE, SECOND], [HERE, "", SECOND, SECOND]])
def test_a_name_that_stands_for_its_own_machine_alone(told: Callable, others: list[str]) -> None:
    """127.0.1.1, as Debian has it: the first machine takes the way to another one."""
    assert told({"first": HERE, SECOND: FIRST}, others) == {"GLOO": "eth0", "NCCL": "=eth0"}


@pytest.mark.parametrize("others", [[HERE], [HERE] * 7, [""]])
def test_one_machine_talks_to_itself(told: Callable, others: list[str]) -> None:
    assert told({"first": HERE}, others) == {"GLOO": "lo"}


def test_a_name_that_stands_for_an_address_of_the_network(told: Callable) -> None:
    assert told({"first": FIRST}, [SECOND]) == {"GLOO": "eth0", "NCCL": "=eth0"}


def test_the_environment_wins(told: Callable) -> None:
    asked = {"GLOO_SOCKET_IFNAME": "ib0", "NCCL_SOCKET_IFNAME": "ib"}
    assert told({"first": FIRST}, [SECOND], **asked) == {"GLOO": "ib0", "NCCL": "ib"}


def test_what_cannot_be_found_out_is_left_to_the_libraries(told: Callable) -> None:
    assert told({}, [SECOND]) == {}
    assert told({"first": HERE}, [SECOND]) == {}


def test_this_machine() -> None:
    assert interface.address_towards("127.0.0.1") == HERE and interface.interface_of(HERE) == "lo"
    assert interface.address_towards("no-such-name.invalid") == "" and interface.interface_of("192.0.2.1") is None
    assert interface.is_loopback("127.0.1.1") and not interface.is_loopback(FIRST) and not interface.is_loopback("")
