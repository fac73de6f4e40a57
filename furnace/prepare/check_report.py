"""What a check of a data set found: as a table for people, and as JSON for programs."""

from pathlib import Path
from typing import Any

import pandas as pd

from furnace.prepare.check import Report

SHOWN = 20  # problems that the table shows
IGNORED = "(ignored)"  # the row of pixels without a class


def as_text(report: Report) -> str:
    """Returns a text that shows the lists, the share of each class in percent of all pixels, and the problems."""
    lines = [
        f"{report.dataset.name}: {report.images:,} images, {report.masks:,} masks in {report.folder}",
        "",
        *(f"{entry.entries:>10,}  sha256 {entry.sha256[:12]}  {name}" for name, entry in report.lists.items()),
        "",
    ]
    shares = _shares(report)
    if len(shares.columns):
        lines += ["share of pixels in percent, by list", shares.to_string(float_format="{:.2f}".format), ""]
    for name in shares.columns:
        if not report.lists[name].is_read:
            continue
        absent = [label for label in report.dataset.classes if shares[name][label] == 0]
        asked = [label for label in absent if name != "val" and "val" in shares and shares["val"][label] > 0]
        if absent:
            untaught = f"; val shows {', '.join(asked)}, which cannot be learned from it" if asked else ""
            lines.append(f"note: {name} shows no {', '.join(absent)}{untaught}")
    roles = {name.split()[0] for name in report.lists}
    if absent := [role for role in ("labeled", "unlabeled", "val") if role not in roles]:
        lines.append(f"note: there is no list {' and none '.join(absent)}, which training or evaluation asks for")
    if report.not_read:
        names = ", ".join(Path(path).name for path in report.not_read[:SHOWN])
        lines.append(f"note: {len(report.not_read)} lists are not read, because no list is called so: {names}")
    if report.turned:
        lines.append(
            f"note: {len(report.turned):,} images are turned or mirrored by their EXIF tag, the first is "
            f"{report.turned[0]}: their masks must be drawn on what viewers show"
        )
    lines += [f"{problem.kind}: {problem.file}: {problem.message}" for problem in report.problems[:SHOWN]]
    if len(report.problems) > SHOWN:
        lines.append(f"... and {len(report.problems) - SHOWN:,} more; --json FILE has all")
    lines.append(f"{len(report.problems):,} problems found" if report.problems else "no problem found")
    return "\n".join(lines)


def as_json(report: Report) -> dict[str, Any]:
    """Returns everything that was found, as plain values that JSON can hold."""
    return {
        "dataset": report.dataset.name,
        "folder": str(report.folder),
        "classes": list(report.dataset.classes),
        "images": report.images,
        "masks": report.masks,
        "lists": {
            name: {
                "path": entry.path,
                "entries": entry.entries,
                "sha256": entry.sha256,
                "pixels": None
                if entry.pixels is None
                else dict(zip(_rows(report), entry.pixels.tolist(), strict=True)),
            }
            for name, entry in report.lists.items()
        },
        "lists_not_read": report.not_read,
        "turned_by_exif": report.turned,
        "problems": [problem._asdict() for problem in report.problems],
    }


def _rows(report: Report) -> list[str]:
    """Returns what the N + 1 counts of a `ListReport` stand for."""
    return [*report.dataset.classes, IGNORED]


def _shares(report: Report) -> pd.DataFrame:
    """Returns percent of the pixels, with a row for each class and a column for each list that has masks."""
    columns = {
        name: 100 * entry.pixels / max(1, entry.pixels.sum())
        for name, entry in report.lists.items()
        if entry.pixels is not None
    }
    return pd.DataFrame(columns, index=_rows(report))
