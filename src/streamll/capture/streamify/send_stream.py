"""``dspy.settings.send_stream`` of a streamified program: sends items to the stream's reader.

``await dspy.settings.send_stream.send(chunk)`` works on any event loop, and in the program's own
thread through ``anyio.from_thread.run``. Items arrive unchanged, except LM chunks that did not pass
a tap: they are parsed like those of an LM call.

An LM call does not see this stream: DSPy would stream by itself, without retries and fallbacks.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any

import dspy
from dspy.streaming import StatusMessage as DSPyStatusMessage

from streamll.capture.inside_dspy import ACTIVE_CALL_ID
from streamll.capture.reply.call_fields import parser_for
from streamll.capture.reply.chunks import delta_of, finish_reason_in, is_lm_chunk, reads_chunks
from streamll.capture.run.results import masked
from streamll.capture.run.scope import Scope
from streamll.capture.streamify.listeners import Target
from streamll.capture.streamify.responses import ReaderQueue, StreamResponse
from streamll.configuration import configuration
from streamll.core.errors import GuardStopped, logger, warn_once
from streamll.core.events import Status
from streamll.core.parsing.base import Closed, Piece, Text
from streamll.guards import Check, TextGuard, ruleset


class SendStream:
    """Where a program sends its own chunks."""

    def __init__(self, queue: ReaderQueue, targets: tuple[Target, ...]) -> None:
        self.scope: Scope | None = None  # set by the call, which needs this object to make it
        self._queue = queue
        self._targets = targets
        self._own: GuardedItems | None = None
        self._parsers: dict[int | None, list[ChunkParser]] = {}  # by the predictor a chunk names

    @property
    def innermost(self) -> SendStream:
        """This stream, also for one that has been put around it (``tap.below_litellm``)."""
        return self

    def __reduce__(self) -> tuple[type[None], tuple[()]]:
        return type(None), ()  # ``dspy.settings.save`` pickles every setting

    def __deepcopy__(self, memo: Any) -> SendStream:
        return self

    def send_nowait(self, item: Any) -> None:
        if isinstance(item, DSPyStatusMessage) and self.scope is not None:
            self.scope.publish(Status(message=item.message))
        elif self.scope is not None and self.scope.guards:
            self._send_guarded(item, self.scope)
        elif is_lm_chunk(item):
            if self._is_tapped():
                return
            known = configuration if self.scope is None else self.scope.run
            if known.redact is not None:
                _warn_of_withheld("a language model's raw chunk")
            else:
                for value in self._parsed(item) if self._targets else (item,):
                    self._queue.put_item(value)
        else:
            self._queue.put_item(item)

    def _send_guarded(self, item: Any, scope: Scope) -> None:
        """A chunk of the program's own, under guards: its texts are pieces of one."""
        if is_lm_chunk(item):
            if not self._is_tapped():
                _warn_of_withheld("a language model's raw chunk")
            return
        if any(isinstance(guard, Check) and guard.fields is None for guard in scope.guards):
            _warn_of_withheld("an item that a check would have to judge")
            return
        if self._own is None:
            self._own = GuardedItems(scope)
        for each in self._own.feed(item):
            self._queue.put_item(each)

    async def send(self, item: Any) -> None:
        """Send, and wait while the reader is too far behind.

        Status messages do not wait: DSPy's helper sends them with the event loop stopped.
        """
        self.send_nowait(item)
        if not isinstance(item, DSPyStatusMessage):
            await self._queue.wait_for_space_async()

    def end(self) -> None:
        """The program has ended: close the fields that its chunks left open."""
        for name in list(self._parsers):
            for response in self._finished(name):
                self._queue.put_item(response)
        for rest in self._own.finish() if self._own is not None else ():
            self._queue.put_item(rest)

    def _parsed(self, chunk: Any) -> Iterator[StreamResponse]:
        """The responses of an LM chunk from outside any LM call."""
        name = getattr(chunk, "predict_id", None)
        if name not in self._parsers:
            targets = [target for target in self._targets if id(target.predictor) == name]
            self._parsers[name] = [ChunkParser(target) for target in targets]
        for parser in self._parsers[name]:
            yield from parser.read(chunk)
        if finish_reason_in(chunk):
            yield from self._finished(name)

    def _finished(self, name: int | None) -> Iterator[StreamResponse]:
        for parser in self._parsers.pop(name):
            yield from parser.finish()

    def _is_tapped(self) -> bool:
        """Whether this chunk belongs to an LM call running here whose tap has its chunks."""
        frames = self.scope.run.frames if self.scope is not None else {}
        frame = frames.get(ACTIVE_CALL_ID.get() or "")
        return frame is not None and frame.kind == "lm" and frame.lm_calls[0].chunks.from_provider


class GuardedItems:
    """What a program sends by itself, masked as its result would be.

    Texts are one text in pieces, of which a piece may be held until what follows it is known;
    anything else is masked as a whole, or withheld where it has no room for a mask.
    """

    def __init__(self, scope: Scope) -> None:
        self._scope = scope
        self._guards = tuple(guard for guard in scope.guards if guard.fields is None)
        self._text = TextGuard(ruleset(self._guards))

    def feed(self, item: Any) -> Iterator[Any]:
        if type(item) is str:
            yield from self._released(self._text.feed(item))
            return
        try:
            yield masked(item, self._guards)
        except GuardStopped as stopped:
            self._found(stopped)

    def finish(self) -> Iterator[Any]:
        yield from self._released(self._text.finish())

    def _released(self, text: str) -> Iterator[str]:
        for hit in self._text.hits:
            if hit.guard.action == "stop":
                self._found(GuardStopped(hit.guard.name))
        self._text.hits.clear()
        if text:
            yield text

    def _found(self, stopped: GuardStopped) -> None:
        if any(guard.action == "stop" and guard.name == stopped.rule for guard in self._guards):
            *_, outermost = self._scope.enclosing()
            outermost.cancel(stopped)
        else:
            _warn_of_withheld("an object")


def _warn_of_withheld(what: str) -> None:
    warn_once(
        f"{what} that a program sent to its stream is withheld: neither guards nor redact can mask it"
    )


class ChunkParser:
    """Parses one completion for one listener."""

    def __init__(self, target: Target) -> None:
        self._target = target
        adapter = dspy.settings.adapter or dspy.ChatAdapter()
        self._parser = parser_for(adapter, target.signature)

    def read(self, chunk: Any) -> Iterator[StreamResponse]:
        if (value := native_value(self._target.annotation, chunk)) is not None:
            yield self._response(value, last=False)
        text = getattr(delta_of(chunk), "content", None)
        if isinstance(text, str) and text:
            yield from self._responses(self._parser.feed(text))

    def finish(self) -> Iterator[StreamResponse]:
        yield from self._responses(self._parser.finish())

    def _responses(self, pieces: Iterable[Piece]) -> Iterator[StreamResponse]:
        for piece in pieces:
            if piece.field == self._target.field:
                if isinstance(piece, Text):
                    yield self._response(piece.text, last=False)
                elif isinstance(piece, Closed):
                    yield self._response("", last=True)

    def _response(self, chunk: Any, *, last: bool) -> StreamResponse:
        return StreamResponse(self._target.name, self._target.field, chunk, last)


def native_value(annotation: Any, chunk: Any) -> Any:
    """The part of a chunk that is a value of this type; ``None`` if there is none."""
    if not reads_chunks(annotation):
        return None
    try:
        return annotation.parse_stream_chunk(chunk) or None
    except Exception as error:  # noqa: BLE001 - raised by the type's own code; the program meets it later
        logger.debug("%s could not read a chunk: %s", annotation.__name__, type(error).__name__)
        return None
