"""One LM call as its listeners see it: text in from the tap, field events out into the run.

Implements ``tap.listener.CallListener``. An LM call makes one request per candidate, and further
ones where DSPy retries; text comes from candidate 0 only. All state of a call lives here.

A plugin's ``forward`` may call ``super().forward()``: then two engines report one call. The
inner one is done first and makes candidate 0; what the outer one adds is candidate 1, unread.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import dspy
from dspy.adapters.types.citation import Citations

from streamll.capture.reply.chunks import Delta, chunk_of, citation_delta, tool_call_delta
from streamll.capture.reply.field_text import FieldText
from streamll.capture.reply.outcome import (
    annotations_of,
    final_text,
    finish_reason_of,
    other_parts,
    text_of,
)
from streamll.capture.reply.parsers import REPLY_FIELD, parser_for
from streamll.capture.run.frames import Frame
from streamll.capture.run.scope import Scope, is_quiet
from streamll.capture.typed.field import (
    NativeCalls,
    is_prose,
    is_text,
    native_fields,
    typed_field,
)
from streamll.configuration import configuration
from streamll.core.events import (
    Citation,
    FieldCorrected,
    FieldEnd,
    FieldPartial,
    FieldStart,
    Identity,
    LMSuperseded,
    LMWaiting,
    Refusal,
    ReplyPart,
    Thinking,
    ToolCallDelta,
)
from streamll.core.jsonable import as_text
from streamll.core.parsing.base import Closed, Opened, Piece, Text
from streamll.core.parsing.values.builder import COMPLETE, Change


class LMCall:
    """The listener of one LM call, which speaks as ``owner``: mostly the predictor's frame.

    Without a ``format_`` it is a bare call: its text is one field.
    """

    def __init__(self, scope: Scope, frame: Frame, owner: Frame, format_: Any) -> None:
        self.scope = scope
        self.run = scope.run
        self.check = scope.check
        self.frame = frame
        self.owner = owner
        self.adapter = format_.adapter if format_ is not None else None
        self.signature = format_.signature if format_ is not None else None
        self.adapter_calls: tuple[Any, ...] = ()  # DSPy's adapter calls around this one
        self.bare = format_ is None
        made_for = frame if frame.parent is None or self.bare else frame.parent
        self.predictor = made_for.instance if isinstance(made_for.instance, dspy.Predict) else None
        self.result: Any = None  # DSPy's CallResult: usage, cost, cache hit
        self.first_text: float | None = None
        self.finish_reason: str | None = None
        self.cached = False
        own = getattr(self.predictor, "signature", None)
        self._native = {} if self.bare else native_fields(own, self.signature)
        self._annotations = annotations_of(own, self.signature)
        self._wanted = self._select()
        self._everything = self._wants_everything()
        self._chunk_readers = [d for d in scope.demands if d.wants_chunks(self.predictor)]
        self.given_chunks = False  # by the engine itself, so that none need be made of what it says
        self.streaming = bool(self._wanted or self._everything or self._chunk_readers)
        self._channels = [o for o in scope.receivers if hasattr(o, "wait_for_space")]
        self._candidate = 0
        self._failure: str | None = None
        self._tokens_of_thinking = 0
        self._start_attempt()

    # --- what is wanted -------------------------------------------------------------------------

    def _listened(self) -> bool:
        return bool(self.scope.receivers or self.scope.token_hooks) and not is_quiet()

    def _select(self) -> frozenset[str]:
        names = (REPLY_FIELD,) if self.bare else self._output_fields()
        listened = self.scope.wanted(self.predictor, names) if self._listened() else frozenset()
        return listened.union(*(d.wanted(self.predictor, names) for d in self.scope.demands))

    def _output_fields(self) -> tuple[str, ...]:
        if self.signature is not None:
            return (*self.signature.output_fields, *self._native.values())
        signature = getattr(self.predictor, "signature", None)
        return tuple(signature.output_fields) if signature is not None else ()

    def _wants_everything(self) -> bool:
        selection = self.scope.selection
        return selection is not None and selection.everything and self._listened()

    # --- attempts ---------------------------------------------------------------------------------

    def _start_attempt(self) -> None:
        self.identity: Identity = self.owner.identity(
            self.run.run_id, attempt=self.owner.attempt, candidate=0
        )
        self._parser = parser_for(self.adapter, self.signature)
        self._fields: dict[str, FieldText] = {}
        self._open: str | None = None  # the field whose end has not been announced
        self._calls = NativeCalls()
        self._pieces = 0  # of text, as they came

    def begin(self) -> None:
        self.scope.check()
        if self._failure is not None:
            if self._candidate == 0:
                self.supersede(self._failure)
            self.restart()

    def restart(self) -> None:
        """Begin the next attempt: nothing of the one before counts."""
        self._failure = None
        self._start_attempt()

    def supersede(self, reason: str) -> None:
        """The attempt's text counts no more: its reader drops it."""
        self.run.publish(LMSuperseded, self.scope, self.identity, reason=reason)
        self.owner.attempt += 1

    def failed(self, error: BaseException) -> None:
        self._end_open_field(complete=False)
        self._failure = type(error).__name__

    def done(self, response: object | None) -> None:
        if self._candidate == 0:
            if not self._pieces and self.streaming and (text := text_of(response)):
                self.text(text)
            self.finish_reason = finish_reason_of(response)
            self._emit(self._parser.finish())
            self._end_open_field(self.finish_reason)
            self._refer_to_parts(response)
            if self._chunk_readers:
                self._show({}, self.finish_reason)
        self._candidate += 1

    # --- what the model says ------------------------------------------------------------------------

    def text(self, text: str) -> None:
        if self._candidate or not text:
            return
        if not self._pieces:
            self.first_text = time.monotonic()
        self._pieces += 1
        if self._chunk_readers:
            self._show({"content": text})
        if pieces := self._parser.feed(text):
            self._emit(pieces)

    def _emit(self, pieces: Sequence[Piece]) -> None:
        for piece in pieces:
            field = piece.field
            if isinstance(piece, Text):
                if field in self._wanted:
                    so_far = self._fields[field]
                    if so_far.typed is not None:
                        self._change(field, so_far.typed.feed(piece.text))
                    self._token(so_far, field, piece.text)
            elif isinstance(piece, Opened):
                self._end_open_field()
                if field in self._wanted:
                    self._start_field(field)
            elif field in self._fields and (typed := self._fields[field].typed) is not None:
                self._change(field, typed.finish())

    def _start_field(self, field: str) -> None:
        typed = typed_field(self.adapter, self._annotations.get(field, str))
        self._fields[field] = FieldText(typed)
        self._open = field
        self.run.publish(FieldStart, self.scope, self.identity, field=field)

    def _token(
        self, so_far: FieldText, field: str, token: str, finish_reason: str | None = None
    ) -> None:
        if not so_far.tokens:
            self.run.totals.saw_token()
        self.run.publish_token(
            self.scope, self.identity, field, token,
            so_far.tokens, so_far.length, finish_reason, self.cached,
        )  # fmt: skip
        so_far.tokens += 1
        so_far.parts.append(token)
        so_far.length += len(token)

    def _change(self, field: str, changes: Sequence[Change]) -> None:
        for place, value, state, append in changes:
            self.run.publish(
                FieldPartial, self.scope, self.identity,
                field=field, value=value, state=state, pointer=place, append=append,
            )  # fmt: skip

    def _end_open_field(self, finish_reason: str | None = None, *, complete: bool = True) -> None:
        """Announce the field's end: when the next field opens or the reply ends.

        Not already at its closing mark, so that the closing token, which tells why the model
        stopped, still lies inside the last field.
        """
        field, self._open = self._open, None
        if field is None:
            return
        if complete and field == self._native.get(dspy.ToolCalls):
            self._change(field, self._calls.finish())
        if finish_reason is not None:
            self._token(self._fields[field], field, "", finish_reason)
        length = self._fields[field].length
        self.run.publish(
            FieldEnd, self.scope, self.identity, field=field, length=length, complete=complete
        )

    def chunk(self, chunk: Any) -> None:
        """The engine itself made a chunk of what it is about to tell, or (``None``) never does."""
        self.given_chunks = True
        if chunk is not None:
            for reader in self._chunk_readers:
                reader.chunk(self, chunk)

    def _show(self, delta: Delta, finish_reason: str | None = None) -> None:
        """Make a chunk of what was said, for those who read chunks."""
        if self._candidate or self.given_chunks:
            return
        chunk = chunk_of(self, delta, finish_reason)
        for reader in self._chunk_readers:
            reader.chunk(self, chunk)

    def _begun(self, field: str) -> bool:
        """Begin a field that comes apart from the text; false once another one has begun."""
        if field not in self._fields:
            self._end_open_field()
            self._start_field(field)
        return self._open == field

    def thinking(self, text: str) -> None:
        if self._chunk_readers:
            self._show({"reasoning_content": text})
        if self._candidate:
            return
        field = self._native.get(dspy.Reasoning)
        if field in self._wanted:
            assert field is not None
            if self._begun(field):
                self._token(self._fields[field], field, text)
        elif self._everything:
            self.run.publish(
                Thinking, self.scope, self.identity, text=text, index=self._tokens_of_thinking
            )
            self._tokens_of_thinking += 1

    def refusal(self, text: str) -> None:
        """A refusal is not field text; the program sees it in its reply or error."""
        if (self._wanted or self._everything) and not self._candidate:
            self.run.publish(Refusal, self.scope, self.identity, text=text)

    def tool_call(self, index: int, id: str | None, name: str | None, arguments: str) -> None:  # noqa: A002
        if self._chunk_readers:
            self._show(tool_call_delta(index, id, name, arguments))
        field = self._native.get(dspy.ToolCalls)
        if field in self._wanted and not self._candidate:
            assert field is not None
            if self._begun(field):
                self._change(field, self._calls.add(index, name, arguments))
        shown = arguments if "tools" in configuration.include else ""
        if self._everything and not self._candidate and (name or shown):
            self.run.publish(
                ToolCallDelta, self.scope, self.identity, index=index, name=name, arguments=shown
            )

    def citation(self, text: str | None, title: str | None, url: str | None) -> None:
        if self._chunk_readers:
            self._show(citation_delta(text, title, url))
        wanted = self._everything or self._native.get(Citations) in self._wanted
        if wanted and not self._candidate:
            self.run.publish(Citation, self.scope, self.identity, text=text, title=title, url=url)

    def _refer_to_parts(self, response: object) -> None:
        """Say which images and other parts the reply has besides its text."""
        if self._wanted or self._everything:
            for part in other_parts(response):
                self.run.publish(ReplyPart, self.scope, self.identity, **part)

    @property
    def is_on(self) -> bool:
        """Whether the call is under way."""
        return self.frame.call_id in self.run.frames

    @property
    def has_spoken(self) -> bool:
        """Whether any field of the current attempt has been begun."""
        return bool(self._fields)

    @property
    def streamed(self) -> bool:
        """Whether the text came in pieces; whole text has no speed."""
        return self._pieces > 1

    # --- flow ---------------------------------------------------------------------------------------

    @property
    def full(self) -> bool:
        for channel in self._channels:  # noqa: SIM110 - asked for every chunk
            if channel.full:  # type: ignore[attr-defined]
                return True
        return False

    def pause(self) -> None:
        for channel in self._channels:
            channel.wait_for_space()
        self.scope.check()

    async def pause_async(self) -> None:
        for channel in self._channels:
            await channel.wait_for_space_async()  # type: ignore[attr-defined]
        self.scope.check()

    def connected(self, shutdown: Callable[[], None]) -> None:
        self.run.connected(self, shutdown)

    def disconnected(self) -> None:
        self.run.disconnected(self)

    def waiting(self, reason: str, delay: float | None = None) -> None:
        self.run.publish(LMWaiting, self.scope, self.identity, reason=reason, delay=delay)

    # --- the ends -------------------------------------------------------------------------------------

    def deliver_cached(self, text: str) -> None:
        """The reply came from DSPy's cache: one token per field."""
        if not configuration.cached_tokens:
            self._wanted = frozenset()
            return
        self.cached = True
        whole: dict[str, list[str]] = {}
        for piece in (*self._parser.feed(text), *self._parser.finish()):
            if not isinstance(piece, Closed) and piece.field in self._wanted:
                parts = whole.setdefault(piece.field, [])
                if isinstance(piece, Text):
                    parts.append(piece.text)
        for field, parts in whole.items():
            self._whole_field(field, "".join(parts))

    def _whole_field(self, field: str, text: str) -> None:
        self._start_field(field)
        self._fields[field].typed = None  # its value comes whole, too
        if text or self.cached:
            self._token(self._fields[field], field, text)
        self._end_open_field()

    def settle(self, prediction: Any) -> None:
        """The predictor has its value: deliver what did not stream, correct what differs."""
        if not hasattr(prediction, "get"):
            return
        for field in self._output_fields():
            if field in self._wanted:
                self._settle_field(field, prediction.get(field))

    def _settle_field(self, field: str, value: Any) -> None:
        annotation = self._annotations.get(field, str)
        released = self._fields.get(field)
        if released is None:
            if value is None:
                return
            self._whole_field(field, final_text(value) if is_text(annotation) else "")
        if not is_prose(annotation):
            self._change(field, (Change((), value, COMPLETE),))
        if released is not None and not released.agrees(annotation, value):
            text = final_text(value) if is_text(annotation) else as_text(value)
            self.run.publish(
                FieldCorrected, self.scope, self.identity, field=field, text=text, value=value
            )

    def abandon(self, error_type: str) -> None:
        """The run ends while this call is still under way."""
        self._end_open_field(complete=False)
        self._failure = error_type

    def partial(self) -> Mapping[str, str]:
        prefix = f"{self.owner.predictor}." if self.owner.predictor else ""
        return {prefix + field: state.text for field, state in list(self._fields.items())}
