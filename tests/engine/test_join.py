"""How the processes of a start find each other in a store that remembers those of earlier starts."""

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta

import pytest
import torch.distributed as dist

from furnace.engine import join

LIMIT = timedelta(seconds=20)


@pytest.fixture
def meet(monkeypatch: pytest.MonkeyPatch) -> Callable:
    """Lets processes of so many ranks, here threads, meet in one store; returns the stores that they end up in."""
    shared = dist.HashStore()
    shared.set_timeout(LIMIT)
    monkeypatch.setattr(join, "rendezvous", lambda *_, **__: iter([(shared, 0, 0)]))

    def call(*ranks: int, size: int) -> list[dist.Store]:
        with ThreadPoolExecutor() as threads:
            return list(threads.map(lambda rank: join._store_of_this_start(rank, size, LIMIT), ranks))

    call.shared = shared  # type: ignore[attr-defined]
    return call


def test_what_an_earlier_start_left_is_not_read(meet: Callable) -> None:
    for start in range(3):
        stores = meet(0, 1, 2, size=3)
        assert not any(store.check(["address"]) for store in stores)
        stores[0].set("address", str(start))
        assert [store.get("address") for store in stores] == [str(start).encode()] * 3


def test_who_comes_before_the_first_process_waits_for_it(meet: Callable) -> None:
    meet(0, 1, size=2)[0].set("address", "of a process that has ended")
    with ThreadPoolExecutor() as threads:
        early = threads.submit(meet, 1, size=2)
        assert not early.done() or not early.result()[0].check(["address"])
        (first,) = meet(0, size=2)
        (second,) = early.result(timeout=60)
    first.set("address", "new")
    assert second.get("address") == b"new"
