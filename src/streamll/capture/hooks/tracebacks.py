"""Keeps tracebacks as they are without capture.

ReAct shows the model the traceback of a failed tool, so tracebacks are part of prompts, cache keys
and results. Capture would show in two ways: its own frames, and the line in DSPy's callback wrapper,
which calls a function on another line if there are callbacks. Both are corrected from Python 3.11
on; earlier versions re-raise with the traceback they remember.
"""

from __future__ import annotations

from contextlib import AbstractContextManager
from types import CodeType, TracebackType
from typing import Any

import dspy
from dspy.utils.callback import with_callbacks

from streamll.capture.inside_dspy import overriding
from streamll.capture.run.scope import SCOPE_KEY

_CAPTURE = "streamll.capture."


class FramesHidden(AbstractContextManager[None]):
    """``with`` it: errors leave the block without the frames of capture before the program's own."""

    def __exit__(self, _: object, error: BaseException | None, rest: TracebackType | None) -> None:
        while rest is not None and rest.tb_frame.f_globals.get("__name__", "").startswith(_CAPTURE):
            rest = rest.tb_next
        if error is not None and rest is not None:  # else the error is capture's own
            error.__traceback__ = rest


def hide_callback(error: BaseException, instance: Any) -> None:
    """Make the frame of DSPy's callback wrapper point where it does without callbacks.

    Does nothing if the program has callbacks of its own, which move it as well.
    """
    if dspy.settings.callbacks or getattr(instance, "callbacks", None):
        return
    outer = error.__traceback__
    while outer is not None and outer.tb_next and outer.tb_next.tb_frame is outer.tb_frame:
        outer = outer.tb_next  # before 3.3 the wrapper raises the error again, on another line
    position = _POSITIONS.get(outer.tb_frame.f_code) if outer is not None else None
    if outer is not None and position is not None:
        error.__traceback__ = TracebackType(outer.tb_next, outer.tb_frame, *position)


def _positions() -> dict[CodeType, tuple[int, int]]:
    """The positions of DSPy's wrappers, sync and async, while what they call without callbacks fails."""

    @with_callbacks  # type: ignore[untyped-decorator]
    def fail(_: object) -> None:
        raise LookupError

    @with_callbacks  # type: ignore[untyped-decorator]
    async def afail(_: object) -> None:
        raise LookupError

    positions = {}
    with overriding(SCOPE_KEY, None), overriding("callbacks", []):
        for call in (fail, afail):
            try:
                call(None).send(None)
            except LookupError as error:
                wrapper = error.__traceback__.tb_next  # type: ignore[union-attr]
                positions[wrapper.tb_frame.f_code] = (wrapper.tb_lasti, wrapper.tb_lineno)  # type: ignore[union-attr]
    return positions


_POSITIONS = _positions()  # now: later DSPy's wrappers may be told of a callback by ``watch``
