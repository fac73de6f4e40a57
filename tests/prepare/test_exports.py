"""Exports of labelling programs and public data sets go in by the very commands of docs/own_data.md."""

import re
import shlex
from pathlib import Path

import numpy as np
import pytest
from exports import BINARY, EXPORTS, values_of
from layouts import lines
from repository import REPOSITORY

from furnace.__main__ import main
from furnace.data.entries import Split
from furnace.data.file_list import FileList
from furnace.prepare.check import dataset_of

PAGE = (REPOSITORY / "docs/own_data.md").read_text(encoding="utf-8")
COMMANDS = {
    shlex.split(command)[5]: shlex.split(command)[3:]
    for command in re.findall(r"^\|[^|]+\| `(python -m furnace prepare folder [^`]+)`", PAGE, re.MULTILINE)
}


def labels_of(folder: Path) -> dict[str, np.ndarray]:
    """The label of every training and validation image, by the first number in the image's name."""
    dataset, found = dataset_of(folder), {}
    for name in ("train", "val"):
        split = Split(dataset, folder, FileList(folder / f"{name}.txt"), name)
        for index in range(len(split.files)):
            found[
                re.findall(r"[0-9]+", split.image_path(index).name)[-1 if "TP" in str(split.image_path(index)) else 0]
            ] = split.labeled(index)[1]
    return found


def test_the_page_names_every_export() -> None:
    assert set(COMMANDS) == set(EXPORTS)


@pytest.mark.parametrize("source", EXPORTS)
def test_one_command_takes_an_export(
    source: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture
) -> None:
    make, (train, val, extra) = EXPORTS[source]
    make(tmp_path / source)
    monkeypatch.chdir(tmp_path)
    assert main([*COMMANDS[source], "--workers", "1"]) == 0
    said = capfd.readouterr()
    folder = tmp_path / COMMANDS[source][3]
    assert "warning" not in said.err and "note: taken for" in said.err, said.err
    assert [len(lines(folder / f"{name}.txt")) for name in ("train", "val")] == [train, val]
    assert (folder / "unlabeled.txt").exists() == bool(extra)
    assert len(dataset_of(folder).classes) == (2 if source in BINARY else 3)
    for name, label in labels_of(folder).items():
        number = int(name) - (100 if source == "deepglobe" else 0)
        expected = values_of(number, 2 if source in BINARY else 3)
        if source == "data_dataset_voc":
            expected[0, 0] = 255
        assert (label == expected).all(), name
