"""What all processes of a run write on and read from while they meet."""

from typing import Protocol


class Board(Protocol):
    """Keeps texts under keys: a store of torch.distributed, or in tests whatever has these two methods."""

    def set(self, key: str, value: str, /) -> None:
        """Writes `value` under `key`."""

    def get(self, key: str, /) -> bytes:
        """Waits until somebody has written under `key`, and returns it; raises RuntimeError if that takes too long."""
