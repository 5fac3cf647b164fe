"""Run a program and show it in the terminal."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from streamll.cli.problem import Problem
from streamll.core.errors import ConfigurationError, UnknownFieldError

if TYPE_CHECKING:
    from streamll.sinks.terminal import Mode


def perform(program: Any, inputs: dict[str, Any], fields: Sequence[str], view: Mode) -> Any:
    """Call ``program`` with ``inputs``; its return value, or what it raised."""
    import streamll
    from streamll.sinks.terminal import TerminalSink

    try:
        streamed = streamll.stream(
            program, fields=fields, sinks=[TerminalSink(view)], keep_text=False
        )
    except (UnknownFieldError, ConfigurationError) as error:
        raise Problem(str(error)) from error
    with streamed(**inputs) as events:
        return events.result()
