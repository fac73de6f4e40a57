"""Lists of files, one entry a line: any length in little memory.

A list is kept as the bytes of its file and an array of line starts, which worker processes share; an entry becomes a
string only when it is read.
"""

import codecs
import hashlib
from pathlib import Path

import numpy as np

from furnace.errors import InputError

BOM = codecs.BOM_UTF8


class FileList:
    """The lines of a text file that are not blank, read by number.

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
        self._bytes = self.path.read_bytes()
        text = np.frombuffer(self._bytes, dtype=np.uint8)
        first = len(BOM) if self._bytes.startswith(BOM) else 0
        starts = np.append(first, np.flatnonzero(text == ord("\n")) + 1)
        starts = starts[starts < len(text)]
        ends = np.append(starts, len(text))[1:]
        if len(starts):
            filled = np.logical_or.reduceat(text > ord(" "), starts)
            starts, ends = starts[filled], ends[filled]
        self._starts, self._ends = starts, ends
        if len(self) == 0:
            raise InputError(
                f"list is empty: {self.path}: expected one image a line, found none; fill it or name another"
            )

    def __len__(self) -> int:
        return len(self._starts)

    def __getitem__(self, index: int) -> str:
        """Entry `index`, without the spaces around it."""
        line = self._bytes[self._starts[index] : self._ends[index]]
        try:
            return line.decode("utf-8").strip()
        except UnicodeDecodeError:
            raise InputError(
                f"{self.path}: entry {index + 1} is not UTF-8 text: {line[:60]!r}; save the list as UTF-8"
            ) from None

    def sha256(self) -> str:
        """Hexadecimal digest of the file's bytes, to compare splits."""
        return hashlib.sha256(self._bytes).hexdigest()


class Shuffled:
    """An endless order of 0..length-1 that depends on the seed and the place alone.

    Position p of epoch e falls into pass p // length; every pass of every epoch is a permutation of its own. One
    permutation is kept, so reading in order costs one shuffle a pass.
    """

    def __init__(self, length: int, *seed: int) -> None:
        self.length = length
        self.seed = seed
        self._key: tuple[int, int] | None = None
        self._order = np.empty(0, dtype=np.int64)

    def __call__(self, epoch: int, position: int) -> int:
        key = (epoch, position // self.length)
        if key != self._key:
            self._key = key
            self._order = np.random.default_rng([*self.seed, *key]).permutation(self.length)
        return int(self._order[position % self.length])
