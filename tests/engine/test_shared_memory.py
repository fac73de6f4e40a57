"""What loading workers need of /dev/shm is compared with what is free, before the first batch."""

import os
from pathlib import Path
from types import SimpleNamespace

import pytest

from furnace.engine import shared_memory
from furnace.engine.shared_memory import require_shared_memory
from furnace.errors import InputError


def put_free(monkeypatch: pytest.MonkeyPatch, size: int) -> None:
    monkeypatch.setattr(os, "statvfs", lambda _: SimpleNamespace(f_bavail=size // 4096, f_frsize=4096))


def test_what_is_needed_is_said_with_what_helps(monkeypatch: pytest.MonkeyPatch) -> None:
    batch = 17 * 8 * 512**2  # of PASCAL VOC's recipe
    put_free(monkeypatch, 2**26)
    with pytest.raises(InputError) as error:
        require_shared_memory([batch], workers=8)
    assert str(error.value) == (
        "/dev/shm has 67 MB free, the loading workers need about 570 MB; "
        "enlarge it (docker run --shm-size=1g), or lower num_workers to 0 (it is 8)"
    )
    put_free(monkeypatch, 3 * 10**8)
    with pytest.raises(InputError, match=r"lower num_workers to 4 \(it is 8\)"):
        require_shared_memory([batch], workers=8)
    require_shared_memory([batch], workers=4)
    with pytest.raises(InputError):  # those of a validation work beside those of the training
        require_shared_memory([batch, batch], workers=4)
    monkeypatch.setattr(shared_memory, "find_place", lambda: SimpleNamespace(local_size=2))
    with pytest.raises(InputError, match="need about 570 MB"):
        require_shared_memory([batch], workers=4)


def test_without_workers_nothing_is_needed(monkeypatch: pytest.MonkeyPatch) -> None:
    put_free(monkeypatch, 0)
    require_shared_memory([10**9], workers=0)
    require_shared_memory([0], workers=8)


def test_no_such_folder(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(shared_memory, "FOLDER", tmp_path / "shm")
    with pytest.raises(InputError, match=r"shm: No such file or directory; mount it, or set num_workers=0"):
        require_shared_memory([1], workers=1)
