"""How processes end, and what is said then."""

import pytest

from furnace.engine import torchrun


@pytest.mark.parametrize(
    ("ends", "status"),
    [
        ([(0.0, 0, -15), (1.0, 1, -9)], 137),
        ([(0.0, 1, 1), (30.1, 0, -9)], 1),  # torchrun's own kill
        ([(0.0, 1, 1), (0.1, 0, -15)], 1),
        ([(0.0, 1, 1), (0.2, 0, 2)], 2),
        ([(0.0, 1, -11), (0.1, 0, 1)], 139),
        ([(0.0, 0, -15)], 143),
    ],
)
def test_one_status_for_all_processes(ends: list, status: int, capsys: pytest.CaptureFixture) -> None:
    assert torchrun._status(ends) == status
    assert ("was ended by SIG" in capsys.readouterr().err) == (status in (137, 139))
