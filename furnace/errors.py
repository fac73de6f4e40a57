"""What users are shown as a single line, and the exit statuses."""

import os
import sys
import traceback

EXIT_FAILED = 1  # something outside of this process: another one ended or did not answer
EXIT_BAD_INPUT = 2
EXIT_RESUBMIT = 75  # EX_TEMPFAIL: asked to stop, everything saved; the same command goes on


class InputError(Exception):
    """Bad input: the message says what was expected, what was found and what to do (exit status 2)."""


class CommonInputError(InputError):
    """Bad input that all processes find alike, so that the first alone says it."""


def say(error: object) -> None:
    """One line on standard error; with the setting `debug` an exception's traceback before it."""
    # debug is not read from Settings, because reading them may be what fails.
    if isinstance(error, Exception) and ("debug=1" in sys.argv or os.environ.get("debug") == "1"):
        traceback.print_exception(error)
    line = str(error).replace("\n", "\\n")
    print(f"error: {line}", file=sys.stderr, flush=True)
