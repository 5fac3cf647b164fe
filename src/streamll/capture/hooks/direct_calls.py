"""Calls of a predictor's ``forward`` itself, which DSPy has no callbacks for.

DSPy advises against them, and people make them. They are reported as calls through ``__call__``
are, but to us alone: a program's own callbacks hear what they hear without capture.
"""

from __future__ import annotations

import uuid
from collections.abc import Callable
from contextlib import AbstractContextManager
from typing import Any

from streamll.capture.hooks.callbacks import CALLBACK, running_frame
from streamll.capture.hooks.tracebacks import FramesHidden
from streamll.capture.inside_dspy import ACTIVE_CALL_ID
from streamll.capture.run.frames import DIRECT_CALL, DirectCall
from streamll.capture.run.scope import current_scope
from streamll.core.errors import logger

Function = Callable[..., Any]


class Reported(AbstractContextManager["Reported"]):
    """``with`` it: if nobody has reported this call of ``predictor``, it is reported here."""

    def __init__(self, predictor: Any, inputs: dict[str, Any]) -> None:
        self.result: Any = None
        self._call_id: str | None = None
        scope = current_scope()
        if scope is None or getattr(running_frame(scope.run), "instance", None) is predictor:
            return
        call_id = uuid.uuid4().hex
        try:
            CALLBACK.on_module_start(call_id, predictor, {"kwargs": inputs})
        except Exception:
            logger.exception("cannot report a call of %s.forward", type(predictor).__name__)
            return
        self._call_id = call_id
        self._token = DIRECT_CALL.set(DirectCall(call_id, ACTIVE_CALL_ID.get()))

    def __exit__(self, _: object, error: BaseException | None, rest: object) -> None:
        if self._call_id is None:
            return
        DIRECT_CALL.reset(self._token)
        try:
            CALLBACK.on_module_end(self._call_id, self.result, error)
        except Exception:
            logger.exception("cannot report the end of a call of a forward")


def forward_called(original: Function) -> Function:
    def forward(self: Any, *args: Any, **kwargs: Any) -> Any:
        with FramesHidden(), Reported(self, kwargs) as call:
            call.result = original(self, *args, **kwargs)
            return call.result

    return forward


def aforward_called(original: Function) -> Function:
    async def aforward(self: Any, *args: Any, **kwargs: Any) -> Any:
        with FramesHidden(), Reported(self, kwargs) as call:
            call.result = await original(self, *args, **kwargs)
            return call.result

    return aforward
