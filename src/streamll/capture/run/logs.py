"""This package's own log where guards are at work: what they forbid is masked in it, too.

Its messages have names and types alone, but a traceback quotes what a program's own code has raised.
"""

from __future__ import annotations

import logging
import traceback
from collections.abc import Callable

from streamll.core.errors import logger
from streamll.guards import Check, Guard, guard_text, ruleset

LOGGERS = (logger, logging.getLogger("streamll.capture"))


class GuardedLogs(logging.Filter):
    """Masks records. ``guards_here`` are the guards of the place where something is logged."""

    def __init__(self, guards_here: Callable[[], tuple[Guard, ...]]) -> None:
        super().__init__()
        self._guards_here = guards_here

    def install(self) -> None:
        """From now on. Doing so again changes nothing."""
        for each in LOGGERS:
            each.addFilter(self)

    def filter(self, record: logging.LogRecord) -> bool:
        guards = self._guards_here()
        if guards:
            _mask(record, guards)
        return True


def _mask(record: logging.LogRecord, guards: tuple[Guard, ...]) -> None:
    rules = ruleset(guards)
    record.msg, _ = guard_text(rules, record.getMessage())
    record.args = None
    if record.exc_info:
        text = "".join(traceback.format_exception(*record.exc_info)).rstrip("\n")
        record.exc_text, _ = guard_text(rules, text)
        if any(isinstance(guard, Check) and guard.fields is None for guard in guards):
            record.exc_text = "(not shown: a check would have to judge it, and a log does not wait)"
        record.exc_info = None
