"""Why a run cannot be started or read. Each has the HTTP status that reports it."""

from __future__ import annotations

from typing import ClassVar

from streamll.core.errors import StreamllError


class RunUnavailable(StreamllError):
    """A run cannot be started or read."""

    status: ClassVar[int] = 503


class LogAway(RunUnavailable):
    """The log cannot be read at the moment."""

    def __init__(self) -> None:
        super().__init__("the log cannot be read")


class NoSuchRun(RunUnavailable):
    """The log holds no run with this id."""

    status = 404

    def __init__(self) -> None:
        super().__init__("there is no such run")


class TooManyRuns(RunUnavailable):
    """This process runs as many programs as ``ServerLimits.runs`` allows."""

    status = 429
