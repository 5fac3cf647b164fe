"""What can be wrong with a command, and how it is said."""

from __future__ import annotations

from streamll.terminal.text import one_line

FAILED, USAGE, INTERRUPTED = 1, 2, 130


class Problem(Exception):
    """The command cannot do what it was asked; the message is all its user needs."""

    def __init__(self, message: str, exit_code: int = USAGE) -> None:
        super().__init__(message)
        self.exit_code = exit_code


def in_one_line(error: object) -> str:
    """An error for people: a problem's message, or an exception's type and message."""
    message = one_line(error, 1000)
    if isinstance(error, Problem) or not isinstance(error, BaseException):
        return message
    name = type(error).__name__
    return f"{name}: {message}" if message else name
