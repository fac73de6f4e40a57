"""Pictures of steps, which a run does without when they fail."""

import pytest
import torch

from furnace.data.datasets import VOC
from furnace.training.pictures import TrainingPictures


def test_a_failure_is_one_note(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture) -> None:
    tried = []

    def out_of_memory(self: TrainingPictures, *_: object) -> None:
        tried.append(1)
        raise torch.OutOfMemoryError("CUDA out of memory.\nTried to allocate 2 GiB")

    monkeypatch.setattr(TrainingPictures, "_look", out_of_memory)
    pictures = TrainingPictures(VOC, learner=None, events=None)
    for _ in range(3):
        pictures.look(None, None, None, 1)
    assert capsys.readouterr().out == "note: no more pictures of steps: OutOfMemoryError: CUDA out of memory.\n"
    assert len(tried) == 1
