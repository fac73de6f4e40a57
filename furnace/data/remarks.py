"""What is to be said about files that can be read, although something about them is odd or damaged.

C libraries print such remarks themselves, without the file's name. Here they are caught, so that each line that a user
sees names its file.
"""

import mmap
import os
import re
import threading
import zlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext, suppress
from pathlib import Path

import numpy as np

from furnace.engine.bars import above_bars
from furnace.errors import say_note

Tell = Callable[[str | Path, str], None]  # takes a file's name and a remark about it

SEVERAL_FRAMES = "holds several frames or pages, of which the first is taken; save the others as files of their own"
DARK = 16  # of 16 bits the upper eight are kept; below this, 12 bits or fewer are used

MOST = 20  # files that are named, by all processes together
SLOTS = 1 << 16
_said = mmap.mmap(-1, 1 + SLOTS)  # a counter, and a byte for each hash of a remark; forked processes share it
_first_process = os.getpid()

STDERR = 2
# What decoders print about damaged pixels. libpng names the part of the file; parts in capitals are needed for pixels.
DAMAGE = re.compile(
    r"Corrupt JPEG data(?!: bad ICC)[^\r\n]*|Premature end of JPEG[^\r\n]*|Inconsistent progression[^\r\n]*"
    r"|(?<=libpng warning: )[A-Z]{4}: [^\r\n]*"
)
HARMLESS = re.compile(r"libpng |Corrupt JPEG data: bad ICC|Warning: unknown JFIF|Unknown Adobe")
OUR_OWN = re.compile(r"[^\n]*\r|(error|note|warning): ")  # what another thread wrote meanwhile: a bar, or a whole line


def say_once(name: str | Path, remark: str) -> None:
    """Prints a remark about a file, unless a process of this run has said it, or has named `MOST` files already."""
    slot = 1 + zlib.crc32(f"{name} {remark}".encode(errors="surrogateescape")) % SLOTS
    if _said[slot] or _said[0] > MOST:
        return
    _said[slot], _said[0] = 1, _said[0] + 1
    # A forked process has a copy of the bar, which would be drawn again.
    with above_bars() if os.getpid() == _first_process else nullcontext():
        if _said[0] > MOST:
            say_note("there are remarks about more files; `python -m furnace prepare check` names those of a data set")
        else:
            say_note(f"{name}: {remark}".replace("\n", "\\n"))


def say_nothing(name: str | Path, remark: str) -> None:
    """Takes a remark that was said elsewhere."""


def tell_if_dark(image: np.ndarray, name: str | Path, tell: Tell) -> None:
    """Tells of an image whose 16 bits have become 8 if it has come out black."""
    if image.max(initial=0) < DARK:
        tell(name, "16 bits, but 12 at most are used: it comes out black; scale its values to 65535, or save 8 bits")


class _Ear:
    """Standard error's place while C libraries decode: a file in memory, of this process alone."""

    def __init__(self) -> None:
        self.lock = threading.Lock()
        self.file: int | None = None

    def open(self) -> int | None:
        """Puts the file into the place of standard error; returns what was there, None if that cannot be done."""
        try:
            if self.file is None:
                self.file = os.memfd_create("decoder")
            real = os.dup(STDERR)
        except (OSError, AttributeError):  # no such files on this system, or standard error is closed
            return None
        os.dup2(self.file, STDERR)
        return real

    def close(self, real: int) -> str:
        """Puts standard error back, and returns what was written meanwhile."""
        os.dup2(real, STDERR)
        os.close(real)
        assert self.file is not None
        written = os.lseek(self.file, 0, os.SEEK_CUR)
        if not written:
            return ""
        text = os.pread(self.file, written, 0)
        os.lseek(self.file, 0, os.SEEK_SET)
        return text.decode(errors="replace")


_ear = _Ear()


def _new_ear() -> None:
    global _ear
    _ear = _Ear()


os.register_at_fork(after_in_child=_new_ear)


@contextmanager
def decoders_heard(name: str | Path) -> Iterator[list[str]]:
    """Keeps what C libraries print about the file `name`.

    Yields:
        A list that holds, behind the `with` block, what they said about damaged pixels. What is harmless is dropped,
        and what is not known is printed after the file's name.
    """
    damage: list[str] = []
    with _ear.lock:
        real = _ear.open()
        if real is None:
            yield damage
            return
        try:
            yield damage
        finally:
            damage += _sorted_out(_ear.close(real), name)


def _sorted_out(text: str, name: str | Path) -> list[str]:
    """Returns what decoders said about damaged pixels, drops what is harmless, and prints the rest of `text`."""
    damage: list[str] = []
    for line in re.findall("[^\n]*\n?", text):
        damage += DAMAGE.findall(line)
        if OUR_OWN.match(line):
            shown = DAMAGE.sub("", line)
        elif line.strip() and not DAMAGE.search(line) and not HARMLESS.search(line):
            shown = f"note: {name}: {line.rstrip()}\n"
        else:
            continue
        with suppress(OSError):  # nobody may be listening any more
            os.write(STDERR, shown.encode(errors="surrogateescape"))
    return damage
