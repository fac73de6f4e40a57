"""Lists of any encoding accident and any length read the same, and the order of an epoch depends on its place alone."""

import hashlib
import tracemalloc
from functools import lru_cache
from itertools import permutations
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from furnace.data import file_list
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


LINES = st.lists(st.sampled_from([b"", b" ", b"\t\r", b"a", b" b.jpg ", "ü".encode(), b"long name.png"]))


@given(LINES, st.booleans(), st.booleans(), st.integers(1, 30))
def test_any_lines_equal_longhand_wherever_chunks_end(
    tmp_path_factory: pytest.TempPathFactory, lines: list[bytes], bom: bool, newline: bool, chunk: int
) -> None:
    content = BOM * bom + b"\n".join(lines) + b"\n" * newline
    expected = [line.strip() for line in content.decode("utf-8-sig").split("\n") if line.strip()]
    path = tmp_path_factory.mktemp("list") / "list.txt"
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(file_list, "CHUNK", chunk)
        if expected:
            assert entries(path, content) == expected
        else:
            with pytest.raises(InputError, match="list is empty"):
                entries(path, content)


@pytest.mark.parametrize("size", [255, 256, 257, 65_535, 65_536, 65_537])
def test_lists_about_as_long_as_an_integer_type(tmp_path: Path, size: int) -> None:
    names = [f"{number:04d}" for number in range(size // 5)]
    content = "\n".join(names).encode().ljust(size, b"x")
    found = entries(tmp_path / "list.txt", content)
    assert found[:-1] == names[:-1] and found[-1].startswith(names[-1])


@pytest.mark.parametrize("name", ["/images/train/frame_{:07d}.jpg", "{:07d}"])
def test_a_long_list_is_read_by_number_in_less_than_twice_its_size(tmp_path: Path, name: str) -> None:
    path = tmp_path / "long.txt"
    count = 1_500_000
    path.write_text("".join(name.format(number) + "\n" for number in range(count)))
    tracemalloc.start()
    files = FileList(path)
    kept, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert len(files) == count
    for number in (0, 1, 77_777, count - 1):
        assert files[number] == name.format(number)
    with pytest.raises(IndexError):
        files[count]
    assert kept < path.stat().st_size + 4 * count + 10_000  # the bytes and a number an entry
    assert peak < 2 * path.stat().st_size


def test_an_open_list_does_not_change_with_its_file(tmp_path: Path) -> None:
    path = tmp_path / "list.txt"
    path.write_text("a.jpg\nb.jpg\n")
    files = FileList(path)
    path.write_text("c")
    assert [files[0], files[1]] == ["a.jpg", "b.jpg"]
    assert files.sha256() == hashlib.sha256(b"a.jpg\nb.jpg\n").hexdigest()


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
    files = FileList(path, may_be_empty=True)
    assert len(files) == 0 and list(files) == [] and files.sha256() == hashlib.sha256(content).hexdigest()
    with pytest.raises(IndexError):
        files[0]


def test_a_missing_list_is_named(tmp_path: Path) -> None:
    for path in (tmp_path / "absent.txt", tmp_path):  # a folder is no list either
        with pytest.raises(InputError, match=f"list not found: {path}: expected"):
            FileList(path)


def test_a_folder_in_the_place_of_a_list_is_said(tmp_path: Path) -> None:
    (tmp_path / "labeled_1-4.txt").mkdir()
    with pytest.raises(
        InputError, match=r"labeled_1-4\.txt: expected a text file with one image a line, found a folder;"
    ):
        FileList(tmp_path / "labeled_1-4.txt")


def test_a_missing_list_of_nearly_the_same_name_is_named(tmp_path: Path) -> None:
    (tmp_path / "labelled_1-8.txt").write_text("a.jpg\n")
    with pytest.raises(InputError, match=r"labeled_1-8\.txt \(perhaps labelled_1-8\.txt\): expected"):
        FileList(tmp_path / "labeled_1-8.txt")


def test_a_list_that_must_not_be_read_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "list.txt"
    path.write_text("a.jpg\n")

    def read_bytes(_: Path) -> bytes:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(Path, "read_bytes", read_bytes)
    with pytest.raises(InputError, match=rf"list not readable: {path}: Permission denied; "):
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


def test_one_image_is_repeated() -> None:
    assert [Shuffled(1, 0)(0, place) for place in range(3)] == [0, 0, 0]


def test_a_very_long_order_takes_little_memory() -> None:
    tracemalloc.start()
    order = Shuffled(10_000_000, 0)
    seen = {order(epoch, position) for epoch in range(3) for position in range(100)}
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert len(seen) > 290 and all(0 <= entry < 10_000_000 for entry in seen)
    assert peak < 4_000_000  # one bit an entry would be a third of it, one pointer 80 MB


@pytest.mark.parametrize("length", [*range(1, 301), 1000, 1023, 1024, 1025, 4097, 65_536, 99_856, 99_857])
def test_a_pass_holds_every_entry_once(length: int) -> None:
    order = Shuffled(length, 7, length)
    assert sorted(order(2, 3 * length + place) for place in range(length)) == list(range(length))


def longhand_order(length: int, seed: tuple[int, ...], epoch: int, turn: int) -> list[int]:
    """The same permutation, all of it at once: eight rounds on every number of the square, then the walks."""
    side = next(side for side in range(16, 10**6) if side**2 >= length)
    functions = np.random.default_rng([*seed, epoch, turn]).integers(side, size=(8, side))
    numbers = np.arange(side**2)
    left, right = numbers // side, numbers % side
    for function in functions:
        left, right = right, (left + function[right]) % side
    after = left * side + right
    places = after[:length]
    while (beyond := places >= length).any():
        places = np.where(beyond, after[places], places)
    return places.tolist()


@pytest.mark.parametrize("length", [1, 2, 17, 255, 256, 257, 662, 10_582])
def test_order_equals_longhand(length: int) -> None:
    order = Shuffled(length, 5, 4, 1)
    for epoch, turn in ((0, 0), (3, 0), (3, 2)):
        found = [order(epoch, turn * length + place) for place in range(length)]
        assert found == longhand_order(length, (5, 4, 1), epoch, turn)


class WrittenDown:
    """What Shuffled stands for: a permutation of NumPy's for every pass. The same bounds must hold for both."""

    def __init__(self, length: int, *seed: int) -> None:
        self.length, self.seed = length, seed
        self.kept = lru_cache(maxsize=2)(lambda *key: np.random.default_rng([*seed, *key]).permutation(length))

    def __call__(self, epoch: int, position: int) -> int:
        turn, place = divmod(position, self.length)
        return int(self.kept(epoch, turn)[place])


def surprise(counts: np.ndarray) -> float:
    """How many deviations chi-square lies above what equally likely cells give; about -4 to 4 is chance."""
    counts = counts.ravel()
    expected = counts.sum() / counts.size
    assert expected >= 5  # else chi-square is not near its limit
    freedom = counts.size - 1
    return (((counts - expected) ** 2 / expected).sum() - freedom) / np.sqrt(2 * freedom)


def joint(first: list[int], second: list[int], length: int, cells: int) -> np.ndarray:
    """Counts (cells, cells) of where two entries that belong together lie in the list."""
    counts = np.zeros((cells, cells))
    np.add.at(counts, (np.array(first) * cells // length, np.array(second) * cells // length), 1)
    return counts


ORDERS = pytest.mark.parametrize("kind", [Shuffled, WrittenDown])


@ORDERS
@pytest.mark.parametrize("length", [3, 4, 5])
def test_every_order_of_a_short_list_comes_equally_often(kind: type, length: int) -> None:
    order = kind(length, 11)
    number = {found: place for place, found in enumerate(permutations(range(length)))}
    counts = np.zeros(len(number))
    for epoch in range(100 * len(number)):
        counts[number[tuple(order(epoch, place) for place in range(length))]] += 1
    assert abs(surprise(counts)) < 4


@ORDERS
@pytest.mark.parametrize("length", [7, 45, 256, 257])
def test_any_entry_comes_at_any_place_equally_often(kind: type, length: int) -> None:
    order, epochs = kind(length, 12), 2000
    places = np.arange(length) if length < 50 else np.array([0, 1, 100, length - 1])
    counts = np.zeros((len(places), length))
    for epoch in range(epochs):
        for row, place in enumerate(places):
            counts[row, order(epoch, int(place))] += 1
    # An entry has one place in each epoch, so that a whole table of places has fewer free cells: each row by itself.
    assert max(abs(surprise(row)) for row in counts) < 4.5


@ORDERS
@pytest.mark.parametrize("length", [1000, 10_582, 300_000])
def test_neighbours_epochs_and_seeds_have_nothing_in_common(kind: type, length: int) -> None:
    order, other = kind(length, 13, 0), kind(length, 13, 1)
    places = np.linspace(0, length - 2, min(length - 1, 20_000)).astype(int).tolist()
    here = [order(0, place) for place in places]
    pairs = {
        "place": places,
        "neighbour": [order(0, place + 1) for place in places],
        "epoch": [order(1, place) for place in places],
        "pass": [order(0, length + place) for place in places],
        "seed": [other(0, place) for place in places],
    }
    for name, there in pairs.items():
        # Where the whole list is read, all rows and columns are equally full: 1.4 below chance.
        assert -5 < surprise(joint(here, there, length, cells=8 if length == 1000 else 16)) < 4, name
        assert abs(np.corrcoef(here, there)[0, 1]) < 4 / np.sqrt(len(places)), name
    rising = np.mean(np.array(here) < pairs["neighbour"])
    assert abs(rising - 0.5) < 2 / np.sqrt(len(places))
