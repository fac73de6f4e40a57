"""The pictures that an evaluation left of a few validation images (furnace/evaluation/gallery.py)."""

import json
import re
from dataclasses import dataclass
from pathlib import Path

from furnace.report.runs import Run

EPOCH_FOLDER = re.compile(r"epoch(\d{1,9})")


@dataclass(frozen=True)
class Shown:
    """One validation image of the gallery: its name, and captions with the files of its pictures."""

    name: str
    disagreement: float | None  # the part of its pixels that the networks do not agree on
    cells: tuple[tuple[str, Path], ...]


def read_gallery(run: Run) -> tuple[int, list[Shown]]:
    """The pictures of the last evaluated epoch that has some, and that epoch; damaged ones are left out and noted."""
    folder = run.path / "gallery"
    epochs = [int(match[1]) for path in folder.glob("epoch*") if (match := EPOCH_FOLDER.fullmatch(path.name))]
    if not epochs:
        return 0, []
    epoch = max(epochs)
    shown = []
    for path in sorted((folder / f"epoch{epoch}").glob("*.json"), key=lambda path: (len(path.name), path.name)):
        try:
            record = json.loads(path.read_text(encoding="utf-8"))
            cells = tuple((str(cell["caption"]), path.parent / Path(cell["file"]).name) for cell in record["cells"])
            part = record.get("disagreement")
            shown.append(Shown(str(record["name"]), part if isinstance(part, float) else None, cells))
        except (OSError, ValueError, TypeError, KeyError, AttributeError, RecursionError):
            run.problems.append(f"damaged file: {path.relative_to(run.path)}: evaluate again")
    return epoch, shown
