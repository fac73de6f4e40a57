"""Lists of files, one entry a line: any length in little memory.

A list is kept as the bytes of its file and one array of where its entries begin, which forked worker processes share;
an entry becomes a string only when it is read. The order of an epoch is computed place by place, never written down.
"""

import codecs
import hashlib
import math
from functools import cached_property
from pathlib import Path

import numpy as np

from furnace.errors import InputError

BOM = codecs.BOM_UTF8
NEWLINE, SPACE = ord("\n"), ord(" ")
CHUNK = 1 << 20  # bytes looked at together: enough to be fast, little beside a list that is long
ROUNDS = 8
SMALLEST_SIDE = 16


class FileList:
    """The lines of a text file that are not blank, read by number.

    It takes the file's size and four bytes an entry (eight where the file is longer than 4 GiB), also while it is
    being opened; none of it is counted or copied when an entry is read.

    Raises:
        InputError: the file is missing, is not UTF-8, or holds no entry.
    """

    def __init__(self, path: str | Path) -> None:
        self.path = Path(path)
        if not self.path.is_file():
            raise InputError(
                f"list not found: {self.path}: expected a text file with one image a line; "
                "make it, or set dataset_path or labeled_ratio to what is there"
            )
        # Not a memory map: a run of days must not change because somebody edits the list.
        self._bytes = self.path.read_bytes()
        self._starts = _entry_starts(self._bytes)
        if len(self) == 0:
            raise InputError(
                f"list is empty: {self.path}: expected one image a line, found none; fill it or name another"
            )

    def __len__(self) -> int:
        return len(self._starts)

    def __getitem__(self, index: int) -> str:
        """Entry `index`, without the spaces around it."""
        start = int(self._starts[index])
        end = self._bytes.find(b"\n", start)
        line = self._bytes[start:] if end < 0 else self._bytes[start:end]
        try:
            return line.decode("utf-8").strip()
        except UnicodeDecodeError:
            raise InputError(
                f"{self.path}: entry {index + 1} is not UTF-8 text: {line[:60]!r}; save the list as UTF-8"
            ) from None

    def sha256(self) -> str:
        """Hexadecimal digest of the file's bytes, to compare splits."""
        return self._digest

    @cached_property
    def _digest(self) -> str:
        return hashlib.sha256(self._bytes).hexdigest()


def spread(count: int, at_most: int) -> list[int]:
    """Numbers below `count`, evenly spaced from the first to the last; all of them if these are not too many."""
    return np.linspace(0, count - 1, min(at_most, count)).astype(int).tolist()


def _entry_starts(content: bytes) -> np.ndarray:
    """Where the lines that are not blank begin, (entries,) of the smallest integer type that can hold it."""
    text = np.frombuffer(content, dtype=np.uint8)
    newlines = sum(np.count_nonzero(text[i : i + CHUNK] == NEWLINE) for i in range(0, len(text), CHUNK))
    starts = np.empty(newlines + 1, dtype=np.min_scalar_type(len(content)))
    count, begin = 0, len(BOM) if content.startswith(BOM) else 0
    while begin < len(content):
        end = content.find(b"\n", begin + CHUNK) + 1 or len(content)
        part = text[begin:end]  # whole lines
        lines = np.append(0, np.flatnonzero(part[:-1] == NEWLINE) + 1)
        if np.any(part[lines] <= SPACE):  # only then some may be blank
            lines = lines[np.logical_or.reduceat(part > SPACE, lines)]
        np.add(lines, begin, out=starts[count : count + len(lines)], casting="unsafe")
        count, begin = count + len(lines), end
    return starts[:count]


class Shuffled:
    """An endless order of 0..length-1 that depends on the seed and the place alone.

    Position p of epoch e falls into pass p // length; every pass of every epoch is a permutation of its own. It is
    computed place by place, in the same time for any length, from 8 * sqrt(length) random numbers a pass.

    The permutation is a Feistel network: numbers below side^2 are pairs (left, right) of digits to the base side, and
    each round maps them to (right, left + f(right) mod side) with a random function f of its own. A number that falls
    beyond the list is mapped again until it falls into it ("cycle walking": Black and Rogaway, Ciphers with Arbitrary
    Finite Domains, CT-RSA 2002).
    """

    def __init__(self, length: int, *seed: int) -> None:
        self.length = length
        self.seed = seed
        # In a smaller square eight rounds would favour some permutations of a handful of images.
        self._side = max(SMALLEST_SIDE, math.isqrt(length - 1) + 1)
        self._key: tuple[int, int] | None = None
        self._functions: list[list[int]] = []  # ROUNDS of side values each

    def __call__(self, epoch: int, position: int) -> int:
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
        """One of 0..side^2-1 for each of them."""
        side = self._side
        left, right = divmod(number, side)
        for function in self._functions:
            left, right = right, (left + function[right]) % side
        return left * side + right
