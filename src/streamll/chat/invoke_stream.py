"""What ``iModel.invoke_stream`` gives: the text as it comes, and what else is known of the reply."""

from __future__ import annotations

import asyncio
from operator import attrgetter
from typing import Any

from streamll.chat.reply import CitedSource, ModelReply, ModelToolCall
from streamll.core.errors import ReplySuperseded, StreamCancelled
from streamll.core.events import Event, LMSuperseded, TokenEvent
from streamll.flow.bridge import Derived


class Chunk(str):
    """A piece of text; ``data`` is the same text, for the notebook's ``chunk.data``."""

    __slots__ = ()

    @property
    def data(self) -> str:
        return str(self)


class ChunkStream(Derived[Chunk]):
    """Text of a model.

    Unlike other streams it is closed when a read is cancelled. A reader that waits while somebody
    else closes it gets ``StreamCancelled``.
    """

    async def __anext__(self) -> Chunk:
        try:
            return await super().__anext__()
        except asyncio.CancelledError:  # the loop's frames may live on in a traceback
            await self.aclose()
            raise

    def _finish(self, error: Exception) -> None:
        if self._over and isinstance(error, StreamCancelled):
            raise error
        super()._finish(error)


def _of_reply(name: str) -> Any:
    """A read-only attribute that is one of the reply's."""
    return property(attrgetter(f"_reply.{name}"))


class InvokeStream(ChunkStream):
    """One reply as text: ``async for`` or ``for``, once. The request is sent when that begins.

    Ending the loop early, leaving a ``with`` block around it, or dropping the stream stops the
    provider. ``text`` is what has been read, also after an error; ``thinking``, ``tool_calls``,
    ``usage``, ``finish_reason`` and the times are set as soon as they are known.
    """

    def __init__(self, call: Any) -> None:
        super().__init__(call)
        self._reply: ModelReply = call.program.reply
        self._chunks: list[Chunk] = []

    def _feed(self, event: Event) -> list[Chunk]:
        if isinstance(event, TokenEvent) and event.token:
            chunk = Chunk(event.token)
            self._chunks.append(chunk)
            return [chunk]
        if isinstance(event, LMSuperseded) and self._chunks:
            raise ReplySuperseded(
                f"the reply was restarted ({event.reason}) after {len(self.text)} characters of it"
            )
        return []

    def __repr__(self) -> str:
        state = "ended" if self._over else "open" if self._reply.attempts else "not begun"
        return f"<InvokeStream {state}, {len(self._chunks)} chunks>"

    @property
    def text(self) -> str:
        """The text that has been read."""
        return "".join(self._chunks)

    @property
    def read(self) -> list[Chunk]:
        """The pieces that have been read."""
        return list(self._chunks)

    @property
    def chunks(self) -> int:
        """How many pieces have been read."""
        return len(self._chunks)

    thinking: str = _of_reply("thinking")
    refusal: str = _of_reply("refusal")
    tool_calls: list[ModelToolCall] = _of_reply("tool_calls")
    citations: list[CitedSource] = _of_reply("citations")
    usage: Any = _of_reply("usage")
    """Tokens as the provider counted them (``input_tokens``, ``output_tokens``, …)."""
    finish_reason: str | None = _of_reply("finish_reason")
    time_to_first_token: float | None = _of_reply("time_to_first_token")
    duration: float = _of_reply("duration")
    model: str | None = _of_reply("model")
    """The model that answered, as the provider calls it."""
    response: Any = _of_reply("response")
    """lm15's ``Response``, when the reply is complete."""
