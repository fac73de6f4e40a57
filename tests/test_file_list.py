"""Lists of any encoding accident and any length read the same, and the order of an epoch depends on its place alone."""

import hashlib
import tracemalloc
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from furnace.data.file_list import FileList, Shuffled
from furnace.errors import InputError

BOM = b"\xef\xbb\xbf"


def entries(path: Path, content: bytes) -> list[str]:
    path.write_bytes(content)
    files = FileList(path)
    return [files[index] for index in range(len(files))]


@pytest.mark.parametrize(
    ("content", "expected"),
    [
        (b"a.jpg\nb.jpg\n", ["a.jpg", "b.jpg"]),
        (b"a.jpg\nb.jpg", ["a.jpg", "b.jpg"]),  # no final newline
        (b"a.jpg", ["a.jpg"]),
        (b"\n\na.jpg\n\n  \n\t\nb.jpg\n\n", ["a.jpg", "b.jpg"]),  # blank lines anywhere
        (b"a.jpg\r\nb.jpg\r\n\r\n", ["a.jpg", "b.jpg"]),
        (b"a.jpg\r\nb.jpg", ["a.jpg", "b.jpg"]),
        (BOM + b"a.jpg\nb.jpg\n", ["a.jpg", "b.jpg"]),
        (BOM + b"\r\na.jpg\r\n", ["a.jpg"]),
        (b"  a.jpg  \n", ["a.jpg"]),
        (b"my photo 1.jpg\n", ["my photo 1.jpg"]),
        (b"/a.jpg\t/b.png\n", ["/a.jpg\t/b.png"]),
        ("straße/圖片 ü.jpg\nя.png\n".encode(), ["straße/圖片 ü.jpg", "я.png"]),
    ],
)
def test_entries(tmp_path: Path, content: bytes, expected: list[str]) -> None:
    assert entries(tmp_path / "list.txt", content) == expected


NAMES = st.lists(st.text(st.characters(codec="utf-8", exclude_categories=["C", "Z"]), min_size=1), min_size=1)


@given(NAMES, st.booleans())
def test_any_names_come_back(tmp_path_factory: pytest.TempPathFactory, names: list[str], windows: bool) -> None:
    newline = "\r\n" if windows else "\n"
    path = tmp_path_factory.mktemp("list") / "list.txt"
    assert entries(path, newline.join(names).encode()) == names


def test_a_long_list_is_read_by_number_in_little_memory(tmp_path: Path) -> None:
    path = tmp_path / "long.txt"
    count = 200_000
    path.write_text("".join(f"/images/train/frame_{number:07d}.jpg\n" for number in range(count)))
    tracemalloc.start()
    files = FileList(path)
    kept, _ = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert len(files) == count
    for number in (0, 1, 77_777, count - 1):
        assert files[number] == f"/images/train/frame_{number:07d}.jpg"
    with pytest.raises(IndexError):
        files[count]
    assert kept < path.stat().st_size + 20 * count  # the bytes and two numbers a line; strings would be thrice that


def test_sha256_is_that_of_the_file(tmp_path: Path) -> None:
    path = tmp_path / "list.txt"
    path.write_bytes(BOM + b"a.jpg\r\n")
    assert FileList(path).sha256() == hashlib.sha256(path.read_bytes()).hexdigest()


@pytest.mark.parametrize("content", [b"", b"\n", b"\n \r\n\t\n", BOM, BOM + b"\r\n"])
def test_an_empty_list_is_refused(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "empty.txt"
    path.write_bytes(content)
    with pytest.raises(InputError, match=r"list is empty: .*empty\.txt.*expected one image a line"):
        FileList(path)


def test_a_missing_list_is_named(tmp_path: Path) -> None:
    for path in (tmp_path / "absent.txt", tmp_path):  # a folder is no list either
        with pytest.raises(InputError, match=f"list not found: {path}: expected"):
            FileList(path)


@pytest.mark.parametrize("content", ["a.jpg\nü.jpg\n".encode("latin-1"), "a.jpg\nb.jpg\n".encode("utf-16")])
def test_other_encodings_are_refused_with_the_entry(tmp_path: Path, content: bytes) -> None:
    with pytest.raises(InputError, match=r"list\.txt: entry \d+ is not UTF-8 text: .*save the list as UTF-8"):
        entries(tmp_path / "list.txt", content)


def test_every_pass_of_every_epoch_is_another_permutation() -> None:
    order = Shuffled(17, 3, 1)
    passes = {tuple(order(epoch, 17 * turn + place) for place in range(17)) for epoch in range(4) for turn in range(3)}
    assert len(passes) == 12
    assert all(sorted(found) == list(range(17)) for found in passes)


def test_order_does_not_depend_on_what_was_read_before() -> None:
    places = [(epoch, position) for epoch in range(3) for position in range(25)]
    in_order = Shuffled(10, 5, 2)
    expected = {place: in_order(*place) for place in places}
    jumping = Shuffled(10, 5, 2)
    for number in np.random.default_rng(0).permutation(len(places)):
        assert jumping(*places[number]) == expected[places[number]]
    assert all(Shuffled(10, 5, 2)(*place) == expected[place] for place in places[::7])


def test_order_depends_on_every_part_of_the_seed() -> None:
    orders = {tuple(Shuffled(30, *seed)(0, place) for place in range(30)) for seed in ((0, 0), (0, 1), (1, 0), (1, 1))}
    assert len(orders) == 4


def test_every_image_comes_first_about_as_often_as_any_other() -> None:
    order = Shuffled(5, 0)
    first = np.bincount([order(epoch, 0) for epoch in range(1000)], minlength=5)
    assert first.min() > 150 and first.max() < 250


def test_one_image_is_repeated() -> None:
    assert [Shuffled(1, 0)(0, place) for place in range(3)] == [0, 0, 0]
