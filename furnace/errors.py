"""The errors that users see as a single line, what finds them in whole numbers, and the exit statuses."""

import argparse
import errno
import os
import sys
import traceback
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager

EXIT_FAILED = 1  # the cause lies outside of this process: another process ended or did not answer
EXIT_BAD_INPUT = 2
EXIT_RESUBMIT = 75  # EX_TEMPFAIL: the run was asked to stop and saved everything; the same command continues it

_ELSEWHERE = "choose another folder (of a run: OUTPUT_PATH)"
_IN_THE_WAY = "a file stands where a folder is needed, or a folder where a file is: move it, or choose another name"
# What helps against an error of the system, by its number.
_REMEDIES = {
    errno.ENOSPC: f"free space, or {_ELSEWHERE}",
    errno.EDQUOT: f"remove files of yours, ask for a larger quota, or {_ELSEWHERE}",
    errno.EROFS: f"this file system can only be read; {_ELSEWHERE}",
    errno.EACCES: f"change its mode or owner, or {_ELSEWHERE}",
    errno.EPERM: f"its owner, its attributes or its file system forbid it; {_ELSEWHERE}",
    errno.ENAMETOOLONG: "shorten the name, or the path to it",
    errno.EEXIST: _IN_THE_WAY,
    errno.ENOTDIR: _IN_THE_WAY,
    errno.EISDIR: _IN_THE_WAY,
    errno.ENOTEMPTY: _IN_THE_WAY,
    errno.EINVAL: f"this file system takes no such name or operation; {_ELSEWHERE}",
    errno.ENOTSUP: f"this file system cannot do that; {_ELSEWHERE}",
    errno.ENOSYS: f"this file system cannot do that; {_ELSEWHERE}",
    errno.EMFILE: "allow more open files (ulimit -n), or lower num_workers",
    errno.ENFILE: "close other programs: the machine's limit of open files is reached",
    errno.EFBIG: f"raise the limit of a file's size (ulimit -f), or {_ELSEWHERE}",
    errno.EIO: f"the disk, or the way to it, fails: see what dmesg says, or {_ELSEWHERE}",
    errno.ENOENT: "it is missing, or a folder on the way to it; look at the path",
    errno.ESTALE: "the file server has changed what stood there: mount it anew, and start again",
    errno.ETIMEDOUT: "the file server does not answer: start again when it does",
    errno.ELOOP: "links lead in a circle there; mend them",
    errno.EBUSY: f"something else holds it, or it is a mount point; {_ELSEWHERE}",
    errno.ENOMEM: "no memory is left: close other programs",
}


class InputError(Exception):
    """Bad input. The message says what was expected, what was found and what to do; the exit status is 2."""


class CommonInputError(InputError):
    """Bad input that every process of a machine finds alike, so that only the machine's first process reports it."""


def because(error: OSError) -> str:
    """Returns why the system refused something and what helps against that: the end of an error's line."""
    return f"{error.strerror or error}; {_REMEDIES.get(error.errno or 0, _ELSEWHERE)}"


def counted(number: int, thing: str) -> str:
    """Returns a number of things in words, such as `1 epoch` or `2 epochs`."""
    return f"{number} {thing}{'s' * (number != 1)}"


def in_short(error: Exception) -> str:
    """Returns what an error of any kind says, in a few words."""
    if isinstance(error, OSError) and error.strerror:
        return error.strerror
    return f"{type(error).__name__}: {str(error).partition(os.linesep)[0]}"


@contextmanager
def system_errors_said() -> Iterator[None]:
    """Turns errors that nobody foresaw within this context into an InputError: of a file, or a package that is missing.

    Others pass. They are faults of this program, of which a traceback says more.
    """
    try:
        yield
    except ModuleNotFoundError as error:
        if (package := (error.name or "").partition(".")[0]) in ("", "furnace"):
            raise
        raise CommonInputError(f"the package {package} is missing; pip install -r requirements.txt") from error
    except ImportError as error:
        if (reason := _why_not_loaded(error)) is None:
            raise
        raise CommonInputError(reason) from error
    except OSError as error:
        if error.filename is None:
            raise
        raise InputError(f"{os.fsdecode(error.filename)}: {because(error)}") from error


def _why_not_loaded(error: ImportError) -> str | None:
    """Returns a line about a library of the system that cannot be loaded; None if the error is about anything else."""
    library = next((word for word in str(error).split() if ".so" in word), "").rstrip(":")
    if not library:
        return None
    if "failed to map" in str(error) or "allocate memory" in str(error):
        remedy = "allow more memory (ulimit -v, or the job's limit)"
    else:
        remedy = "install it, or pip install --force-reinstall the package that it belongs to"
    return f"cannot load {str(error).splitlines()[0]}; {remedy}"


def say(error: object) -> None:
    """Prints `error` as one line on standard error; with the setting `debug`, an exception's traceback precedes it."""
    # `debug` is not read from Settings, because reading the settings may be what fails.
    asked = {f"debug={word}" for word in ("1", "true", "yes", "on")}
    said = {word.lower() for word in (*sys.argv, f"debug={os.environ.get('debug', '')}")}
    if isinstance(error, Exception) and asked & said:
        traceback.print_exception(error)
    line = str(error).replace("\n", "\\n")
    print(f"error: {line}", file=sys.stderr, flush=True)


def nearest(name: str, known: Iterable[str]) -> str | None:
    """Returns the one of the `known` names that `name` nearly is; None if it is like none of them.

    Capital letters, dashes and underscores do not count.
    """
    from difflib import get_close_matches  # only mistakes need it

    plain = {_letters(other): other for other in known}
    found = get_close_matches(_letters(name), plain, n=1, cutoff=0.75)
    return plain[found[0]] if found else None


def perhaps(name: str, known: Iterable[str]) -> str:
    """Returns ` (perhaps OTHER)` to stand behind a name that nearly is one of the `known`, else an empty text."""
    other = nearest(name, known)
    return f" (perhaps {other})" if other else ""


def _letters(name: str) -> str:
    return "".join(filter(str.isalnum, name)).lower()


def say_note(text: str) -> None:
    """Prints one line on standard error about something that the work does without."""
    print(f"note: {text}", file=sys.stderr, flush=True)


def at_least(low: int) -> Callable[[str], int]:
    """Returns what reads a whole number of at least `low` for argparse."""

    def read(text: str) -> int:
        if not text.isdecimal() or int(text) < low:
            raise argparse.ArgumentTypeError(f"expected a whole number of at least {low}, found {text!r}")
        return int(text)

    return read


def several_from(low: int) -> Callable[[str], tuple[int, ...]]:
    """Returns what reads whole numbers of at least `low`, with commas between them; each counts once."""
    read = at_least(low)
    return lambda text: tuple(dict.fromkeys(map(read, text.split(","))))
