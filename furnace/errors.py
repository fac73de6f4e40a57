"""The errors that users see as a single line, and the exit statuses of the program."""

import os
import sys
import traceback

EXIT_FAILED = 1  # the cause lies outside of this process: another process ended or did not answer
EXIT_BAD_INPUT = 2
EXIT_RESUBMIT = 75  # EX_TEMPFAIL: the run was asked to stop and saved everything; the same command continues it


class InputError(Exception):
    """Bad input. The message says what was expected, what was found and what to do; the exit status is 2."""


class CommonInputError(InputError):
    """Bad input that every process of a run finds alike, so that only the first process reports it."""


def say(error: object) -> None:
    """Prints `error` as one line on standard error; with the setting `debug`, an exception's traceback precedes it."""
    # `debug` is not read from Settings, because reading the settings may be what fails.
    if isinstance(error, Exception) and ("debug=1" in sys.argv or os.environ.get("debug") == "1"):
        traceback.print_exception(error)
    line = str(error).replace("\n", "\\n")
    print(f"error: {line}", file=sys.stderr, flush=True)
