"""The parts of an estimate: arithmetic, the line through two peaks, clocks, and what is written and loaded."""

import mmap
import time
from pathlib import Path
from types import SimpleNamespace

import cv2
import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from furnace.config.settings import Settings
from furnace.doctor import clock, loading, made_data, memory_findings, storage
from furnace.doctor.arithmetic import (
    Part,
    evaluation_seconds,
    iteration_seconds,
    said_duration,
    said_seconds,
    saves,
    training_seconds,
    validation_seconds,
)
from furnace.doctor.finding import NOTE, OK, PROBLEM
from furnace.doctor.fitting import LEAST, MARGIN, images_in, largest_that_fits
from furnace.doctor.memory_findings import another_size, on_device, on_host, roughly
from furnace.doctor.peaks import Memory, Peaks, bytes_in
from furnace.doctor.run_time import evaluated_epochs
from furnace.doctor.steps import FEWEST, _enough
from furnace.doctor.storage import Saved, bytes_there, most_bytes, on_disk
from furnace.errors import counted

GIGABYTE = 10**9
PART = Part(iterations=10, images=24, step=0.5, load=2.0)


@pytest.mark.parametrize(
    ("workers", "cores", "seconds"),
    [
        (0, 8, 2.5),  # the process makes its batch, then takes its step
        (1, 8, 2.0),
        (2, 8, 1.0),
        (8, 2, 1.0),  # more workers than cores make no more
        (8, 8, 0.5),  # the step is slower
    ],
)
def test_an_iteration_takes_what_is_slower(workers: int, cores: int, seconds: float) -> None:
    assert iteration_seconds(PART, workers, cores) == seconds
    assert training_seconds([PART, PART], workers, cores) == 20 * seconds


def test_validations_and_evaluations_share_images_out() -> None:
    settings = Settings(validate_epochs=4, validate_images="all")
    assert validation_seconds(settings, 11, 9, 2, 3.0) == 2 * 5 * 3.0
    assert validation_seconds(Settings(validate_epochs=4, validate_images=5), 12, 9, 1, 3.0) == 3 * 5 * 3.0
    assert validation_seconds(Settings(), 12, 9, 1, 3.0) == 0
    assert evaluation_seconds(2, 9, 2, 3.0) == 2 * 5 * 3.0
    kept = Settings(snapshot_iter=5, keep_snapshots=3)
    chosen = [
        evaluated_epochs(Settings(**vars(kept) | {"eval_epochs": each}), 12) for each in ("none", "last", (5, 10))
    ]
    assert [*chosen, evaluated_epochs(Settings(**vars(kept) | {"eval_epochs": "all"}), 12)] == [0, 1, 2, 3]


@pytest.mark.parametrize(
    ("settings", "hours", "expected"),
    [
        (Settings(snapshot_iter=1), 1, (12, 0)),  # five minutes an epoch
        (Settings(snapshot_iter=1), 12, (12, 24)),  # each hour, and twice within it
        (Settings(snapshot_iter=5, snapshot_minutes=0), 100, (3, 0)),  # after 5, 10 and 12
        (Settings(snapshot_iter=5, snapshot_minutes=0, validate_epochs=2), 100, (3, 4)),  # before those of 2, 4, 6, 8
    ],
)
def test_saves_are_counted(settings: Settings, hours: int, expected: tuple[int, int]) -> None:
    assert saves(settings, 12, hours * 3600.0) == expected


@pytest.mark.parametrize(
    ("settings", "expected"),
    [
        (Settings(keep_snapshots="all", snapshot_minutes=0), 12 * 100 + 2 * 7),
        (Settings(keep_snapshots=3, snapshot_minutes=0), 4 * 100 + 2 * 7),  # the oldest goes once the newest is there
        (Settings(keep_snapshots=1), 3 * 100 + 2 * 107),  # two stay at least
        (Settings(snapshot_iter=12, snapshot_minutes=0), 1 * 100 + 2 * 7),
    ],
)
def test_snapshots_take_most_when_one_more_is_written(settings: Settings, expected: int) -> None:
    assert most_bytes(settings, 12, Saved(snapshot=100, progress=7)) == expected


def test_times_are_said_as_people_do() -> None:
    assert [said_duration(seconds) for seconds in (5, 119, 150, 7300, 200_000)] == [
        "5 s",
        "119 s",
        "2.5 minutes",
        "2.0 hours",
        "2.3 days",
    ]
    assert [counted(number, "epoch") for number in (0, 1, 2)] == ["0 epochs", "1 epoch", "2 epochs"]
    assert [said_seconds(seconds) for seconds in (0.0123, 1.5, 1234.5)] == ["12.3 ms", "1.5 s", "1234 s"]


@given(st.integers(0, 50), st.integers(1, 9), st.integers(3, 40), st.integers(0, 400))
def test_the_largest_batch_is_the_one_that_trying_all_would_find(
    base: int, each: int, too_large: int, room: int
) -> None:
    tried: list[int] = []

    def peak_of(images: int) -> float | None:
        tried.append(images)
        peak = base + each * images
        return peak if peak <= room else None

    one_by_one = max((n for n in range(LEAST, too_large) if peak_of(n) is not None), default=None)
    tried.clear()
    found = largest_that_fits(peak_of, too_large, room)
    # Only halves are tried on the way down, so that what lies below the smallest of them is not found.
    if found is None:
        assert one_by_one is None or all(one_by_one < n for n in tried)
    else:
        assert found in tried and base + each * found <= room
        assert one_by_one is not None and found >= 0.9 * one_by_one - 1
    assert len(tried) <= 11


def test_images_are_told_from_two_peaks() -> None:
    room = 110 / MARGIN + 1e-6
    assert images_in(room, {2: 30.0, 4: 50.0}) == 10  # 10 and 10 for each image
    assert images_in(room, {4: 50.0}) is None and images_in(room, {2: 30.0, 4: 30.0}) is None
    assert images_in(float("inf"), {2: 30.0, 4: 50.0}) is None
    assert [roughly(number) for number in (0, 7, 42, 99, 123, 1347)] == [0, 7, 42, 99, 120, 1300]
    assert [another_size(images) for images in (2, 3, 4, 8)] == [4, 2, 2, 4]


def test_a_step_is_timed_on_a_cpu() -> None:
    watch = clock.StepClock(torch.device("cpu"))
    for _ in range(2):
        with watch.step():
            time.sleep(0.02)
        time.sleep(0.2)  # waiting for data does not count
    assert len(watch.seconds()) == 2 and all(0.02 <= seconds < 0.15 for seconds in watch.seconds())


def test_a_gpu_marks_its_steps_itself_and_only_the_step_before_is_waited_for(monkeypatch: pytest.MonkeyPatch) -> None:
    told: list[str] = []

    class Event:
        made = 0

        def __init__(self, enable_timing: bool) -> None:
            assert enable_timing
            Event.made += 1
            self.number = Event.made

        def record(self) -> None:
            told.append(f"record {self.number}")

        def synchronize(self) -> None:
            told.append(f"wait {self.number}")

        def elapsed_time(self, other: "Event") -> float:
            return 1000.0 * (self.number * 10 + other.number)

    monkeypatch.setattr(torch.cuda, "Event", Event)
    monkeypatch.setattr(torch.cuda, "synchronize", lambda: told.append("wait for all"))
    watch = clock.StepClock(torch.device("cuda"))
    for number in range(2):
        with watch.step():
            told.append(f"step {number}")
    assert watch.seconds() == [12.0, 34.0]
    assert told == [*("record 1", "step 0", "record 2"), *("record 3", "step 1", "record 4", "wait 2"), "wait for all"]


def test_the_worst_moment_of_a_process_is_seen() -> None:
    peaks = Peaks(torch.device("cpu"))
    peaks.forget()
    before = peaks.seen().device
    with mmap.mmap(-1, 100_000_000) as fresh:  # what a library gives back may stay with this process
        fresh[::1024] = bytes(len(fresh) // 1024 + 1)
    assert peaks.seen().device >= before + 90e6
    assert peaks.seen().host == peaks.seen().reserved == peaks.seen().device < peaks.room()
    assert bytes_in("self/nothing", "VmHWM:") == bytes_in("self/status", "nothing") == 0


def test_a_gpus_memory_is_what_torch_counts(monkeypatch: pytest.MonkeyPatch) -> None:
    gpu, forgotten = torch.device("cuda", 0), []
    counted = {"max_memory_allocated": 50, "max_memory_reserved": 95, "memory_allocated": 30, "memory_reserved": 40}
    for name, gigabytes in counted.items():
        monkeypatch.setattr(torch.cuda, name, lambda device, size=gigabytes * GIGABYTE: size)
    monkeypatch.setattr(torch.cuda, "mem_get_info", lambda device: (60 * GIGABYTE, 1000 * GIGABYTE))
    monkeypatch.setattr(torch.cuda, "reset_peak_memory_stats", forgotten.append)
    peaks = Peaks(gpu)
    peaks.forget()
    assert forgotten == [gpu]
    assert (peaks.seen().device, peaks.seen().reserved) == (50 * GIGABYTE, 95 * GIGABYTE) and peaks.seen().host > 1e6
    assert peaks.room() == 100 * GIGABYTE  # 60 that nobody has, and 40 that this process has

    process = SimpleNamespace(world=SimpleNamespace(device=gpu), images=4, share=4, processes=2, listed=1000)
    known = {2: 30.0 * GIGABYTE, 4: 50.0 * GIGABYTE}
    tight = on_device(process, Memory(host=1, device=50 * GIGABYTE, reserved=95 * GIGABYTE), known)
    assert tight.state == NOTE and "95.0 GB with what kernels tried, of 100.0 GB" in tight.found
    assert tight.figures["largest_batch_size"] == 2 * 8 and "about 16 would fit" in tight.found
    well = Memory(host=1, device=50 * GIGABYTE, reserved=80 * GIGABYTE)
    assert on_device(process, well, {}).state == OK
    little = {2: 50.0 * GIGABYTE - 2000, 4: 50.0 * GIGABYTE}  # a line that leads far away
    assert on_device(process, well, little).figures["largest_batch_size"] == 2 * memory_findings.FURTHEST * 4
    process.listed = 13  # and a batch may not be longer than the longer list
    assert on_device(process, well, little).figures["largest_batch_size"] == 2 * 6
    full = {2: 30.0 * GIGABYTE, 4: 99.0 * GIGABYTE}  # for four there was room, whatever the line says with its margin
    assert on_device(process, well, full).figures["largest_batch_size"] == 2 * 4


def test_the_machines_memory_has_what_is_free_and_what_the_process_holds_now(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(memory_findings, "free", lambda: 40 * GIGABYTE)  # measured once workers have ended
    monkeypatch.setattr(memory_findings, "resident", lambda: 3 * GIGABYTE)
    for here, state in ((4, OK), (5, PROBLEM)):
        finding = on_host(SimpleNamespace(here=here, workers=8), Memory(5 * GIGABYTE, 0, 0), 4 * GIGABYTE)
        assert (finding.state, finding.figures["room_bytes"]) == (state, 43 * GIGABYTE)
        assert finding.figures["needed_bytes"] == here * 9 * GIGABYTE


def test_no_more_steps_than_the_budget_allows() -> None:
    assert not _enough(FEWEST - 1, 99.0, 1.0, []) and _enough(FEWEST, 1.1, 1.0, [])
    assert not _enough(FEWEST, 0.9, 1.0, [])
    assert _enough(0, 130.0, 30.0, [130.0])  # one that takes longer than all of the budget is enough
    assert not _enough(0, 11.0, 30.0, [11.0]) and _enough(1, 22.0, 30.0, [11.0])


@pytest.mark.parametrize(
    ("workers", "cores", "part", "state", "said"),
    [
        (4, 8, Part(1, 24, 1.0, 2.0), OK, "the network is the limit"),
        (2, 8, Part(1, 24, 0.5, 2.0), NOTE, "set num_workers=4"),
        (8, 8, Part(1, 24, 0.1, 2.0), NOTE, "give it 40 cores"),
        (0, 2, Part(1, 24, 1.0, 2.0), NOTE, "67% of the time"),
        (0, 2, Part(1, 24, 1.0, 0.01), OK, "waits 10 ms"),
    ],
)
def test_what_limits_a_run(workers: int, cores: int, part: Part, state: str, said: str) -> None:
    split = SimpleNamespace(image_path=lambda _: Path("x.jpg"))
    experiment = SimpleNamespace(split=lambda _: split)
    process = SimpleNamespace(workers=workers, cores=cores, here=2, experiment=experiment, tries_more=False)
    finding = loading.limit(process, part)
    assert finding.state == state and said in f"{finding.found}; {finding.remedy}"
    assert finding.figures["images_per_second_wanted"] == 24 / part.step
    if state == NOTE and workers:
        assert "--files decoded" in finding.remedy
        split.image_path = lambda _: Path("x.ppm")
        assert "--files decoded" not in loading.limit(process, part).remedy


def test_files_of_a_run_that_goes_on_are_there(tmp_path: Path) -> None:
    for size, name in enumerate(("snapshot/model_epoch1.pth", "ema_snapshot/ema_branch1_epoch1.pth", "resume.pth"), 1):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_bytes(bytes(size))
    for name in ("metrics.csv", "resume.before.pth", "snapshot/.model_epoch2.pth.x.tmp"):
        (tmp_path / name).write_bytes(bytes(100))
    settings = [SimpleNamespace(snapshot_dir=tmp_path, resume=resume) for resume in ("auto", "never")]
    assert [bytes_there(each) for each in settings] == [6, 3]
    assert bytes_there(SimpleNamespace(snapshot_dir=tmp_path / "none", resume="auto")) == 0


def test_too_little_disk_is_a_problem(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(storage.shutil, "disk_usage", lambda _: SimpleNamespace(free=1500))
    enough = [("snapshots", tmp_path / "a", 1000), ("predictions", tmp_path / "b" / "c", 500)]
    (ok,), (problem,) = on_disk(enough), on_disk([*enough, ("more", tmp_path, 1)])
    assert (ok.state, ok.figures["needed_bytes"]) == (OK, 1500)
    assert (problem.state, problem.figures["free_bytes"]) == (PROBLEM, 1500) and "keep_snapshots" in problem.remedy


@pytest.mark.parametrize(
    ("pattern", "ending"),
    [
        ("{split}/image/{name}.jpg", ".jpg"),
        ("{name}.JFIF", ".jpg"),
        ("{name}.png", ".png"),
        ("{name}.j2k", ".png"),
        ("a.b/{name}", ".png"),
        ("{name}.ppm", ".ppm"),
    ],
)
def test_made_images_are_files_that_can_be_written(pattern: str, ending: str) -> None:
    assert made_data._ending(pattern) == ending
    assert cv2.imencode(ending, np.zeros((2, 2, 3), np.uint8))[0]


def test_made_images_are_as_large_as_those_of_the_data_set() -> None:
    random = np.random.default_rng(0)
    for known in (*made_data.KNOWN.values(), made_data.UNKNOWN):
        assert known.train > known.val > 0 and known.files >= 4
    known = made_data.KNOWN["camvid"]
    picture, label = made_data._picture(random, known.height, known.width), made_data._label(random, known, 11)
    assert picture.shape == (360, 480, 3) and label.shape == (360, 480) and set(np.unique(label)) == set(range(11))
    # A photograph of this size takes 40 to 120 kB as JPEG.
    assert 30_000 < len(cv2.imencode(".jpg", picture)[1]) < 150_000
