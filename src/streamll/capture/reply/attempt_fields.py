"""The output fields of one attempt: a completion's text in, field events out into the run."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

from streamll.capture.reply.call_fields import REPLY_FIELD, CallFields, parser_for
from streamll.capture.reply.outcome import final_text
from streamll.capture.run.scope import Scope
from streamll.capture.typed.field import (
    NativeCalls,
    TranslatedField,
    TypedField,
    is_prose,
    is_text,
    typed_field,
)
from streamll.core.events import FieldCorrected, FieldEnd, FieldPartial, FieldStart, Identity
from streamll.core.jsonable import as_text
from streamll.core.parsing.base import Closed, Opened, Piece, Text
from streamll.core.parsing.values.builder import COMPLETE, Change


@dataclasses.dataclass(slots=True, eq=False)
class ReleasedText:
    """What has been released of one field."""

    typed: TypedField | None
    parts: list[str] = dataclasses.field(default_factory=list)
    length: int = 0
    tokens: int = 0

    @property
    def text(self) -> str:
        return "".join(self.parts)

    def agrees(self, annotation: Any, value: Any) -> bool:
        """Whether what was released is what the program has."""
        if is_text(annotation):
            return self.text == final_text(value)
        return self.typed is None or self.typed.agrees(value)


class AttemptFields:
    """The fields of one attempt. Only wanted fields give events."""

    def __init__(self, scope: Scope, identity: Identity, fields: CallFields) -> None:
        self.parser = parser_for(fields.adapter, fields.signature)
        self._scope = scope
        self._run = scope.run
        self._identity = identity
        self._fields = fields
        self._released: dict[str, ReleasedText] = {}
        self._open: str | None = None  # the field whose end has not been announced
        self._calls_open: str | None = None  # that of native tool calls, beside it
        self._native_calls = NativeCalls()
        self._cached = False

    @property
    def begun(self) -> bool:
        """Whether any field has been begun."""
        return bool(self._released)

    def has_begun(self, fields: Iterable[str]) -> bool:
        """Whether any of ``fields`` has been begun."""
        return any(field in self._released for field in fields)

    def texts(self) -> Mapping[str, str]:
        """What readers have been shown so far, by field."""
        guarding = self._run.guarding if self._scope.guards else None
        texts = {}
        for field, state in list(self._released.items()):
            shown = None if guarding is None else guarding.shown(self._identity, field)
            texts[field] = state.text if shown is None else shown
        return texts

    def emit(self, pieces: Sequence[Piece]) -> None:
        wanted, released = self._fields.wanted, self._released
        for piece in pieces:
            field = piece.field
            if isinstance(piece, Text):
                if field in wanted:
                    so_far = released[field]
                    if so_far.typed is not None:
                        self._change(field, so_far.typed.feed(piece.text))
                    self._token(so_far, field, piece.text)
            elif isinstance(piece, Opened):
                self._end_text()
                if field in wanted:
                    self._start(field)
            elif field in released and (typed := released[field].typed) is not None:
                self._change(field, typed.finish())

    def native_text(self, field: str, text: str) -> None:
        """Text that the provider sends apart from the completion's, for a field of its own."""
        if self._continues(field):
            self._token(self._released[field], field, text)

    def native_call(self, field: str, number: int, name: str | None, arguments: str) -> None:
        """A fragment of a native tool call; text may go on after it."""
        if field not in self._released:
            self._begin(field)
            self._calls_open = field
        if self._calls_open == field:
            self._change(field, self._native_calls.add(number, name, arguments))

    def _continues(self, field: str) -> bool:
        """Begin a native field on first use; false once another field has begun after it."""
        if field not in self._released:
            self._end_text()
            self._start(field)
        return self._open == field

    def end_open(self, finish_reason: str | None = None, *, complete: bool = True) -> None:
        """Announce the end of what is open: the reply is over.

        Not already at its closing mark, so that the empty closing token, which carries the finish
        reason, still lies inside the last field.
        """
        calls, self._calls_open = self._calls_open, None
        self._end_text(finish_reason if calls is None else None, complete=complete)
        if calls is not None:
            if complete:
                self._change(calls, self._native_calls.finish())
            self._end(calls, finish_reason, complete=complete)

    def _end_text(self, finish_reason: str | None = None, *, complete: bool = True) -> None:
        """The end of the open field of text: the next one opens, or the reply is over."""
        field, self._open = self._open, None
        if field is not None:
            self._end(field, finish_reason, complete=complete)

    def _end(self, field: str, finish_reason: str | None, *, complete: bool) -> None:
        if finish_reason is not None:
            self._token(self._released[field], field, "", finish_reason)
        so_far = self._released[field]
        self._run.publish(
            FieldEnd, self._scope, self._identity, so_far,
            field=field, length=so_far.length, complete=complete,
        )  # fmt: skip

    def _begin(self, field: str) -> None:
        typed: TypedField | None = TranslatedField()
        if field not in self._fields.translated:
            typed = typed_field(self._fields.adapter, self._fields.annotations.get(field, str))
        self._released[field] = ReleasedText(typed)
        if self._scope.guards:
            self._run.begin_field(self._scope, self._identity, field, self._fields.form_of(field))
        self._run.publish(
            FieldStart, self._scope, self._identity, self._released[field], field=field
        )

    def _start(self, field: str) -> None:
        self._begin(field)
        self._open = field

    def _token(
        self, so_far: ReleasedText, field: str, token: str, finish_reason: str | None = None
    ) -> None:
        if not so_far.tokens:
            self._run.saw_token()
        self._run.publish_token(
            self._scope, self._identity, field, token,
            so_far, finish_reason, self._cached,
        )  # fmt: skip

    def _change(self, field: str, changes: Sequence[Change]) -> None:
        for pointer, value, state, append in changes:
            self._publish(
                FieldPartial, field=field, value=value, state=state, pointer=pointer, append=append
            )

    def _publish(self, kind: type[Any], /, **own: Any) -> None:
        self._run.publish(kind, self._scope, self._identity, **own)

    def deliver_cached(self, text: str) -> None:
        """The completion comes from DSPy's cache: one token per field."""
        self._cached = True
        whole: dict[str, list[str]] = {}
        for piece in (*self.parser.feed(text), *self.parser.finish()):
            if not isinstance(piece, Closed) and piece.field in self._fields.wanted:
                parts = whole.setdefault(piece.field, [])
                if isinstance(piece, Text):
                    parts.append(piece.text)
        for field, parts in whole.items():
            self._deliver_whole(field, "".join(parts))

    def _deliver_whole(self, field: str, text: str) -> None:
        self._start(field)
        self._released[field].typed = None  # its value is delivered whole, too
        if text or self._cached:
            self._token(self._released[field], field, text)
        self.end_open()

    def correct_reply(self, text: str) -> None:
        """The text of a bare call is known, which no predictor settles."""
        released = self._released.get(REPLY_FIELD)
        if released is not None and text not in ("", released.text):
            self._correct(REPLY_FIELD, text, text)

    def settle(self, prediction: Any, settled: set[str]) -> None:
        """The predictor has its value: deliver what did not stream, correct what differs.

        Fields in ``settled`` are left alone; those of this attempt are added to it.
        """
        if not hasattr(prediction, "get"):
            return
        for field in self._fields.names:
            if field in self._fields.wanted and field not in settled:
                value = prediction.get(field, self)
                if value is not self:  # else the program has no such field to compare with
                    self._settle_field(field, value)
        settled.update(self._fields.names)

    def _settle_field(self, field: str, value: Any) -> None:
        annotation = self._fields.annotations.get(field, str)
        released = self._released.get(field)
        if released is None:
            if value is None:
                return
            self._deliver_whole(field, final_text(value) if is_text(annotation) else "")
        if isinstance(value, Iterator):  # whoever looked at it would take from it
            return
        if not is_prose(annotation):
            self._change(field, (Change((), value, COMPLETE),))
        if released is not None and not released.agrees(annotation, value):
            text = final_text(value) if is_text(annotation) else as_text(value)
            self._correct(field, text, value)

    def _correct(self, field: str, text: str, value: Any) -> None:
        own = {"field": field, "text": text, "value": value}
        self._run.publish_change(FieldCorrected, self._scope, self._identity, **own)
