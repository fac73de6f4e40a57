"""Published scores, read to stand beside those of runs of the same data set, network, method and labelled ratio."""

import csv
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from furnace.config.completion import network_name
from furnace.errors import InputError, in_short
from furnace.report.groups import Group
from furnace.semi.cross_supervision import METHODS
from furnace.semi.ensemble import PREDICTORS

PUBLISHED = Path(__file__).with_name("published.csv")  # Scores as their authors state them; docs/report.md says how.
COLUMNS = ("data", "backbone", "method", "labeled_ratio", "predictor", "mean_IU", "source")
Key = tuple[str, str, str, str]  # data set, network, method and ratio, as published.csv writes them


@dataclass(frozen=True)
class Published:
    """One published score."""

    predictor: str  # what it is the score of, which may be another than the one that stands for a group
    mean_iou: str  # in percent, with the digits that its authors give
    source: str


def published_beside(groups: Sequence[Group]) -> list[list[Published]]:
    """Returns, for each group, the published scores of its data set, network, method and labelled ratio.

    The list is empty if no group has any.

    Raises:
        InputError: published.csv cannot be read.
    """
    scores = read_published()
    found = [scores.get(key, []) if (key := _key_of(group)) else [] for group in groups]
    return found if any(found) else []


def read_published() -> dict[Key, list[Published]]:
    """Reads published.csv.

    Raises:
        InputError: it is missing, no table with these columns, or a value in it is bad.
    """
    found: dict[Key, list[Published]] = {}
    try:
        with open(PUBLISHED, newline="", encoding="utf-8-sig") as file:
            table = csv.DictReader(file, strict=True)
            if set(table.fieldnames or ()) != set(COLUMNS):
                raise InputError(
                    f"{PUBLISHED}: expected the columns {','.join(COLUMNS)} with commas between them, "
                    f"found {','.join(table.fieldnames or ()) or 'none'}; mend the first line"
                )
            for entry in table:
                row = _checked(entry, table.line_num)
                score = Published(row["predictor"], row["mean_IU"], row["source"])
                found.setdefault((row["data"], row["backbone"], row["method"], row["labeled_ratio"]), []).append(score)
    except (OSError, UnicodeError, csv.Error) as error:
        raise InputError(
            f"{PUBLISHED}: expected a table of published scores in UTF-8, found {in_short(error)}; "
            "mend it, or install the program anew"
        ) from None
    return found


def _checked(entry: Mapping[str, str | None], line: int) -> dict[str, str]:
    """Returns a row of the table without spaces around its values; raises InputError if one of them is bad."""
    row = {name: (entry.get(name) or "").strip() for name in COLUMNS}
    named: dict[str, Sequence[str]] = {"method": tuple(METHODS), "predictor": tuple(PREDICTORS)}
    faults = [
        f"{name}: expected one of {', '.join(known)}, found {row[name]!r}"
        for name, known in named.items()
        if row[name] not in known
    ]
    if len(entry) != len(COLUMNS) or not all(row.values()):
        faults.insert(0, f"expected a value for each of {', '.join(COLUMNS)}, found too few or too many")
    if not row["labeled_ratio"].isdecimal():
        faults.append(f"labeled_ratio: expected the N of 1/N, found {row['labeled_ratio']!r}")
    if not _is_percent(row["mean_IU"]):
        faults.append(f"mean_IU: expected percent from 0 to 100, found {row['mean_IU']!r}")
    if faults:
        raise InputError(f"{PUBLISHED}: line {line}: {faults[0]}; mend it")
    return row


def _is_percent(text: str) -> bool:
    try:
        return 0 <= float(text) <= 100
    except ValueError:
        return False


def _key_of(group: Group) -> Key | None:
    """Returns what published scores fit a group by; None where its networks or its method are not the usual ones.

    What is not known of a group, because its runs have no folder, does not count against it.
    """
    settings = dict(group.key.settings)
    usual = {"width": "1", "atrous_rates": "None"}
    if method := METHODS.get(group.key.method):
        usual |= {"labellers": method.labellers, "view": method.view}
    # None: it was not set, or there was no such setting yet.
    if any(settings.get(name, "None") not in ("None", value) for name, value in usual.items()):
        return None
    return group.key.data, network_name(settings), group.key.method, group.key.ratio
