"""What a run writes: how many bytes, beside what the disk has left, and how long it takes to write them."""

import hashlib
import os
import shutil
import tempfile
import time
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

import cv2
import torch

from furnace.config.checks import kept_epochs, saved_epochs
from furnace.config.completion import CompleteSettings
from furnace.config.settings import Settings
from furnace.data.entries import Split
from furnace.data.file_list import spread
from furnace.doctor.finding import OK, PROBLEM, Finding
from furnace.doctor.wanted import existing
from furnace.engine.checkpoint import Snapshots, students_state
from furnace.engine.memory import said
from furnace.pictures import colourize
from furnace.training.learner import Learner

LABELS = 3  # label maps of the list whose size is looked at


@dataclass(frozen=True)
class Saved:
    """Bytes of what a run saves: a snapshot with all its files, and what else going on needs."""

    snapshot: int
    progress: int


def saved_bytes(learner: Learner) -> Saved:
    """Returns the bytes of a run's files, by writing them nowhere. A step was taken before, or something is missing."""
    networks = learner.ensemble.networks()
    teachers = [network.state_dict() for name, network in networks.items() if name.startswith("teacher")]
    files = [students_state(networks), *teachers]
    return Saved(sum(_bytes_of({"model": state}) for state in files), _bytes_of(learner.state()))


def most_bytes(settings: Settings, epochs: int, saved: Saved) -> int:
    """Returns how many bytes snapshots take at the worst moment.

    The oldest snapshot goes only when the newest is whole. There are two resume files, which hold the networks too
    where they are saved in the midst of an epoch.

    Args:
        settings: say which snapshots stay.
        epochs: of the run.
        saved: bytes of each.
    """
    written, kept = len(saved_epochs(settings, epochs)), len(kept_epochs(settings, epochs))
    within = settings.snapshot_minutes > 0 or settings.validate_epochs > 0
    resume = saved.progress + (saved.snapshot if within else 0)
    return min(written, kept + 1) * saved.snapshot + 2 * resume


def bytes_there(settings: CompleteSettings) -> int:
    """Returns the bytes of a run's files that are there already, which it keeps, or writes again.

    A run that begins anew puts resume files aside, so that they stay beside its own.
    """
    snapshots = Snapshots(settings.snapshot_dir)
    paths = [path for name in ("snapshot", "ema_snapshot") for path in (snapshots.folder / name).glob("*.pth")]
    if settings.resume != "never":
        paths += [path for path in (snapshots.resume_file, snapshots.previous_resume_file) if path.is_file()]
    return sum(path.stat().st_size for path in paths)


def prediction_bytes(split: Split) -> int:
    """Returns about how many bytes the label maps take that an evaluation writes, told by some true ones."""
    numbers, size = spread(len(split.files), LABELS), 0
    for number in numbers:
        label = split.label(number)
        for picture in (label, colourize(label, split.dataset.palette)):
            size += len(cv2.imencode(".png", picture)[1])
    return size * len(split.files) // max(1, len(numbers))


def seconds_a_byte(learner: Learner, folder: Path) -> float:
    """Returns the seconds in which a byte is written near `folder` and digested; 0 if it cannot be written.

    The file has no name, so that nothing stays even if this process is killed.
    """
    with suppress(OSError, RuntimeError), tempfile.TemporaryFile(dir=existing(folder)) as file:
        begun = time.perf_counter()
        torch.save({"model": students_state(learner.ensemble.networks())}, file)
        file.flush()
        os.fsync(file.fileno())
        size = file.tell()
        file.seek(0)
        hashlib.file_digest(file, "sha256")
        return (time.perf_counter() - begun) / size
    return 0.0


def on_disk(wanted: Sequence[tuple[str, Path, int]]) -> list[Finding]:
    """Returns a finding for each file system: what is written there at most, and what is free.

    Args:
        wanted: what it is, the folder that it goes into, and its bytes.
    """
    places: dict[int, list[tuple[str, Path, int]]] = {}
    for entry in wanted:
        places.setdefault(existing(entry[1]).stat().st_dev, []).append(entry)
    findings = []
    for entries in places.values():
        needed, folder = sum(size for _, _, size in entries), entries[0][1]
        free = shutil.disk_usage(existing(folder)).free
        parts = " and ".join(f"{said(size)} for {what}" for what, _, size in entries)
        found = f"at most about {parts}, {said(free)} are free for {folder}"
        figures = {"needed_bytes": needed, "free_bytes": free, **{what: size for what, _, size in entries}}
        if needed <= free:
            findings.append(Finding(OK, "files", found, "", figures))
        else:
            remedy = "free space, set keep_snapshots=2, or choose another OUTPUT_PATH"
            findings.append(Finding(PROBLEM, "files", found, remedy, figures))
    return findings


class _Nowhere:
    """A file that only counts what is written."""

    def __init__(self) -> None:
        self.size = 0

    def write(self, data: bytes) -> int:
        self.size += len(data)
        return len(data)

    def flush(self) -> None:
        pass


def _bytes_of(content: dict) -> int:
    file = _Nowhere()
    torch.save(content, file)  # type: ignore[arg-type]  # torch asks for `write` alone
    return file.size
