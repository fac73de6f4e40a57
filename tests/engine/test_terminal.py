"""Standard output and error, whatever becomes of them."""

import errno
import io
import os
import subprocess
import sys
from pathlib import Path

import pytest
from repository import REPOSITORY

from furnace.engine.terminal import Printed, SafeStream, copy_lines, safe_output


class Failing(io.StringIO):
    """A stream that fails with the errors that are left in `failures`, one at each writing of a text."""

    def __init__(self, *errors: Exception) -> None:
        super().__init__()
        self.failures = list(errors)

    def write(self, text: str) -> int:
        if text and self.failures:
            raise self.failures.pop(0)
        return super().write(text)


@pytest.mark.parametrize(
    ("error", "noted"),
    [
        (BrokenPipeError(errno.EPIPE, "Broken pipe"), False),
        (OSError(errno.EIO, "Input/output error"), False),
        (OSError(errno.EBADF, "Bad file descriptor"), True),
        (ValueError("I/O operation on closed file"), False),
    ],
)
def test_what_cannot_be_written_any_more_is_dropped(
    capsys: pytest.CaptureFixture, error: Exception, noted: bool
) -> None:
    stream = SafeStream(Failing(error), "standard output", Printed())
    for _ in range(3):
        assert stream.write("line\n") == 5
        stream.flush()
    stream.end()
    said = capsys.readouterr().err
    assert ("note: standard output cannot be written: Bad file descriptor" in said) == noted
    assert said.count("\n") == noted


def test_a_full_disk_loses_lines_only_while_it_is_full(capsys: pytest.CaptureFixture) -> None:
    full = [OSError(errno.ENOSPC, "No space left on device") for _ in range(2)]
    inner = Failing(*full)
    stream = SafeStream(inner, "standard output", Printed())
    for number in range(4):
        stream.write(f"{number}\n")
    assert inner.getvalue() == "2\n3\n"
    assert capsys.readouterr().err.count("note: standard output cannot be written: No space left") == 1


@pytest.mark.parametrize("encoding", ["ascii", "latin-1", "gbk", "utf-8"])
def test_every_character_can_be_written(encoding: str) -> None:
    file = io.BytesIO()
    stream = SafeStream(io.TextIOWrapper(file, encoding=encoding, errors="strict"), "standard output", Printed())
    print("Straße 路 \udcff", file=stream)
    text = file.getvalue().decode(encoding)  # it is written at once
    assert text.startswith("Stra") and "\\udcff" in text
    assert {"ascii": "Stra\\xdfe \\u8def", "utf-8": "Straße 路"}.get(encoding, "Stra") in text


def test_a_line_begins_on_a_line_of_its_own_behind_a_bar() -> None:
    inner = io.StringIO()
    stream = SafeStream(inner, "standard error", Printed())
    for text in (
        "\r 10% bar",
        "error: bad",
        "\n",
        "\r 20% bar",
        "\n",
        "next\n",
        "\r 30% bar",
        "\r       ",
        "\r",
        "x\n",
    ):
        stream.write(text)
    assert inner.getvalue() == "\r 10% bar\nerror: bad\n\r 20% bar\nnext\n\r 30% bar\r       \rx\n"


def test_whole_lines_are_copied_but_no_bars(capsys: pytest.CaptureFixture) -> None:
    lines: list[str] = []
    with safe_output():
        print("before")
        copy_lines(lines.append)
        print("one", "line")
        sys.stderr.write("\r 10% bar")
        print("two\nlines", file=sys.stderr)
        sys.stderr.write("\r 20% bar")
        sys.stderr.write("\n")
        print("not ended", end="")
        print(", now it is")
    assert lines == ["before", "one line", "two", "lines", "not ended, now it is"]
    print("after")
    assert len(lines) == 5 and capsys.readouterr().out == "before\none line\nnot ended, now it is\nafter\n"


def test_the_traceback_of_an_error_is_copied(capsys: pytest.CaptureFixture) -> None:
    lines: list[str] = []
    with pytest.raises(ZeroDivisionError), safe_output():
        copy_lines(lines.append)
        1 / 0  # noqa: B018
    assert lines[0].startswith("Traceback") and lines[0].endswith("ZeroDivisionError: division by zero")


def python(script: str, **options) -> subprocess.CompletedProcess:
    environment = {**os.environ, "PYTHONPATH": str(REPOSITORY), **options.pop("environment", {})}
    return subprocess.run([sys.executable, "-c", script], env=environment, text=True, timeout=60, **options)


def test_a_reader_that_has_gone_is_not_mentioned() -> None:
    """As `| head -1`: the process goes on to its end, and Python has nothing to complain of when it ends."""
    script = """
import os, sys
from furnace.engine.terminal import safe_output
with safe_output():
    read, write = os.pipe()
    os.dup2(write, 1)
    os.close(write)
    os.close(read)
    for number in range(10_000):
        print(number)
    os.system("echo from a child")
    print("done", file=sys.stderr)
"""
    done = python(script, capture_output=True)
    assert (done.returncode, done.stderr) == (0, "done\n")


def test_streams_that_were_closed_before_the_start_take_nothing(tmp_path: Path) -> None:
    script = f"""
import os, sys
os.close(1), os.close(2)
sys.stdout = sys.stderr = None
from furnace.engine.terminal import safe_output
with safe_output():
    file = open({str(tmp_path / "file")!r}, "w")
    print("terminal"), print("terminal", file=sys.stderr), os.system("echo terminal")
    sys.stdout.write("terminal")
    file.write("file")
"""
    assert python(script).returncode == 0
    assert (tmp_path / "file").read_text() == "file"


def test_another_encoding_of_names_gives_way_to_utf8(tmp_path: Path) -> None:
    """A list in UTF-8 names this file; in the C locale without Python's coercion, no such name could be opened."""
    (tmp_path / "Straße.txt").write_text("found")
    script = """
import sys
from furnace.engine.terminal import take_utf8
take_utf8()
print(open(sys.argv[1] + "/Stra\\u00dfe.txt").read(), sys.argv[1], sys.stdout.encoding, sys.stdout.errors, "\\u00df")
"""
    environment = {**os.environ, "PYTHONPATH": str(REPOSITORY), "LC_ALL": "C", "PYTHONCOERCECLOCALE": "0"}
    environment["PYTHONUTF8"] = "0"
    command = [sys.executable, "-c", script, str(tmp_path)]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=60)
    assert done.stdout.split()[0::2] == ["found", "ascii", "\\xdf"], done.stderr
