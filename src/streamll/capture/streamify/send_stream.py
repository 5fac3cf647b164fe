"""``dspy.settings.send_stream`` as a streamified program sees it: a way into its reader's stream.

``await dspy.settings.send_stream.send(chunk)`` works on any event loop, and in the program's own
thread through ``anyio.from_thread.run``. What is sent arrives as it is; chunks of a language
model that no tap has heard are read like those of an LM call.

An LM call does not see this stream: DSPy would stream by itself, with retries and fallbacks off.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any

import dspy
from dspy.streaming import StatusMessage as DSPyStatusMessage

from streamll.capture.inside_dspy import ACTIVE_CALL_ID
from streamll.capture.reply.chunks import delta_of, finish_reason_in, is_lm_chunk, reads_chunks
from streamll.capture.reply.parsers import parser_for
from streamll.capture.run.scope import Scope
from streamll.capture.streamify.listeners import Target
from streamll.capture.streamify.responses import Output, StreamResponse
from streamll.configuration import logger
from streamll.core.events import Status
from streamll.core.parsing.base import Closed, Piece, Text


class SendStream:
    """Where a program sends its own chunks. ``say`` puts an item before the reader."""

    def __init__(self, output: Output, targets: tuple[Target, ...]) -> None:
        self.scope: Scope | None = None  # set by the call, which needs this object to make it
        self._output = output
        self._unheard = UnheardChunks(targets)

    def __reduce__(self) -> tuple[type[None], tuple[()]]:
        return type(None), ()  # ``dspy.settings.save`` pickles every setting

    def __deepcopy__(self, memo: Any) -> SendStream:
        return self

    def send_nowait(self, item: Any) -> None:
        """Send without waiting for the reader."""
        if is_lm_chunk(item):
            if not self._is_heard():
                for said in self._unheard.read(item):
                    self._output.say(said)
        elif isinstance(item, DSPyStatusMessage) and self.scope is not None:
            self.scope.publish(Status(message=item.message))
        else:
            self._output.say(item)

    async def send(self, item: Any) -> None:
        """Send, and wait while the reader lies too far behind.

        Not with status messages: DSPy's helper sends them with the event loop stopped.
        """
        self.send_nowait(item)
        if not isinstance(item, DSPyStatusMessage):
            await self._output.wait_for_space_async()

    def end(self) -> None:
        """The program has ended: what chunks left open is closed."""
        for said in self._unheard.finish():
            self._output.say(said)

    def _is_heard(self) -> bool:
        """Whether the tap of the LM call that is running here has told the call of this chunk."""
        frames = self.scope.run.frames if self.scope is not None else {}
        frame = frames.get(ACTIVE_CALL_ID.get() or "")
        return frame is not None and frame.kind == "lm" and frame.lm_calls[0].has_provider_chunks


class UnheardChunks:
    """LM chunks that come from outside any LM call, by the predictor that they name."""

    def __init__(self, targets: tuple[Target, ...]) -> None:
        self._targets = targets
        self._completions: dict[int | None, list[Completion]] = {}

    def read(self, chunk: Any) -> Iterator[Any]:
        if not self._targets:
            yield chunk
            return
        name = getattr(chunk, "predict_id", None)
        completions = self._completions.get(name)
        if completions is None:
            completions = self._completions[name] = [
                Completion(target) for target in self._targets if id(target.predictor) == name
            ]
        for completion in completions:
            yield from completion.read(chunk)
        if finish_reason_in(chunk):
            for completion in self._completions.pop(name, ()):
                yield from completion.finish()

    def finish(self) -> Iterator[Any]:
        for completions in self._completions.values():
            for completion in completions:
                yield from completion.finish()
        self._completions.clear()


class Completion:
    """One completion as one listener reads it."""

    def __init__(self, target: Target) -> None:
        self._target = target
        adapter = dspy.settings.adapter or dspy.ChatAdapter()
        self._parser = parser_for(adapter, target.signature)

    def read(self, chunk: Any) -> Iterator[StreamResponse]:
        if (value := native_value(self._target.annotation, chunk)) is not None:
            yield self._response(value, last=False)
        text = getattr(delta_of(chunk), "content", None)
        if isinstance(text, str) and text:
            yield from self._said(self._parser.feed(text))

    def finish(self) -> Iterator[StreamResponse]:
        yield from self._said(self._parser.finish())

    def _said(self, pieces: Iterable[Piece]) -> Iterator[StreamResponse]:
        for piece in pieces:
            if piece.field == self._target.field:
                if isinstance(piece, Text):
                    yield self._response(piece.text, last=False)
                elif isinstance(piece, Closed):
                    yield self._response("", last=True)

    def _response(self, chunk: Any, *, last: bool) -> StreamResponse:
        return StreamResponse(self._target.name, self._target.field, chunk, last)


def native_value(annotation: Any, chunk: Any) -> Any:
    """What a chunk has for a field of this type; ``None`` if nothing."""
    if not reads_chunks(annotation):
        return None
    try:
        return annotation.parse_stream_chunk(chunk) or None
    except Exception as error:  # noqa: BLE001 - the type's own; what it means for the program comes later
        logger.debug("%s could not read a chunk: %s", annotation.__name__, type(error).__name__)
        return None
