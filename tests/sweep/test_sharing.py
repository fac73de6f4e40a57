"""What each run at a time gets: GPUs of its own by the names of CUDA_VISIBLE_DEVICES, or threads."""

import re
from fractions import Fraction

import pytest
import torch

from furnace.engine import backend
from furnace.engine.visible import visible_gpus
from furnace.errors import InputError
from furnace.sweep import sharing
from furnace.sweep.sharing import shares


@pytest.fixture
def machine(monkeypatch: pytest.MonkeyPatch) -> None:
    """Eight GPUs and 16 cores."""
    monkeypatch.setattr(sharing, "cores", lambda: 16)
    monkeypatch.setattr(backend, "cores", lambda: 16)
    monkeypatch.setattr(sharing, "visible_gpus", lambda: list("01234567"))
    monkeypatch.delenv("OMP_NUM_THREADS", raising=False)


@pytest.mark.parametrize(
    ("slots", "per_run", "gpus", "expected"),
    [
        (2, None, "all", ["0,1,2,3", "4,5,6,7"]),
        (3, None, "all", ["0,1", "2,3", "4,5"]),
        (8, None, "all", list("01234567")),
        (3, Fraction(1), "all", ["0", "1", "2"]),
        (4, None, 2, ["0,1", "2,3", "4,5", "6,7"]),
        (2, 3, 3, ["0,1,2", "3,4,5"]),
        (5, Fraction(1, 2), "all", list("01234")),
        (16, Fraction(1, 4), "all", 2 * list("01234567")),
        (3, Fraction(1, 2), 1, list("012")),
    ],
)
@pytest.mark.usefixtures("machine")
def test_gpus_are_shared_out(slots: int, per_run: Fraction | None, gpus: int | str, expected: list[str]) -> None:
    found = shares(slots, per_run, gpus, "auto")
    assert [share.environment["CUDA_VISIBLE_DEVICES"] for share in found] == expected
    each = len(expected[0].split(","))
    assert {share.settings["num_workers"] for share in found} == {str(min(8, max(1, 16 // (slots * each))))}
    given = {share.settings.get("NGPUS") for share in found}
    assert given == ({None} if per_run is None else {str(each)})
    threads = {share.environment.get("OMP_NUM_THREADS") for share in found}
    assert threads == {str(max(1, 16 // slots)) if each == 1 else None}
    assert "num_workers" not in shares(slots, per_run, gpus, 3)[0].settings


@pytest.mark.parametrize(
    ("slots", "per_run", "gpus", "line"),
    [
        (
            9,
            None,
            "all",
            "--jobs: 9 runs at a time with 1 GPU each need 9, 8 visible; set --jobs 8, --gpus-per-run 1/2",
        ),
        (3, 4, "all", "need 12, 8 visible; set --jobs 2, --gpus-per-run 2, or NGPUS=0 to use the CPU"),
        (5, 2, 2, "need 10, 8 visible; set --jobs 4, --gpus-per-run 1, or"),
        (20, Fraction(1, 2), "all", "with 1/2 GPU each need 10, 8 visible; set --jobs 16, --gpus-per-run 1/3"),
        (2, 2, 1, "--gpus-per-run: 2 asked for, but NGPUS=1 is set; leave one of them out"),
        (2, 2, 0, "--gpus-per-run: 2 asked for, but NGPUS=0 is set; leave one of them out"),
        (2, Fraction(1, 2), 0, "--gpus-per-run: 1/2 asked for, but NGPUS=0 is set; leave one of them out"),
        (2, Fraction(1, 2), 2, "--gpus-per-run: 1/2 asked for, but NGPUS=2 is set; leave one of them out"),
        (2, 0, "all", "GPUs per run: expected a whole number of at least 1, or 1/N, found 0; mend it"),
        (2, Fraction(3, 2), "all", "GPUs per run: expected a whole number of at least 1, or 1/N, found 3/2; mend it"),
        (0, None, "all", "runs at a time: expected at least 1, found 0; mend it"),
    ],
)
@pytest.mark.usefixtures("machine")
def test_what_does_not_fit_is_said_with_what_does(
    slots: int, per_run: Fraction | None, gpus: int | str, line: str
) -> None:
    with pytest.raises(InputError, match=re.escape(line)):
        shares(slots, per_run, gpus, "auto")


@pytest.mark.usefixtures("machine")
def test_each_batch_can_be_shared_out_over_the_gpus_of_a_run() -> None:
    def gpus(slots: int, *batch_sizes: int) -> list[int]:
        found = shares(slots, None, "all", "auto", batch_sizes)
        return [len(share.environment["CUDA_VISIBLE_DEVICES"].split(",")) for share in found]

    assert (
        gpus(1, 8) == [8] and gpus(1, 12) == [6] and gpus(1, 8, 12) == [4] and gpus(1, 7) == [7] and gpus(1, 11) == [1]
    )
    assert gpus(2, 6) == [3, 3]
    line = "--gpus-per-run: batch_size=8 cannot be shared out over 3 GPUs evenly; set --gpus-per-run to 2, or "
    with pytest.raises(InputError, match=re.escape(line)):
        shares(2, 3, "all", "auto", [6, 8])
    with pytest.raises(InputError, match=re.escape("NGPUS: batch_size=4 cannot be shared out over 3 GPUs evenly; ")):
        shares(2, None, 3, "auto", [4])
    with pytest.raises(InputError, match=re.escape("set --jobs 2, --gpus-per-run 1, or NGPUS=0")):
        shares(3, 4, "all", "auto", [9])  # two would be free, which do not divide it
    assert len(shares(2, Fraction(1, 2), "all", "auto", [7])) == 2


@pytest.mark.usefixtures("machine")
def test_on_a_cpu_the_cores_are_shared_out(monkeypatch: pytest.MonkeyPatch) -> None:
    def threads(slots: int, gpus: int | str) -> str:
        (share, *others) = shares(slots, None, gpus, "auto")
        assert others == [share] * (slots - 1) and share.settings == {}
        return share.environment["OMP_NUM_THREADS"]

    assert [threads(slots, 0) for slots in (2, 3, 16, 20)] == ["8", "5", "1", "1"]
    assert shares(20, None, 0, "auto")[0].words == "1 of 16 cores, which 20 runs have to share"
    monkeypatch.setattr(sharing, "visible_gpus", list)
    assert threads(4, "all") == "4"
    with pytest.raises(InputError, match="2 runs at a time with 1 GPU each need 2, 0 visible; set NGPUS=0"):
        shares(2, 1, "all", "auto")
    monkeypatch.setenv("OMP_NUM_THREADS", "3")
    assert threads(4, 0) == "3"
    with monkeypatch.context() as patch:
        patch.setattr(sharing, "visible_gpus", lambda: list("0123"))
        assert {share.environment["OMP_NUM_THREADS"] for share in shares(4, None, "all", "auto")} == {"3"}
    monkeypatch.setenv("NNODES", "2")
    with pytest.raises(InputError, match="--jobs: expected one machine, found NNODES=2; unset it, or leave --jobs out"):
        shares(2, None, 0, "auto")


def test_each_run_gets_one_part_of_a_gpu(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sharing, "visible_gpus", lambda: ["MIG-a", "MIG-b", "MIG-c"])
    assert [share.environment["CUDA_VISIBLE_DEVICES"] for share in shares(2, None, "all", 0)] == ["MIG-a", "MIG-b"]
    assert [share.words for share in shares(1, None, "all", 0)] == ["GPU MIG-a"]
    with pytest.raises(
        InputError, match=re.escape("--gpus-per-run: expected at most 1, found 2: a run sees one part ")
    ):
        shares(1, 2, "all", 0)
    with pytest.raises(InputError, match=re.escape("NGPUS: expected at most 1, found 2: a run sees one part ")):
        shares(1, None, 2, 0)


@pytest.mark.parametrize(
    ("named", "count", "expected"),
    [
        (None, 3, ["0", "1", "2"]),
        ("2,0", 2, ["2", "0"]),
        (" 5 , 3 ", 2, ["5", "3"]),
        ("1,0,-1,2", 2, ["1", "0"]),  # CUDA stops at the first that is not there
        ("GPU-1f,GPU-2e", 2, ["GPU-1f", "GPU-2e"]),
        ("MIG-1,MIG-2", 1, ["MIG-1", "MIG-2"]),  # CUDA counts only the first
        ("", 0, []),
        (None, 0, []),
    ],
)
def test_visible_gpus_have_the_names_that_the_environment_gives_them(
    monkeypatch: pytest.MonkeyPatch, named: str | None, count: int, expected: list[str]
) -> None:
    monkeypatch.setattr(torch.cuda, "device_count", lambda: count)
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    if named is not None:
        monkeypatch.setenv("CUDA_VISIBLE_DEVICES", named)
    assert visible_gpus() == expected
