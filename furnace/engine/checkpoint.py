"""Snapshots of a run: writes them, finds them again, and says which can be trusted.

    ema_snapshot/ema_branch{1,2}_epoch{N}.pth   one teacher each
    snapshot/model_epoch{N}.pth                 both students, with the names `branch1.*` and `branch2.*`
    resume.pth                                  what else going on needs, and the digests of the files above

They are written in this order. So where there is a file of students, the snapshot is whole. The first two have the
published names and keys; published CPS runs named their files of students `snapshot/epoch-{N}.pth`, and these are read
too. In the middle of an epoch, a run is saved in `resume.pth` alone, which then holds the networks too, because such a
snapshot is never evaluated.
"""

import re
from collections.abc import Mapping
from pathlib import Path
from typing import BinaryIO

import torch
from torch import Tensor, nn

from furnace.engine.files import remove_leftovers, sha256, write_atomically, write_text, writing
from furnace.errors import InputError, because, say_note
from furnace.network.tensors import fill, name_some, read_tensors, require_named

RESUME_KEYS = ("epoch", "digests", "iteration", "optimizers", "scaler", "settings", "counters")
STUDENT_FILE = re.compile(r"(?:model_epoch|epoch-)(\d+)\.pth")


class Snapshots:
    """The snapshots below one folder.

    Networks are given by name: `student_1`, `student_2`, `teacher_1`, `teacher_2`. `progress` is the dictionary of what
    going on needs beside the networks.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.resume_file = folder / "resume.pth"
        self.previous_resume_file = folder / "resume.previous.pth"
        self.begun_marker = folder / ".begun"  # it is there from a run's start to its first resume file
        self._newest_is_damaged = False  # if it is, the next save must not put it in the place of the previous one

    def epochs(self) -> list[int]:
        """Returns the epochs that have a file of students, ascending."""
        found = (STUDENT_FILE.fullmatch(path.name) for path in (self.folder / "snapshot").glob("*.pth"))
        return sorted({int(match[1]) for match in found if match})

    def students_file(self, epoch: int) -> Path:
        """Returns the file of both students: the one of a published CPS run if it is there, else ours."""
        published_org = self.folder / "snapshot" / f"epoch-{epoch}.pth"
        return published_org if published_org.is_file() else self.folder / "snapshot" / f"model_epoch{epoch}.pth"

    def teacher_files(self, epoch: int) -> dict[str, Path]:
        """Returns the files of both teachers, by name."""
        folder = self.folder / "ema_snapshot"
        return {f"teacher_{number}": folder / f"ema_branch{number}_epoch{epoch}.pth" for number in (1, 2)}

    def has_teachers(self, epoch: int) -> bool:
        """Returns whether there is a file of any teacher. If the other one is missing, loading raises InputError."""
        return any(path.is_file() for path in self.teacher_files(epoch).values())

    def of_another_run(self) -> bool:
        """Returns whether there are snapshots that a new run would overwrite.

        Those of a run that was ended before its first resume file do not count: nothing can go on from them.
        """
        return bool(self.epochs()) and not self.begun_marker.is_file()

    def remove_leftovers(self) -> None:
        """Removes the temporary files of a process that was killed while it saved."""
        for folder in (self.folder, self.folder / "snapshot", self.folder / "ema_snapshot"):
            remove_leftovers(folder, "*.pth")

    def begin(self) -> None:
        """Marks the folder as a new run's, and puts the resume files of an earlier run aside.

        Without the mark, a first snapshot that was cut short would be taken for one of another run.
        """
        for path in (self.resume_file, self.previous_resume_file):
            if path.is_file():
                with writing(path):
                    path.replace(path.with_suffix(".before.pth"))
        write_text(self.begun_marker, "")

    def save(self, epoch: int, networks: Mapping[str, nn.Module], progress: dict, keep: int | None) -> None:
        """Writes the networks, then `resume.pth`, then removes all but the `keep` newest epochs; None keeps all."""
        written = []
        for name, path in self.teacher_files(epoch).items():
            if name in networks:
                write_tensors(path, {"model": networks[name].state_dict()})
                written.append(path)
        written.append(self.folder / "snapshot" / f"model_epoch{epoch}.pth")
        write_tensors(written[-1], {"model": students_state(networks)})
        digests = {str(path.relative_to(self.folder)): sha256(path) for path in written}
        self._write_resume_file({"epoch": epoch, "digests": digests, **progress})
        self._prune(epoch, keep)

    def save_within(self, epochs_done: int, networks: Mapping[str, nn.Module], progress: dict) -> None:
        """Writes all that going on needs to `resume.pth`, in the middle of an epoch."""
        states = {name: network.state_dict() for name, network in networks.items()}
        self._write_resume_file({"epoch": epochs_done, "digests": {}, "networks": states, **progress})

    def newest(self) -> dict | None:
        """Returns the content of the newest resume file whose snapshot is whole, or None if there is no resume file.

        Raises:
            InputError: there are resume files, but none of a whole snapshot.
        """
        faults: list[str] = []
        for path in (self.resume_file, self.previous_resume_file):
            if not path.is_file():
                continue
            try:
                progress = read_tensors(path)
                self._check(progress, path)
                self._newest_is_damaged = bool(faults)
                return progress
            except InputError as error:
                faults.append(str(error))
        if faults:
            raise InputError(
                f"cannot resume: {'; '.join(faults)}; put a whole copy back, or choose another OUTPUT_PATH"
            )
        return None

    def restore(self, progress: Mapping, networks: Mapping[str, nn.Module]) -> None:
        """Fills the networks with the state that belongs to `progress`, which `newest` returned.

        Raises:
            InputError: a file is missing, damaged, or of another network.
        """
        if "networks" not in progress:
            self.load(progress["epoch"], networks)
            return
        for name, network in networks.items():
            fill(network, require_named(progress["networks"].get(name), self.resume_file), self.resume_file)

    def load(self, epoch: int, networks: Mapping[str, nn.Module]) -> None:
        """Fills both students, and those teachers that are given, from one epoch's files.

        Raises:
            InputError: a file is missing, damaged, or of another network.
        """
        path = self.students_file(epoch)
        state = _model_state(path)
        foreign = [name for name in state if not name.startswith(("branch1.", "branch2."))]
        if foreign:
            raise InputError(f"weights do not fit: {path}: {name_some(foreign)} not in the network; name another file")
        for number in (1, 2):
            prefix = f"branch{number}."
            own = {name.removeprefix(prefix): value for name, value in state.items() if name.startswith(prefix)}
            fill(networks[f"student_{number}"], own, path)
        for name, path in self.teacher_files(epoch).items():
            if name in networks:
                fill(networks[name], _model_state(path), path)

    def _write_resume_file(self, content: dict) -> None:
        with writing(self.resume_file):
            if self.resume_file.is_file() and not self._newest_is_damaged:
                self.resume_file.replace(self.previous_resume_file)
        write_tensors(self.resume_file, content)
        self._newest_is_damaged = False
        _remove(self.begun_marker)

    def _check(self, progress: dict, source: Path) -> None:
        """Raises InputError if a resume file lacks a key, or if a network's file is not the one that was written."""
        missing = [name for name in RESUME_KEYS if name not in progress]
        if missing:
            raise InputError(f"{source} holds no {missing[0]}")
        for name, digest in progress["digests"].items():
            path = self.folder / name
            if not path.is_file():
                raise InputError(f"snapshot file missing: {path}")
            if sha256(path) != digest:
                raise InputError(f"snapshot damaged: {path} is not what was written")

    def _prune(self, newest: int, keep: int | None) -> None:
        """Removes the files of all but the `keep` last epochs up to `newest`, which was saved last.

        At least two stay, one for each of the two resume files. Epochs above `newest` are left alone: a run that went
        on with resume=force and another batch size may have left some.
        """
        if keep is None:
            return
        for epoch in [epoch for epoch in self.epochs() if epoch <= newest][: -max(keep, 2)]:
            for path in [self.students_file(epoch), *self.teacher_files(epoch).values()]:
                _remove(path)


def _remove(path: Path) -> None:
    """Removes a file that is needed no more; where that fails, it is no reason to end a run that is saved."""
    try:
        path.unlink(missing_ok=True)
    except OSError as error:
        say_note(f"cannot remove {path}: {because(error)}")


def students_state(networks: Mapping[str, nn.Module]) -> dict[str, Tensor]:
    """Returns the state of both students in one dictionary, with the published names `branch1.*` and `branch2.*`."""
    return {
        f"branch{number}.{name}": value
        for number in (1, 2)
        for name, value in networks[f"student_{number}"].state_dict().items()
    }


def write_tensors(path: Path, content: dict) -> None:
    """Writes a file that `torch.load(path, weights_only=True)` reads, whole or not at all.

    Raises:
        InputError: the folder cannot be written or is full.
    """

    def write(file: BinaryIO) -> None:
        try:
            torch.save(content, file)
        except RuntimeError as error:  # torch raises it while it closes an archive that a full disk cut short
            raise error.__context__ if isinstance(error.__context__, OSError) else error from None

    write_atomically(path, write)


def _model_state(path: Path) -> dict[str, Tensor]:
    """Reads the state under the key `model`, which every file of students or of a teacher has."""
    content = read_tensors(path)
    if not isinstance(content.get("model"), dict):
        raise InputError(f"not a snapshot: {path}: expected a dictionary with the key 'model'; name another file")
    return require_named(content["model"], path)
