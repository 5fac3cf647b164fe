"""What ``iModel.invoke_stream`` gives: the text as it comes, and what is known of it afterwards."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator
from typing import Any

from streamll.capture.stream import AsyncStream, Stream
from streamll.chat.pending import Asked
from streamll.chat.reply import Source, ToolCall
from streamll.core.errors import ReplySuperseded
from streamll.core.events import Event, LMSuperseded, TokenEvent
from streamll.flow.closing import Closing


class Chunk(str):
    """A piece of text; ``data`` is the same text, for those who write ``chunk.data``."""

    __slots__ = ()

    @property
    def data(self) -> str:
        return str(self)


class InvokeStream(Closing):
    """One reply as text: ``async for`` or ``for``, once. The request is made when that begins.

    Ending the loop early, leaving a ``with`` block around it, or dropping the stream stops the
    provider. What has been read is ``text``, also after an error; ``thinking``, ``tool_calls``,
    ``usage``, ``finish_reason`` and the times are there as soon as they are known.
    """

    def __init__(self, asked: Asked) -> None:
        self._asked = asked
        self._reply = asked.reply
        self._chunks: list[Chunk] = []
        self._stream: Stream | None = None
        self._async_stream: AsyncStream | None = None
        self._ended = False

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
    def tool_calls(self) -> list[ToolCall]:
        return self._reply.tool_calls

    @property
    def citations(self) -> list[Source]:
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

    # --- async ------------------------------------------------------------------------------

    def __aiter__(self) -> AsyncIterator[Chunk]:
        return self

    async def __anext__(self) -> Chunk:
        if self._ended:
            raise StopAsyncIteration
        stream = self._async_stream
        if stream is None:
            stream = self._async_stream = await self._asked.__aenter__()
        try:
            while True:
                text = self._text_of(await stream.__anext__())
                if text is not None:
                    return text
        except BaseException:
            await self.aclose()
            raise

    async def aclose(self) -> None:
        """Stop, if it has not ended."""
        self._ended = True
        stream, self._async_stream = self._async_stream, None
        if stream is not None:
            await stream.aclose()

    # --- sync -------------------------------------------------------------------------------

    def __iter__(self) -> Iterator[Chunk]:
        return self

    def __next__(self) -> Chunk:
        if self._ended:
            raise StopIteration
        stream = self._stream or self._begun()
        try:
            while True:
                text = self._text_of(next(stream))
                if text is not None:
                    return text
        except BaseException:
            self.close()
            raise

    def _begun(self) -> Stream:
        stream = self._stream = self._asked.__enter__()
        if self._ended:  # another thread closed it meanwhile
            stream.close()
        return stream

    def close(self) -> None:
        """Stop, if it has not ended. Any thread may do it: who waits gets ``StreamCancelled``."""
        self._ended = True
        stream, self._stream = self._stream, None
        if stream is not None:
            stream.close()

    # --- both -------------------------------------------------------------------------------

    def _text_of(self, event: Event) -> Chunk | None:
        if type(event) is TokenEvent:
            if event.token:
                chunk = Chunk(event.token)
                self._chunks.append(chunk)
                return chunk
        elif isinstance(event, LMSuperseded) and self._chunks:
            raise ReplySuperseded(
                f"the reply began anew ({event.reason}) after {len(self.text)} characters of it"
            )
        return None

    def __repr__(self) -> str:
        state = "ended" if self._ended else "open" if self._reply.attempts else "not begun"
        return f"<InvokeStream {state}, {len(self._chunks)} chunks>"
