"""A short version of tests/faults/campaign.py: killed at random moments, in one process and in one of two."""

import random

import pytest
from faults import campaign


def test_killed_runs_end_as_if_undisturbed() -> None:
    with campaign.workplace() as folder:
        tally = campaign.kill_one_process(folder, 2, random.Random(1), campaign.Plan(epochs=8, life=(0.0, 0.5)))
    assert tally.kills == 2 and tally.runs >= 1
    assert tally.faults == []


@pytest.mark.xdist_group("several processes")
def test_when_one_of_two_is_killed_both_begin_anew_and_go_on() -> None:
    with campaign.workplace() as folder:
        tally = campaign.kill_one_of_two(folder, 1, random.Random(1), campaign.Plan(epochs=3, life=(0.0, 2.0)))
    assert tally.kills >= 1 and tally.slowest_end < campaign.PATIENCE
    assert tally.faults == []


def test_a_fault_would_be_found(tmp_path) -> None:
    """The campaign's own eyes: other weights, another table, half a file, what is left behind."""
    import torch

    one, other = tmp_path / "one", tmp_path / "other"
    for output, weight in ((one, 1.0), (other, 1.0)):
        (output / "snapshot").mkdir(parents=True)
        torch.save({"model": {"w": torch.tensor(weight)}}, output / "snapshot/model_epoch7.pth")
        (output / "metrics.csv").write_text("epoch,loss,seconds\n1,0.5,3\n2,0.4,4\n")
    assert list(campaign.differences(one, other, epochs=7)) == [] and list(campaign.half_written(one)) == []
    (one / "snapshot/.model_epoch1.pth.17.tmp").write_bytes(b"half")
    (one / "metrics.csv").write_text("epoch,loss,seconds\n1,0.5,3\n1,0.4,4\n")
    assert list(campaign.differences(one, other, epochs=7)) == [
        "metrics.csv differs",
        "left behind: .model_epoch1.pth.17.tmp",
    ]
    assert list(campaign.half_written(one)) == ["metrics.csv has the epochs [1, 1]"]
    path = one / "snapshot/model_epoch7.pth"
    torch.save({"model": {"w": torch.tensor(2.0)}}, path)
    assert next(campaign.differences(one, other, epochs=7)) == f"{path.name}: w differs"
    path.write_bytes(path.read_bytes()[:-40])
    assert next(campaign.half_written(one)).startswith(f"{path.name}: damaged file")
