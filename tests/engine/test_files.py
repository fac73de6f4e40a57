"""Files appear whole or not at all."""

import errno
import fcntl
import os
import resource
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import NoReturn

import pytest

from furnace.engine.files import claim, locked, write_atomically, write_text
from furnace.errors import InputError


def test_a_failed_write_leaves_the_old_file(tmp_path: Path) -> None:
    path = tmp_path / "file"
    write_text(path, "old")

    def fails(file) -> None:
        file.write(b"half of the new")
        raise OSError(28, "No space left on device")

    with pytest.raises(InputError, match="No space left"):
        write_atomically(path, fails)
    assert path.read_text() == "old" and list(tmp_path.iterdir()) == [path]


def refusing(number: int) -> Callable:
    def refuse(*_: object) -> NoReturn:
        raise OSError(number, os.strerror(number))

    return refuse


UNABLE = [errno.EINVAL, errno.ENOSYS, errno.ENOTSUP]


@pytest.mark.parametrize("number", UNABLE)
def test_a_file_system_that_cannot_sync_is_good_enough(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, number: int
) -> None:
    monkeypatch.setattr(os, "fsync", refusing(number))
    write_text(tmp_path / "file", "text")
    assert (tmp_path / "file").read_text() == "text"
    monkeypatch.setattr(os, "fsync", refusing(errno.EIO))
    with pytest.raises(InputError, match="Input/output error"):
        write_text(tmp_path / "other", "text")


@pytest.mark.parametrize("number", [*UNABLE, errno.ENOLCK, errno.EIO])
def test_a_lock_that_cannot_be_had_is_a_note(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture, number: int
) -> None:
    monkeypatch.setattr(fcntl, "lockf", refusing(number))
    with locked(tmp_path / "lock"):
        pass
    assert claim(tmp_path / "run/.training") is None
    table, run = capsys.readouterr().err.splitlines()
    assert table.startswith(f"note: {tmp_path}/lock cannot be locked ({os.strerror(number)}): ")
    assert run.startswith(
        f"note: {tmp_path}/run/.training cannot be locked ({os.strerror(number)}): start nothing else"
    )


def test_a_lock_file_of_somebody_else_is_a_note(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture
) -> None:
    (tmp_path / "lock").mkdir()  # root may open every file, but no folder
    with locked(tmp_path / "lock"):
        pass
    assert "cannot be locked (Is a directory)" in capsys.readouterr().err


def test_a_lock_is_not_waited_for_without_end(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture
) -> None:
    """Somebody else holds it, as a process that was stopped does."""
    script = "import fcntl, sys; file = open(sys.argv[1], 'a+'); fcntl.lockf(file, fcntl.LOCK_EX); print(flush=True)"
    script += "; input()"
    command = [sys.executable, "-c", script, str(tmp_path / "lock")]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as holder:
        holder.stdout.readline()
        (tmp_path / "lock").write_text("process 7 on there\n")
        with pytest.raises(InputError, match=r"another process uses .*: process 7 on there; wait for its end"):
            claim(tmp_path / "lock")
        monkeypatch.setattr("furnace.engine.files.LOCK_PATIENCE", 0.1)
        with locked(tmp_path / "lock"):
            pass
        assert "cannot be locked (held by process 7 on there)" in capsys.readouterr().err
        holder.communicate(b"\n", timeout=60)
    with locked(tmp_path / "lock"):
        assert not capsys.readouterr().err


def test_a_lock_on_a_full_disk_is_held_and_let_go(tmp_path: Path) -> None:
    """Only who holds it cannot be written. The limit of a file's size stands for the disk."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (0, before[1]))
    try:
        lock = claim(tmp_path / "run/.sweep")
        assert lock is not None
        lock.close()
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)


def test_text_is_utf8_whatever_a_name_holds(tmp_path: Path) -> None:
    write_text(tmp_path / "file", "Straße \udcff")
    assert (tmp_path / "file").read_bytes() == "Straße \\udcff".encode()
