"""A streamified call as server-sent events, the way ``dspy.streaming`` writes them."""

from __future__ import annotations

import contextlib
import dataclasses
from collections.abc import AsyncGenerator, AsyncIterator
from typing import Any

import dspy
import msgspec
from dspy.streaming import StatusMessage as DSPyStatusMessage
from dspy.streaming import StreamResponse as DSPyStreamResponse

from streamll.capture.reply.chunks import is_lm_chunk
from streamll.capture.streamify.responses import StreamReset
from streamll.core.events import Event
from streamll.core.jsonable import plain, render

DONE = "data: [DONE]\n\n"


async def streaming_response(streamer: AsyncIterator[Any]) -> AsyncGenerator[str, None]:
    """Server-sent events for a response, from what a streamified program yields.

    ``{"prediction": …}`` and ``{"chunk": …}`` as DSPy writes them, text that begins with ``data:``
    unchanged, finally ``[DONE]``. Where DSPy raises, there is ``{"response": …}`` for a piece of a
    field, ``{"reset": …}`` and ``{"status": …}``. Closing the generator closes the streamer.

    Raises:
        ValueError: for a chunk of the program's own, which has no frame.
    """
    async with contextlib.AsyncExitStack() as stack:
        if hasattr(streamer, "aclose"):
            stack.push_async_callback(streamer.aclose)
        async for value in streamer:
            if not (isinstance(value, str) and value.startswith("data:")):
                yield f"data: {_json(_named(value))}\n\n"
            elif value != DONE:  # frames may pass through here twice; the end is sent once
                yield value
        yield DONE


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
