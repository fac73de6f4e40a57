"""Lists of files, one entry a line, and the random order in which an epoch visits them. Both need little memory.

A list is kept as the bytes of its file and one array that says where each entry begins. Forked worker processes share
both. An entry becomes a string only when it is read. The order of an epoch is computed place by place and never stored,
so a list may have millions of entries.
"""

import codecs
import hashlib
import math
from collections.abc import Iterator
from functools import cached_property
from pathlib import Path

import numpy as np

from furnace.errors import InputError, because, perhaps

BOM = codecs.BOM_UTF8
NEWLINE, SPACE = ord("\n"), ord(" ")
CHUNK = 1 << 20  # bytes that are searched together: enough to be fast, and few compared with a long list
ROUNDS = 8  # of the Feistel network in `Shuffled`
SMALLEST_SIDE = 16  # of its square


class FileList:
    """The lines of a text file that are not blank, read by number.

    A list takes as much memory as its file, and four bytes more for each entry (eight if the file is longer than
    4 GiB), and no more while it is being opened. Reading an entry copies only that entry and changes no reference count
    in this memory, so forked processes go on sharing it.

    Args:
        path: the file.
        may_be_empty: whether it may hold no entry.

    Raises:
        InputError: the file is missing or not readable, is not UTF-8, or holds no entry although it must.
    """

    def __init__(self, path: str | Path, may_be_empty: bool = False) -> None:
        self.path = Path(path)
        if not self.path.is_file():
            there = [path.name for path in self.path.parent.glob("*.txt") if path.is_file()]
            found = ", found a folder" if self.path.is_dir() else ""
            raise InputError(
                f"list not found: {self.path}{perhaps(self.path.name, there)}: expected a text file with one image a "
                f"line{found}; draw it (python -m furnace prepare split), or set dataset_path or labeled_ratio to what "
                "is there"
            )
        # The file is read, not mapped into memory: a run of days must not change because somebody edits the list.
        try:
            self._bytes = self.path.read_bytes()
        except OSError as error:
            raise InputError(f"list not readable: {self.path}: {because(error)}") from None
        self._starts = _entry_starts(self._bytes)
        if len(self) == 0 and not may_be_empty:
            raise InputError(
                f"list is empty: {self.path}: expected one image a line, found none; fill it or name another"
            )

    def __len__(self) -> int:
        return len(self._starts)

    def __getitem__(self, index: int) -> str:
        """Returns entry `index` without the spaces around it; raises InputError if it is not UTF-8 or blank."""
        start = int(self._starts[index])
        end = self._bytes.find(b"\n", start)
        line = self._bytes[start:] if end < 0 else self._bytes[start:end]
        try:
            entry = line.decode("utf-8").strip()
        except UnicodeDecodeError:
            raise InputError(
                f"{self.path}: entry {index + 1} is not UTF-8 text: {line[:60]!r}; save the list as UTF-8"
            ) from None
        if not entry:  # such as a no-break space, which is more than a byte and so did not count as blank
            raise InputError(f"{self.path}: entry {index + 1} holds only spaces: {line!r}; take the line out")
        return entry

    def __iter__(self) -> Iterator[str]:
        return map(self.__getitem__, range(len(self)))

    def sha256(self) -> str:
        """Returns the hexadecimal digest of the file's bytes, by which two runs can tell whether their lists differ."""
        return self._digest

    @cached_property
    def _digest(self) -> str:
        return hashlib.sha256(self._bytes).hexdigest()


def spread(count: int, at_most: int) -> list[int]:
    """Returns whole numbers spaced evenly from 0 to `count` - 1: `at_most` of them, or all if there are no more."""
    return np.linspace(0, count - 1, min(at_most, count)).astype(int).tolist()


def _entry_starts(content: bytes) -> np.ndarray:
    """Returns where each line that is not blank begins: (entries,) of the smallest integer type that can hold it."""
    text = np.frombuffer(content, dtype=np.uint8)
    newlines = sum(np.count_nonzero(text[i : i + CHUNK] == NEWLINE) for i in range(0, len(text), CHUNK))
    starts = np.empty(newlines + 1, dtype=np.min_scalar_type(len(content)))
    count, begin = 0, len(BOM) if content.startswith(BOM) else 0
    while begin < len(content):
        end = content.find(b"\n", begin + CHUNK) + 1 or len(content)
        part = text[begin:end]  # whole lines
        lines = np.append(0, np.flatnonzero(part[:-1] == NEWLINE) + 1)
        if np.any(part[lines] <= SPACE):  # otherwise no line can be blank
            lines = lines[np.logical_or.reduceat(part > SPACE, lines)]
        np.add(lines, begin, out=starts[count : count + len(lines)], casting="unsafe")
        count, begin = count + len(lines), end
    return starts[:count]


class Shuffled:
    """An endless random order of 0..length-1, in which the number at a place depends on the seed and the place alone.

    Position p of an epoch belongs to pass p // length through the list. Every pass of every epoch is a permutation of
    its own. A place is computed in the same time for any length, from 8 * sqrt(length) random numbers that are drawn
    once for each pass.

    The permutation is a Feistel network. It writes each number below side^2 as a pair (left, right) of digits in base
    `side`, and each round maps the pair to (right, (left + f(right)) mod side), with a random function f of its own. If
    the result lies beyond the list, it is mapped again until it falls into the list ("cycle walking": Black and
    Rogaway, Ciphers with Arbitrary Finite Domains, CT-RSA 2002).

    Args:
        length: how many numbers are permuted.
        seed: one number or several; together they select the order.
    """

    def __init__(self, length: int, *seed: int) -> None:
        self.length = length
        self.seed = seed
        # In a smaller square, eight rounds would prefer some permutations of a handful of images to others.
        self._side = max(SMALLEST_SIDE, math.isqrt(length - 1) + 1)
        self._key: tuple[int, int] | None = None
        self._functions: list[list[int]] = []  # f of each round, as a table of `side` values

    def __call__(self, epoch: int, position: int) -> int:
        """Returns the number at `position` (0 or more, and not limited by the length) of `epoch`."""
        turn, place = divmod(position, self.length)
        if self._key != (epoch, turn):
            self._key = epoch, turn
            random = np.random.default_rng([*self.seed, epoch, turn])
            self._functions = random.integers(self._side, size=(ROUNDS, self._side)).tolist()
        place = self._permuted(place)
        while place >= self.length:
            place = self._permuted(place)
        return place

    def _permuted(self, number: int) -> int:
        """Maps the numbers 0..side^2-1 onto themselves, no two of them to the same."""
        side = self._side
        left, right = divmod(number, side)
        for function in self._functions:
            left, right = right, (left + function[right]) % side
        return left * side + right
