"""Tables for the terminal: how good pseudo-labels are, a line for each labeller of each snapshot, and by class."""

from collections.abc import Mapping, Sequence

from tests.bench.study.tally import SURE

# Columns of the CSV that are printed, with their headings.
PRINTED = {
    "epoch": "epoch",
    "labeller": "labeller ",
    "view": "view        ",
    "accuracy": "right",
    "mean_IoU": " mIoU",
    "confidence": "confidence",
    "calibration_error": "calibration",
    **{
        f"{word}_{sure}": f"{before}{sure}"
        for sure in SURE
        for word, before in (("share", ">="), ("accuracy", "right "))
    },
    "agreement": "agree",
    "accuracy_agreed": "right there",
    "accuracy_disagreed": "right elsewhere",
}

OF_CLASS = ("said", "recall", "IoU")


def header() -> str:
    """Returns the first line of the table."""
    return " ".join(PRINTED.values())


def line(row: Mapping[str, object]) -> str:
    """Returns a row of the CSV as a line of the table."""
    cells = []
    for name, heading in PRINTED.items():
        cell = f"{row[name]:.1f}" if isinstance(row[name], float) else str(row[name])
        cells.append(cell.ljust(len(heading)) if name in ("labeller", "view") else cell.rjust(len(heading)))
    return " ".join(cells)


def class_table(rows: Sequence[Mapping[str, object]], classes: Sequence[str]) -> str:
    """Returns for each class how often it occurs and, for each labeller of one snapshot, what becomes of it."""
    wide = max(map(len, ("class", *classes)))
    titles = [f"{row['labeller']} {row['view']}" for row in rows]
    lines = [
        " | ".join([f"{'class':{wide}} occurs", *(f"{title:20}" for title in titles)]),
        " | ".join([" " * (wide + 7), *(" ".join(f"{what:>6}" for what in OF_CLASS) for _ in rows)]),
    ]
    for name in classes:
        cells = [" ".join(f"{row[f'{what}_{name}']:6.1f}" for what in OF_CLASS) for row in rows]
        lines.append(" | ".join([f"{name:{wide}} {rows[0][f'occurs_{name}']:6.1f}", *cells]))
    return "\n".join(lines)
