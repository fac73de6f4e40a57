"""Snapshots of a run: what is written, found again and trusted.

    snapshot/model_epoch{N}.pth             both students, names `branch1.*`, `branch2.*`
    ema_snapshot/ema_branch{1,2}_epoch{N}.pth   one teacher each
    resume.pth                              the rest that going on needs, and the digests of the files above

Names and keys of the first two are the published ones. Published CPS runs named theirs `snapshot/epoch-{N}.pth`.
"""

import os
import re
from pathlib import Path

import torch
from torch import Tensor

from furnace.engine.files import sha256, write_atomically
from furnace.errors import InputError
from furnace.network.pretrained import fill, name_some, read_tensors, require_named
from furnace.semi.ensemble import Ensemble

STUDENT_FILE = re.compile(r"(?:model_epoch|epoch-)(\d+)\.pth")


class Snapshots:
    """The snapshots below one folder."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.resume_file = folder / "resume.pth"
        self.previous_resume_file = folder / "resume.previous.pth"

    def epochs(self) -> list[int]:
        """The epochs that have a file of students, ascending."""
        found = (STUDENT_FILE.fullmatch(path.name) for path in (self.folder / "snapshot").glob("*.pth"))
        return sorted({int(match[1]) for match in found if match})

    def students_file(self, epoch: int) -> Path:
        published_org = self.folder / "snapshot" / f"epoch-{epoch}.pth"
        return published_org if published_org.is_file() else self.folder / "snapshot" / f"model_epoch{epoch}.pth"

    def teacher_files(self, epoch: int) -> list[Path]:
        return [self.folder / "ema_snapshot" / f"ema_branch{number}_epoch{epoch}.pth" for number in (1, 2)]

    def has_teachers(self, epoch: int) -> bool:
        return all(path.is_file() for path in self.teacher_files(epoch))

    def begin(self) -> None:
        """Marks the folder as a run's own, so that a first snapshot cut short is not taken for another run's."""
        _save(self.resume_file, {"epoch": 0, "digests": {}})

    def save(self, epoch: int, ensemble: Ensemble, progress: dict, keep: int | None) -> None:
        """Writes the networks, then `resume.pth` with `progress`, then removes all but the `keep` newest epochs."""
        written = [self.folder / "snapshot" / f"model_epoch{epoch}.pth"]
        _save(written[0], {"model": ensemble.students_state()})
        for teacher, path in zip(ensemble.teachers, self.teacher_files(epoch), strict=bool(ensemble.teachers)):
            _save(path, {"model": teacher.state_dict()})
            written.append(path)
        digests = {str(path.relative_to(self.folder)): sha256(path) for path in written}
        if self.resume_file.is_file():
            os.replace(self.resume_file, self.previous_resume_file)
        _save(self.resume_file, {"epoch": epoch, "digests": digests, **progress})
        self._prune(keep)

    def newest(self) -> dict | None:
        """The content of the newest trustworthy resume file, None where there never was one.

        Raises:
            InputError: there are resume files, but none whose snapshot is whole.
        """
        faults = []
        for path in (self.resume_file, self.previous_resume_file):
            if not path.is_file():
                continue
            try:
                progress = read_tensors(path)
                self._check_digests(progress)
                return progress
            except (InputError, KeyError) as error:
                faults.append(str(error))
        if faults:
            raise InputError(f"cannot resume: {'; '.join(faults)}; remove {self.folder} to start anew")
        return None

    def load(self, epoch: int, ensemble: Ensemble) -> None:
        """Fills students, and teachers if the ensemble has them, from one epoch's files.

        Raises:
            InputError: a file is missing, damaged, or of another network.
        """
        path = self.students_file(epoch)
        state = _model_state(path)
        foreign = [name for name in state if not name.startswith(("branch1.", "branch2."))]
        if foreign:
            raise InputError(f"weights do not fit: {path}: {name_some(foreign)} not in the network; name another file")
        for number, student in enumerate(ensemble.students, 1):
            prefix = f"branch{number}."
            fill(
                student,
                {name.removeprefix(prefix): value for name, value in state.items() if name.startswith(prefix)},
                path,
            )
        for teacher, path in zip(ensemble.teachers, self.teacher_files(epoch), strict=bool(ensemble.teachers)):
            fill(teacher, _model_state(path), path)

    def _check_digests(self, progress: dict) -> None:
        for name, digest in progress["digests"].items():
            path = self.folder / name
            if not path.is_file():
                raise InputError(f"snapshot file missing: {path}")
            if sha256(path) != digest:
                raise InputError(f"snapshot damaged: {path} is not what was written")

    def _prune(self, keep: int | None) -> None:
        """Removes old epochs; the two that the resume files need are the newest, so at least two stay."""
        if keep is None:
            return
        for epoch in self.epochs()[: -max(keep, 2)]:
            for path in [self.students_file(epoch), *self.teacher_files(epoch)]:
                path.unlink(missing_ok=True)


def _save(path: Path, content: dict) -> None:
    write_atomically(path, lambda file: torch.save(content, file))


def _model_state(path: Path) -> dict[str, Tensor]:
    content = read_tensors(path)
    if not isinstance(content.get("model"), dict):
        raise InputError(f"not a snapshot: {path}: expected a dictionary with the key 'model'; name another file")
    return require_named(content["model"], path)
