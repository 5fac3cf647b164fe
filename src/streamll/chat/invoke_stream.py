"""What ``iModel.invoke_stream`` gives: the text as it comes, and what else is known of the reply."""

from __future__ import annotations

import asyncio
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

    def _finish(self, error: Exception | None) -> None:
        if self._over and isinstance(error, StreamCancelled):
            raise error
        super()._finish(error)


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

    # --- what is known of the reply ---------------------------------------------------------

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

    @property
    def thinking(self) -> str:
        return self._reply.thinking

    @property
    def refusal(self) -> str:
        return self._reply.refusal

    @property
    def tool_calls(self) -> list[ModelToolCall]:
        return self._reply.tool_calls

    @property
    def citations(self) -> list[CitedSource]:
        return self._reply.citations

    @property
    def usage(self) -> Any:
        """Tokens as the provider counted them (``input_tokens``, ``output_tokens``, …)."""
        return self._reply.usage

    @property
    def finish_reason(self) -> str | None:
        return self._reply.finish_reason

    @property
    def time_to_first_token(self) -> float | None:
        return self._reply.time_to_first_token

    @property
    def duration(self) -> float:
        return self._reply.duration

    @property
    def model(self) -> str | None:
        """The model that answered, as the provider calls it."""
        return self._reply.model

    @property
    def response(self) -> Any:
        """lm15's ``Response``, when the reply is complete."""
        return self._reply.response
