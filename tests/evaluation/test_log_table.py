"""log_df.csv: many writers, readers at any moment, and what spreadsheet programs make of it."""

import io
import multiprocessing
from pathlib import Path

import pandas as pd
import pytest

from furnace.errors import InputError
from furnace.evaluation.log_table import PUBLISHED_COLUMNS, append_rows
from furnace.semi.ensemble import PREDICTORS


def row(number: int, ensemble: str = "v3") -> dict[str, str]:
    return {
        "log_file": "log",
        "folder": "run",
        "model_file": f"model_epoch{number}.pth",
        "mean_IU": "12.345",
        "mean_IU_no_back": "1",
        "mean_pixel_ACC": "2",
        "Ensemble": ensemble,
        "epoch": str(number),
        "method": "ema",
        "labeled_ratio": "8",
        "backbone": "resnet18_v1c",
        "scales": "1",
        "flip": "0",
        "seed": "0",
        "evaluated_at": "now",
    }


def test_table_starts_with_the_published_columns_and_replaces_rows(tmp_path: Path) -> None:
    path = tmp_path / "log_df.csv"
    append_rows(path, [row(1), row(2)])
    append_rows(path, [{**row(1), "mean_IU": "50.000"}])
    table = pd.read_csv(path)
    assert tuple(table.columns[:7]) == PUBLISHED_COLUMNS
    assert dict(zip(table["model_file"], table["mean_IU"], strict=True)) == {
        "model_epoch2.pth": 12.345,
        "model_epoch1.pth": 50.0,
    }


def test_a_link_to_a_table_that_several_share_stays_one(tmp_path: Path) -> None:
    shared, link = tmp_path / "shared/log_df.csv", tmp_path / "log_df.csv"
    shared.parent.mkdir()
    link.symlink_to("shared/log_df.csv")
    for number in (1, 2):
        append_rows(link, [row(number)])
    assert link.is_symlink() and len(pd.read_csv(shared)) == 2
    assert [path.name for path in tmp_path.iterdir() if path.name.endswith(".lock")] == []  # others lock the table


def test_old_rows_stay_even_where_they_are_alike(tmp_path: Path) -> None:
    path = tmp_path / "log_df.csv"
    published = "log,expA,model_epoch1.pth,53.350%,53.101%,69.500%,v2\n"
    path.write_text(",".join(PUBLISHED_COLUMNS) + "\n" + 2 * published)
    append_rows(path, [row(1), {**row(1), "seed": "1"}])
    assert len(pd.read_csv(path)) == 4


def test_a_published_table_goes_on(tmp_path: Path) -> None:
    path = tmp_path / "log_df.csv"
    path.write_text(",".join(PUBLISHED_COLUMNS) + ",note\nlog,expA,model_epoch1.pth,53.350%,53.101%,69.500%,v2,mine\n")
    append_rows(path, [row(1)])
    table = pd.read_csv(path)
    assert table["mean_IU"].tolist() == [53.35, 12.345] and table["note"][0] == "mine"


def evaluate(path: Path, evaluation: int) -> None:
    """What a process of an evaluation does, ten times: seven rows of its own, and the whole table read."""
    for repetition in range(10):
        append_rows(path, [{**row(evaluation, code), "scales": str(repetition)} for code in PREDICTORS])


@pytest.mark.slow
def test_eight_evaluations_at_once_lose_no_row_and_readers_see_whole_tables(tmp_path: Path) -> None:
    path = tmp_path / "log_df.csv"
    append_rows(path, [row(99)])
    processes = [multiprocessing.get_context("fork").Process(target=evaluate, args=(path, n)) for n in range(8)]
    for process in processes:
        process.start()
    lengths = []
    while any(process.is_alive() for process in processes):
        content = path.read_text()
        assert content.endswith("\n") and content.count("\n") > 1
        lengths.append(len(pd.read_csv(io.StringIO(content))))
    for process in processes:
        process.join()
        assert process.exitcode == 0
    assert lengths == sorted(lengths) and all(length % 7 == 1 for length in lengths)  # an evaluation's rows together
    table = pd.read_csv(path)
    assert len(table) == 1 + 8 * 10 * 7 and not table.duplicated().any()
    assert [file.name for file in tmp_path.iterdir() if file.name.endswith(".tmp")] == []


def saved_by_a_spreadsheet(path: Path, separator: str, decimal: str) -> None:
    """Another order, columns and rows of the user's and of nobody's, CRLF and a byte order mark."""
    table = pd.read_csv(path, dtype=str, keep_default_na=False)
    table.insert(0, "my note", ["best", "äöü; a, b"])
    table = table[[*table.columns[::-1]]]
    for column in ("mean_IU", "IoU_background", "scales"):
        table[column] = table[column].str.replace(".", decimal)
    lines = table.to_csv(index=False, sep=separator, lineterminator="\r\n").splitlines()
    filled = [line + 2 * separator for line in lines] + [(len(table.columns) + 1) * separator]
    path.write_bytes(b"\xef\xbb\xbf" + "\r\n".join([*filled, ""]).encode())


@pytest.mark.parametrize(("separator", "decimal"), [(",", "."), (";", ","), ("\t", ",")])
def test_what_a_spreadsheet_saved_is_understood(tmp_path: Path, separator: str, decimal: str) -> None:
    path = tmp_path / "log_df.csv"
    half = {"scales": "0.5"}
    append_rows(path, [{**row(number), **half, "IoU_background": "81.250"} for number in (1, 2)])
    saved_by_a_spreadsheet(path, separator, decimal)
    append_rows(path, [{**row(2), **half, "mean_IU": "50.000", "IoU_background": "82.5"}, row(3)])
    content = path.read_bytes()
    assert not content.startswith(b"\xef\xbb\xbf") and b"\r" not in content
    table = pd.read_csv(path)
    assert tuple(table.columns[:7]) == PUBLISHED_COLUMNS and not [name for name in table if name.startswith("Unnamed")]
    assert table["model_file"].tolist() == [f"model_epoch{number}.pth" for number in (1, 2, 3)]
    assert table["mean_IU"].tolist() == [12.345, 50, 12.345] and table["IoU_background"].tolist()[:2] == [81.25, 82.5]
    assert table["my note"].fillna("").tolist() == ["best", "", ""]


@pytest.mark.parametrize(
    ("header", "line", "fragment"),
    [
        ("", ",", "a row is longer"),  # pandas by itself would take the first column for an index
        ("", ",mine", "a row is longer"),
        (", mean_IU ", ",5", "a column twice"),
    ],
)
def test_cells_never_move_to_other_columns(tmp_path: Path, header: str, line: str, fragment: str) -> None:
    path = tmp_path / "log_df.csv"
    path.write_text(f"{','.join(PUBLISHED_COLUMNS)}{header}\nlog,expA,model_epoch1.pth,53.35,53.1,69.5,v2{line}\n")
    before = path.read_bytes()
    with pytest.raises(InputError, match=fragment):
        append_rows(path, [row(1)])
    assert path.read_bytes() == before


def test_unknown_columns_are_kept(tmp_path: Path) -> None:
    path = tmp_path / "log_df.csv"
    append_rows(path, [row(1)])
    table = pd.read_csv(path, dtype=str).assign(**{"paper table": "3", "checked by": "me, twice"})
    table.to_csv(path, index=False)
    append_rows(path, [row(2)])
    kept = pd.read_csv(path, dtype=str, keep_default_na=False)
    assert kept["checked by"].tolist() == ["me, twice", ""] and kept["paper table"].tolist() == ["3", ""]


def test_a_table_that_is_none_is_refused_and_kept(tmp_path: Path) -> None:
    path = tmp_path / "log_df.csv"
    path.write_text("a,b\n1,2\n")
    with pytest.raises(InputError, match="lacks the column log_file"):
        append_rows(path, [row(1)])
    assert path.read_text() == "a,b\n1,2\n"
    path.write_text("log_file,Straße\n", encoding="utf-16")  # Excel's "Unicode text"
    with pytest.raises(InputError, match="no UTF-8; save it as such"):
        append_rows(path, [row(1)])
