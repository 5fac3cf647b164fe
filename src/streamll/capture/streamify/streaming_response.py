"""A streamified call as server-sent events, the way ``dspy.streaming`` writes them."""

from __future__ import annotations

import dataclasses
from collections.abc import AsyncIterator, Iterable
from typing import Any

import dspy
import msgspec
from dspy.streaming import StatusMessage as DSPyStatusMessage
from dspy.streaming import StreamResponse as DSPyStreamResponse

from streamll.capture.reply.chunks import is_lm_chunk
from streamll.capture.streamify.responses import StreamReset
from streamll.core.events import Event
from streamll.core.jsonable import plain, render
from streamll.flow.bridge import Derived, checked

DONE = "data: [DONE]\n\n"


class StreamingFrames(Derived[str]):
    """What ``streaming_response`` returns: read with ``async for``, or ``for``, once."""

    def _feed(self, value: Any) -> Iterable[str]:
        if not (isinstance(value, str) and value.startswith("data:")):
            return (f"data: {_json(_named(value))}\n\n",)
        return () if value == DONE else (value,)  # frames may pass here twice; the end is sent once

    def _end(self, error: Exception | None) -> Iterable[str]:
        super()._end(error)
        return (DONE,)


def streaming_response(streamer: AsyncIterator[Any]) -> StreamingFrames:
    """Server-sent events for a response, from what a streamified program yields.

    ``{"prediction": …}`` and ``{"chunk": …}`` as DSPy writes them, text that begins with ``data:``
    unchanged, finally ``[DONE]``. Where DSPy raises, there is ``{"response": …}`` for a piece of a
    field, ``{"reset": …}`` and ``{"status": …}``. Closing it closes the streamer; a cancelled read
    does not.

    Raises:
        ValueError: while it is read, for a chunk of the program's own, which has no frame.
        TypeError: ``streamer`` cannot be iterated over.
    """
    return StreamingFrames(checked(streamer))


def _named(value: Any) -> dict[str, Any]:
    if isinstance(value, dspy.Prediction):
        return {"prediction": dict(value.items(include_dspy=False))}
    if is_lm_chunk(value):
        return {"chunk": value.json()}
    if isinstance(value, DSPyStatusMessage):
        return {"status": value.message}
    if isinstance(value, DSPyStreamResponse):
        content = dataclasses.asdict(value)
        if isinstance(value, StreamReset):
            return {"reset": {**content, "text": value.text}}
        return {"response": content}
    if isinstance(value, Event):
        return {"event": {"event_type": value.event_type, **value.data}}
    raise ValueError(f"a {type(value).__name__} has no frame in a streaming response")


def _json(value: Any) -> str:
    try:
        return msgspec.json.encode(value, enc_hook=render).decode()
    except (TypeError, ValueError, RecursionError):
        return msgspec.json.encode(plain(value)).decode()
