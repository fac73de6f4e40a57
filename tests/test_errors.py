"""What users read when the system refuses something."""

import errno
import os
from pathlib import Path

import pytest

from furnace.engine.files import write_text
from furnace.errors import InputError, because, in_short, system_errors_said


@pytest.mark.parametrize(
    ("number", "remedy"),
    [
        (errno.ENOSPC, "free space"),
        (errno.EDQUOT, "larger quota"),
        (errno.EROFS, "can only be read"),
        (errno.EACCES, "mode or owner"),
        (errno.EPERM, "its file system forbid"),
        (errno.ENAMETOOLONG, "shorten the name"),
        (errno.EEXIST, "stands where"),
        (errno.ENOTDIR, "stands where"),
        (errno.EISDIR, "stands where"),
        (errno.EINVAL, "takes no such name"),
        (errno.EMFILE, "ulimit -n"),
        (errno.EFBIG, "ulimit -f"),
        (errno.EIO, "dmesg"),
        (errno.ENOENT, "missing"),
        (errno.ESTALE, "mount it anew"),
        (errno.EBUSY, "mount point"),
        (errno.EXFULL, "choose another folder"),
    ],
)
def test_every_error_of_the_system_has_the_remedy_that_fits(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, number: int, remedy: str
) -> None:
    def refuse(*_: object) -> None:
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr(os, "replace", refuse)
    with pytest.raises(InputError) as caught:
        write_text(tmp_path / "file", "text")
    said = str(caught.value)
    assert said.startswith(f"cannot write {tmp_path}/file: {os.strerror(number)}; ") and remedy in said
    assert ("free space" in said) == (number == errno.ENOSPC)


def test_an_error_without_a_number_is_told_as_it_is() -> None:
    assert because(OSError("cut short")).startswith("cut short; ")
    assert in_short(OSError(errno.EIO, "Input/output error")) == "Input/output error"
    assert in_short(TypeError("one\ntwo")) == "TypeError: one"


def test_what_nobody_foresaw_about_a_file_is_one_line(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="/none: No such file or directory; it is missing"), system_errors_said():
        open(tmp_path / "none")
    with pytest.raises(OSError, match="no file"), system_errors_said():
        raise OSError("about no file")


def test_a_library_that_cannot_be_loaded_is_one_line() -> None:
    with pytest.raises(InputError, match=r"cannot load libx.so: failed .*; allow more memory"), system_errors_said():
        raise ImportError("libx.so: failed to map segment from shared object")
    with pytest.raises(InputError, match=r"cannot load libGL.so.1: .*; install it, or pip"), system_errors_said():
        raise ImportError("libGL.so.1: cannot open shared object file: No such file or directory")
    with pytest.raises(ImportError, match="cannot import name"), system_errors_said():
        raise ImportError("cannot import name 'x' from 'furnace'")
