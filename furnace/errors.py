"""The one exception that is shown to users as a single line."""


class InputError(Exception):
    """Bad input: the message says what was expected, what was found and what to do (exit status 2)."""
