"""One LM call: deltas in from the tap, events out into the run. A ``tap.listener.CallListener``.

An LM call makes one request per candidate, and further ones where DSPy retries; only candidate 0 is
shown. A plugin's ``forward`` may call ``super().forward()``: then two engines report one call. The
inner one is done first and makes candidate 0; what the outer one adds is ignored as candidate 1.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from time import monotonic
from typing import Any

from streamll.capture import deltas
from streamll.capture.deltas import Delta
from streamll.capture.inside_dspy import HAS_ENGINES
from streamll.capture.reply.attempt_fields import AttemptFields
from streamll.capture.reply.call_fields import CallFields
from streamll.capture.reply.chunks import ChunkFeed
from streamll.capture.reply.outcome import (
    finish_reason_of,
    other_parts,
    response_of,
    text_of,
    whole_text_of,
)
from streamll.capture.reply.requests import Requests
from streamll.capture.run.frames import Frame
from streamll.capture.run.scope import Scope
from streamll.configuration import configuration
from streamll.core import events as ev
from streamll.core.gaps import chunk_gaps
from streamll.core.usage import UNKNOWN


class LMCall:
    """The listener of one LM call. Its events name ``owner``: mostly the predictor's frame.

    ``prompt`` holds the adapter and signature of the call; without it the call is a bare one.
    """

    def __init__(
        self, scope: Scope, frame: Frame, owner: Frame, predictor: Any, prompt: Any
    ) -> None:
        self.scope = scope
        self.run = scope.run
        self.check = scope.check
        self.frame = frame
        self.owner = owner
        self.adapter_calls: tuple[Any, ...] = ()  # DSPy's adapter calls around this one
        self.predictor = predictor
        self.result: Any = None  # DSPy's CallResult: usage, cost, cache hit
        self.model = frame.name  # that is asked now
        self.failover: Any = None  # a ``policy.failover.Failover``, where there are fallbacks
        self.begun = False  # the first attempt
        self._first_text: float | None = None
        self.finish_reason: str | None = None
        self.response: dict[str, str | None] = {}  # its id, and the model that gave it
        self.requests = Requests(frame.name)
        self._fields = CallFields(scope, self.predictor, prompt)
        # A chunk may hold what a guard forbids, or half of it; readers then have the events alone.
        is_masked = bool(scope.guards) or self.run.redact is not None
        asking = () if is_masked else scope.reader_requests
        readers = [each for each in asking if each.wants_chunks(self.predictor)]
        self._has_chunk_readers = bool(readers)
        self.chunks = ChunkFeed(readers, self.predictor, frame.call_id, frame.name)
        self.streaming = bool(self._fields.wanted or self._fields.everything or readers)
        self._channels: list[Any] = [o for o in scope.receivers if hasattr(o, "wait_for_space")]
        self._candidate = 0
        self._failure: str | None = None
        self._thinking_index = 0
        self._sent = frame.started  # where the request is not seen to leave
        self._shown: Mapping[str, str] = {}  # by the last attempt before this that said something
        self._start_attempt()

    def _start_attempt(self) -> None:
        self.identity = self.owner.identity(self.run.run_id, attempt=self.owner.attempt)
        self.attempt_model = self.model
        self.attempt = AttemptFields(self.scope, self.identity, self._fields)
        self._parse = self.attempt.parser.feed
        self.counts = True  # not superseded
        self._pieces = 0  # of text, as they came
        self._chunk_times: list[float] = []  # text, thinking, tool calls, … as they came

    def begin(self) -> None:
        self.scope.check()
        self.begun = True
        self.requests.begin()
        if self._failure is not None:
            if self._candidate == 0:  # another candidate's failure takes nothing back
                self.supersede(self._failure)
                self._shown = self.attempt.texts() or self._shown
                self._start_attempt()
            self._failure = None

    def sent(self, reply: Any) -> None:
        self._sent = monotonic()
        self.requests.sent(reply)

    def supersede(self, reason: str) -> None:
        """The attempt's text no longer counts: readers drop it, and all of its owner's."""
        told = self.run.publish_change if self.attempt.begun else self.run.publish
        following = self.model if self.model != self.attempt_model else None
        told(ev.LMSuperseded, self.scope, self.identity, reason=reason, next_model=following)
        self.owner.attempt += 1
        for call in self.owner.lm_calls:
            call.counts = False

    def switch(self, model: str, reason: str) -> None:
        """Another model is asked, for all candidates again: ``reason`` ended what the last one said."""
        self.model = model
        self.requests.switch(model)
        if self._candidate:
            self._candidate = 0
            self._failure = self._failure or reason

    @property
    def has_begun(self) -> bool:
        """Whether readers have text of this attempt."""
        return self.attempt.begun

    def failed(self, error: BaseException) -> None:
        self.attempt.end_open(complete=False)
        self._failure = type(error).__name__
        self.requests.failed(error)

    def done(self, response: object | None) -> None:
        self.requests.done(response)
        if self._candidate == 0:
            self.response = response_of(response)
            if not self._pieces and self.streaming and (text := text_of(response)):
                self.hear(text)
            self.finish_reason = finish_reason_of(response)
            self.attempt.emit(self.attempt.parser.finish())
            self.attempt.end_open(self.finish_reason)
            self.run.finish_texts(self.scope, self.identity)
            if self._fields.adapter is None and self._pieces:
                self.attempt.correct_reply(whole_text_of(response))
            if self._fields.wanted or self._fields.everything:
                for part in other_parts(response):
                    self._publish(ev.ReplyPart, **part)
            if self._has_chunk_readers:
                self.chunks.finish(self.identity, self.finish_reason)
        self._candidate += 1

    def hear(self, delta: Delta) -> None:
        if not isinstance(delta, str):
            self._hear_other(delta)
        elif delta and not self._candidate:
            self._chunk_times.append(monotonic())
            if not self._pieces:
                self._first_text = self._chunk_times[-1]
            self._pieces += 1
            if self._has_chunk_readers:
                self.chunks.hear(self.identity, delta)
            if pieces := self._parse(delta):
                self.attempt.emit(pieces)

    def _hear_other(self, delta: Delta) -> None:
        if isinstance(delta, deltas.ProviderChunk):
            self.chunks.provided(self.identity, delta)
        elif not self._candidate:
            self._chunk_times.append(monotonic())
            if self._has_chunk_readers:
                self.chunks.hear(self.identity, delta)
            if isinstance(delta, deltas.ThinkingDelta):
                self._hear_thinking(delta.text)
            elif isinstance(delta, deltas.ToolCallFragment):
                self._hear_tool_call(delta)
            elif isinstance(delta, deltas.RefusalDelta):
                # Not field text: the program finds it in its reply or error.
                if self._fields.wanted or self._fields.everything:
                    self._publish(ev.Refusal, text=delta.text)
            elif isinstance(delta, deltas.CitationDelta) and self._fields.wants_citations:
                self._publish(ev.Citation, **delta._asdict())

    def _hear_thinking(self, text: str) -> None:
        field = self._fields.thinking
        if field is not None and field in self._fields.wanted:
            self.attempt.native_text(field, text)
        elif self._fields.everything:
            self._publish(ev.Thinking, text=text, index=self._thinking_index)
            self._thinking_index += 1

    def _hear_tool_call(self, delta: deltas.ToolCallFragment) -> None:
        number, _, name, arguments = delta
        field = self._fields.tool_calls
        if field is not None and field in self._fields.wanted:
            self.attempt.native_call(field, number, name, arguments)
        shown = arguments if "tools" in configuration.include else ""
        if self._fields.everything and (name or shown):
            self._publish(ev.ToolCallDelta, index=number, name=name, arguments=shown)

    def _publish(self, kind: type[ev.Event], /, **own: Any) -> None:
        self.run.publish(kind, self.scope, self.identity, **own)

    def times(self) -> dict[str, Any]:
        """The times of the last attempt, as ``LMEnd`` has them."""
        first, chunks = self._first_text, self._chunk_times
        times: dict[str, Any] = {
            "time_to_first_token": None if first is None else first - self._sent
        }
        if self.streamed:
            times |= {"chunks": len(chunks), "time_to_first_chunk": chunks[0] - self._sent}
            times["time_per_output_chunk"] = (chunks[-1] - chunks[0]) / (len(chunks) - 1)
            times["chunk_gaps"] = chunk_gaps(chunks)
        return times

    def used(self, *, failed: bool) -> dict[str, Any]:
        """Tokens and cost of all its requests, as ``LMEnd`` has them."""
        if failed and not (self.begun or HAS_ENGINES):  # it has asked nobody that is tapped
            return UNKNOWN._asdict()
        return self.requests.used(None if failed else self.result)

    @property
    def streamed(self) -> bool:
        """Whether the text came in pieces; whole text has no speed."""
        return self._pieces > 1

    def must_pause(self) -> bool:
        if self.run.has_cancelled_calls:
            self.scope.check()
        for channel in self._channels:  # noqa: SIM110 - asked for every chunk
            if channel.full:
                return True
        return False

    def pause(self) -> None:
        for channel in self._channels:
            channel.wait_for_space()
        self.scope.check()

    async def pause_async(self) -> None:
        for channel in self._channels:
            await channel.wait_for_space_async()
        self.scope.check()

    def connected(self, shutdown: Callable[[], None]) -> None:
        self.run.connected(self, shutdown)

    def disconnected(self) -> None:
        self.run.disconnected(self)

    def waiting(self, reason: str, delay: float | None = None, model: str | None = None) -> None:
        self._publish(ev.LMWaiting, reason=reason, delay=delay, model=model)

    def deliver_cached(self, text: str) -> None:
        """The reply came from DSPy's cache."""
        if configuration.cached_tokens:
            self.attempt.deliver_cached(text)
        else:
            self._fields.wanted = frozenset()

    def abandon(self, error_type: str) -> None:
        """The run ends while this call is still under way."""
        self.attempt.end_open(complete=False)
        self._failure = error_type

    def partial(self) -> Mapping[str, str]:
        """What a reader saw last, by ``predictor.field``: of this attempt, or of one before."""
        prefix = f"{self.owner.predictor}." if self.owner.predictor else ""
        shown = self.attempt.texts() or self._shown
        return {prefix + field: text for field, text in shown.items()}
