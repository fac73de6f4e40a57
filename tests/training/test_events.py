"""TensorBoard's files, which no run depends on."""

import sys
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest

from furnace.training.events import Events


class Broken(ModuleType):
    """A package that fails at its import with an error of its own, as one that does not fit protobuf."""

    def __getattr__(self, name: str) -> object:
        raise TypeError("Descriptors cannot be created directly.\nIf this call came from ...")


@pytest.mark.parametrize(
    ("module", "reason"),
    [(None, "ModuleNotFoundError: "), (Broken("x"), "TypeError: Descriptors cannot be created directly.")],
)
def test_what_cannot_be_imported_is_one_note_at_the_start(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture,
    module: ModuleType | None,
    reason: str,
) -> None:
    monkeypatch.setitem(sys.modules, "torch.utils.tensorboard", module)
    events = Events(tmp_path / "tb", first_step=1)
    events.begin()
    said = capsys.readouterr().out
    assert said.startswith(f"note: no more events for TensorBoard: {tmp_path}/tb: {reason}") and said.count("\n") == 1
    events.scalars({"loss": 1.0}, 1)
    events.picture("picture", np.zeros((2, 2, 3), np.uint8), 1)
    events.close()
    assert not capsys.readouterr().out


def test_a_folder_that_cannot_be_made_is_one_note_at_the_start(tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    (tmp_path / "tb").write_text("a file in the folder's place")
    Events(tmp_path / "tb", first_step=1).begin()
    assert capsys.readouterr().out == f"note: no more events for TensorBoard: {tmp_path}/tb: File exists\n"


def test_what_begins_is_a_file(tmp_path: Path) -> None:
    events = Events(tmp_path / "tb", first_step=1)
    events.begin()
    assert len(list((tmp_path / "tb").iterdir())) == 1
    events.close()
