"""train.log: what a run printed, after it has ended and whatever became of it."""

import os
from pathlib import Path

import pytest

from furnace.engine.terminal import copy_lines, safe_output
from furnace.training.transcript import MOST_WAITING, Transcript


def test_lines_of_all_starts_stand_in_the_file(tmp_path: Path) -> None:
    for start in (1, 2):
        transcript = Transcript(tmp_path / "train.log")
        transcript.add(f"start {start}")
        transcript.add("Straße \udcff")
    lines = (tmp_path / "train.log").read_text(encoding="utf-8").splitlines()
    assert [line for line in lines if not line.startswith("--- ")] == [
        "start 1",
        "Straße \\udcff",
        "start 2",
        "Straße \\udcff",
    ]
    assert len(lines) == 6 and f"process {os.getpid()} on " in lines[0]


def test_a_process_that_does_not_speak_for_all_tells_what_ends_it(tmp_path: Path) -> None:
    transcript = Transcript(tmp_path / "train.log", errors_alone=True)
    transcript.add("warning: as the others")
    assert not (tmp_path / "train.log").exists()
    for line in ("Traceback (most recent call last):", "  File", "ValueError"):
        transcript.add(line)
    assert (tmp_path / "train.log").read_text().splitlines()[2:] == ["  File", "ValueError"]


def test_it_makes_no_folder_and_begins_once_there_is_one(tmp_path: Path) -> None:
    transcript = Transcript(tmp_path / "run/train.log")
    transcript.add("before")
    assert not (tmp_path / "run").exists()
    (tmp_path / "run").mkdir()
    transcript.add("behind")
    assert (tmp_path / "run/train.log").read_text().splitlines()[1:] == ["before", "behind"]


def test_a_file_that_cannot_be_written_is_one_note(tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    (tmp_path / "train.log").mkdir()
    with safe_output():
        copy_lines(Transcript(tmp_path / "train.log").add)
        for number in range(3):
            print(number)
    said = capsys.readouterr()
    assert said.out == "0\n1\n2\n"
    assert said.err.startswith(f"note: the run goes on without {tmp_path}/train.log: Is a directory; ")
    assert said.err.count("\n") == 1


def test_lines_wait_until_the_file_can_be_written(tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    transcript = Transcript(tmp_path / "train.log")
    (tmp_path / "train.log").mkdir()
    for number in range(2 * MOST_WAITING):
        transcript.add(str(number))
    (tmp_path / "train.log").rmdir()
    transcript.add("the last")
    lines = (tmp_path / "train.log").read_text().splitlines()
    assert lines[-2:] == [str(2 * MOST_WAITING - 1), "the last"] and len(lines) == MOST_WAITING + 1
    assert capsys.readouterr().err.count("\n") == 1
