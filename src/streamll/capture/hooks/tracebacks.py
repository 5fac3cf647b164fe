"""Tracebacks as they are without capture.

ReAct shows the model the traceback of a tool that failed, so it is part of prompts, cache keys and
results. Capture would be seen in it twice: by frames of its own, and by the line on which DSPy's
callback wrapper calls a function that somebody listens to. Both are put right, from Python 3.11
on; older ones raise again with the traceback they remember.
"""

from __future__ import annotations

import functools
from types import CodeType, TracebackType
from typing import Any

import dspy
from dspy.utils.callback import with_callbacks

from streamll.capture.inside_dspy import overriding
from streamll.capture.run.scope import SCOPE_KEY

_CAPTURE = "streamll.capture."


def hide_frames(error: BaseException) -> None:
    """Take away the frames of capture that lead to the program's own."""
    rest = error.__traceback__
    while rest is not None and rest.tb_frame.f_globals.get("__name__", "").startswith(_CAPTURE):
        rest = rest.tb_next
    if rest is not None:  # else the error is capture's own
        error.__traceback__ = rest


def hide_callback(error: BaseException, instance: Any) -> None:
    """Let DSPy's wrapper around a call stand where it stands if nobody listens.

    Not if somebody besides capture does, with callbacks of the program's own.
    """
    if dspy.settings.callbacks or getattr(instance, "callbacks", None):
        return
    outer = error.__traceback__
    place = _unheard().get(outer.tb_frame.f_code) if outer is not None else None
    if outer is not None and place is not None:
        error.__traceback__ = TracebackType(outer.tb_next, outer.tb_frame, *place)


@functools.cache
def _unheard() -> dict[CodeType, tuple[int, int]]:
    """Where DSPy's wrappers stand, sync and async, while what they call fails unheard."""

    @with_callbacks  # type: ignore[untyped-decorator]
    def fail(_: object) -> None:
        raise LookupError

    @with_callbacks  # type: ignore[untyped-decorator]
    async def afail(_: object) -> None:
        raise LookupError

    places = {}
    with overriding(SCOPE_KEY, None), overriding("callbacks", []):
        for call in (fail, afail):
            try:
                call(None).send(None)
            except LookupError as error:
                wrapper = error.__traceback__.tb_next  # type: ignore[union-attr]
                places[wrapper.tb_frame.f_code] = (wrapper.tb_lasti, wrapper.tb_lineno)  # type: ignore[union-attr]
    return places
