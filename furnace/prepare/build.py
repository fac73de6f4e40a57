"""Makes a data set's folder from a plan. It appears whole or not at all, and an interrupted try can be continued."""

import os
import shutil
from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any, Self

from furnace.data.declaration import write_declaration
from furnace.data.prepared import COPY, DECODED, LINK, RECORD, request_of, source_of
from furnace.engine.files import json_text, sha256, write_lines, write_text, writing
from furnace.errors import InputError, in_short, say_note
from furnace.prepare.archives import changed, unpack_tar
from furnace.prepare.decoded import require_room, with_decoded_names
from furnace.prepare.lists import write_splits
from furnace.prepare.parallel import Progress, map_numbers
from furnace.prepare.placing import carries, place
from furnace.prepare.plan import Plan, require_possible, usual_ratios
from furnace.prepare.seen import Placed, Seen
from furnace.prepare.sources import require_source

UNPACKED = ".unpacked"  # holds the files of compressed tar files until the folder is complete
MEANING = ".meaning"  # what the masks mean that are written so far
Unpacking = AbstractContextManager[Callable[[int], None]]  # shows how far a file is read


class Building:
    """A data set's folder, FOLDER, while it is being made.

    Everything goes to FOLDER.partial, which is renamed to FOLDER when nothing is left to do. As a context manager, a
    building removes FOLDER.partial again if an error came before anything but the record was written.

    Args:
        folder: FOLDER, which must be new or empty. If it is a link, the folder that it leads to is made.
        sources: files and folders that are only read.
        request: what was asked for, as JSON holds it. Only the same request goes on with what is there.
        state: what the first source is like, as JSON holds it; None if nobody asks whether it has changed.

    Raises:
        InputError: a source is missing, FOLDER lies in one, is a mount point or holds something else, FOLDER.partial
            was begun for another request, or FOLDER is complete, but its source was changed since.
    """

    def __init__(
        self, folder: Path, sources: Sequence[Path], request: Mapping[str, Any], state: Mapping[str, Any] | None = None
    ) -> None:
        self.folder, self.request, self.state = Path(os.path.realpath(folder)), dict(request), state
        for source in sources:
            require_source(source)
            if source.is_dir() and self.folder.is_relative_to(source.resolve()):
                raise InputError(
                    f"{folder} lies in the source {source}, which is only read; name a folder outside of it"
                )
        with writing(folder):
            if self.folder.is_mount():
                raise InputError(f"{folder} is a mount point: expected a folder that can be renamed; name one below it")
            self.unfinished = self.folder.with_name(f"{self.folder.name}.partial")
            if self._is_occupied() and not self.is_complete():
                raise InputError(
                    f"{folder} is there already: expected a new folder, found something else or another request"
                    f"{self._differences(self.folder)}; name another, or move it away"
                )
            if self.is_complete() and state is not None and (before := source_of(self.folder) or state) != state:
                raise InputError(
                    f"{sources[0]} holds other images or masks than when {folder} was made "
                    f"({state['files']:,} files now, {before['files']:,} then); "
                    f"remove {folder} or name a new folder to take them"
                )
            is_begun = self.unfinished.exists() and any(self.unfinished.iterdir())  # a full disk holds no record
            if is_begun and request_of(self.unfinished) != self.request:
                raise InputError(
                    f"{self.unfinished} was begun for another request{self._differences(self.unfinished)}; "
                    "remove it to start anew, or ask for the same again"
                )

    def is_complete(self) -> bool:
        """Returns whether the same request was carried out before."""
        return request_of(self.folder) == self.request

    def _differences(self, folder: Path) -> str:
        """Returns, for an error, by which options the request of a folder differs; nothing if that is unknown."""
        other = request_of(folder)
        if not isinstance(other, dict):
            return ""
        names = {name for name in {**other, **self.request} if other.get(name) != self.request.get(name)}
        options = sorted({f"--{name.removesuffix('_sha256').replace('_', '-')}" for name in names})
        return f" (with another {', '.join(options).replace('--source', 'SOURCE')})" if options else ""

    def __enter__(self) -> Self:
        write_text(self.unfinished / RECORD, json_text({"request": self.request}))
        return self

    def __exit__(self, *_: object) -> None:
        if self.unfinished.is_dir() and {path.name for path in self.unfinished.iterdir()} <= {RECORD, MEANING}:
            shutil.rmtree(self.unfinished)

    def unpack(self, location: Path, progress: Callable[[Path], Unpacking]) -> Path:
        """Unpacks a compressed tar file, unless an earlier try did so with it as it is, and returns its files' folder.

        Args:
            location: the tar file.
            progress: opens a progress bar for it: a context whose function takes the number of bytes that are read.

        Raises:
            InputError: the file is damaged, or it cannot be written.
        """
        location = location.resolve()
        # The whole path, because two tar files in different folders may have one name.
        folder = self.unfinished / UNPACKED / location.relative_to(location.anchor)
        time = changed(location)
        if not folder.is_dir() or not carries(folder, time):
            growing = folder.with_name(f"{location.name}.growing")
            for old in (folder, growing):
                shutil.rmtree(old, ignore_errors=True)
            try:
                with writing(growing):
                    growing.mkdir(parents=True)
                with progress(location) as hear:
                    unpack_tar(location, growing, hear)
                with writing(folder):
                    os.utime(growing, ns=(time, time))
                    os.replace(growing, folder)
            except InputError:
                shutil.rmtree(self.unfinished / UNPACKED, ignore_errors=True)
                raise
        return folder

    def finish(
        self, plan: Plan, files: str, ratios: Sequence[int] | None, seed: int, processes: int, progress: Progress
    ) -> tuple[dict[str, dict[str, Any]], list[str]]:
        """Places images, writes masks, lists and splits, and lets FOLDER appear.

        Args:
            files: what becomes of images, one of `data.prepared.FILES`. Those from an archive, or on a file system that
                has no links, are copied where they should be linked.
            ratios: labelled and unlabelled lists are drawn for these, with `seed`; None for the usual ones.
            processes: how many processes place images and write masks.
            progress: shows how many images are done.

        Returns:
            For each list, by its path below FOLDER, the number of its `entries` and its `sha256`. Further warnings.

        Raises:
            InputError: the plan is not possible, decoded images have no room, an earlier try was made with other
                classes, an image or mask cannot be read, masks do not lie on their images, or FOLDER.partial cannot be
                written. In all cases but the first three FOLDER.partial stays, and the same request goes on from there.
        """
        require_possible(plan)
        if files == DECODED:
            plan = with_decoded_names(plan)
            require_room(plan.pairs, self.unfinished, processes, progress)
        self._require_same_meaning(plan.meaning)
        pairs = plan.pairs
        for name in {str(Path(name).parent) for pair in pairs for name in (pair.image_to, pair.mask_to) if name}:
            with writing(self.unfinished / name):
                (self.unfinished / name).mkdir(parents=True, exist_ok=True)

        if files == LINK and not (any(pair.image.path() for pair in pairs) and _can_link(self.unfinished)):
            files = COPY

        def placed_at(number: int) -> Placed:
            return place(pairs[number], self.unfinished, plan, files)

        seen = Seen(plan)
        for number, placed in enumerate(progress(map_numbers(placed_at, len(pairs), processes), total=len(pairs))):
            seen.add(pairs[number], placed)
        seen.require_fit()
        wanted = usual_ratios(bool(plan.extra)) if ratios is None else ratios
        lists = _write_lists(plan, self.unfinished, [ratio for ratio in wanted if len(plan.train) >= ratio], seed)
        warnings = [*seen.warnings(), *_not_drawn(plan, ratios or ())]
        record = {"request": self.request, "lists": lists, "warnings": [*plan.warnings, *warnings]}
        if self.state is not None:
            record["source"] = self.state
        write_text(self.unfinished / RECORD, json_text(record))
        shutil.rmtree(self.unfinished / UNPACKED, ignore_errors=True)
        with writing(self.folder):
            (self.unfinished / MEANING).unlink()
            if self.folder.is_dir():
                self.folder.rmdir()  # it is empty, as __init__ made sure
            os.replace(self.unfinished, self.folder)
        return lists, warnings

    def _require_same_meaning(self, meaning: str) -> None:
        """Notes what masks mean while they are written, because an archive may hold another classes file next time."""
        path = self.unfinished / MEANING
        if path.is_file() and path.read_text(encoding="utf-8") != meaning:
            raise InputError(
                f"{self.unfinished} was begun with other classes: expected those of its masks; remove it to start anew"
            )
        write_text(path, meaning)

    def _is_occupied(self) -> bool:
        return os.path.lexists(self.folder) and (not self.folder.is_dir() or any(self.folder.iterdir()))


def _can_link(folder: Path) -> bool:
    """Returns whether links to files can be made in `folder`, which holds the record; says it where they cannot."""
    probe = folder / ".link"
    try:
        probe.unlink(missing_ok=True)
        probe.symlink_to((folder / RECORD).resolve())
        probe.unlink()
        return True
    except OSError as error:
        say_note(
            f"no links can be made in {folder.parent} ({in_short(error)}): images are copied, as with --files copy"
        )
        return False


def _not_drawn(plan: Plan, ratios: Sequence[int]) -> list[str]:
    """Returns a warning for ratios that were asked for and leave no labelled image."""
    few = [f"1/{ratio}" for ratio in ratios if len(plan.train) < ratio]
    return [f"not drawn: {', '.join(few)} of {len(plan.train)} training images with masks"] if few else []


def _write_lists(plan: Plan, folder: Path, ratios: Sequence[int], seed: int) -> dict[str, dict[str, Any]]:
    """Writes the lists of a plan, a declaration if it needs one, and the splits; returns what `finish` returns."""
    dataset, written = plan.dataset, []
    for name, pairs in (
        (dataset.train_list, plan.train),
        (dataset.val_list, plan.val),
        (dataset.extra_list, plan.extra),
    ):
        if pairs:
            lines = ("\t".join(f"/{path}" for path in (pair.image_to, pair.mask_to) if path) for pair in pairs)
            write_lines(folder / name, lines)
            written.append((folder / name, len(pairs), sha256(folder / name)))
    if plan.declares_itself:
        write_declaration(dataset, folder)
    written += write_splits(dataset, folder, folder, ratios, seed, first=(), replace=True)
    return {
        path.relative_to(folder).as_posix(): {"entries": count, "sha256": digest} for path, count, digest in written
    }
