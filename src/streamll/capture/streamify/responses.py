"""What the reader of a streamified call gets: DSPy's classes, translated from a run's events."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from typing import Any

from dspy.streaming import StreamResponse as DSPyStreamResponse

from streamll.capture.run.status import StatusMessage
from streamll.capture.streamify.listeners import Target, TargetIndex
from streamll.core import events as ev
from streamll.core.events import NOBODY, Event, Identity
from streamll.core.partials import Partials
from streamll.core.visitor import EventVisitor
from streamll.flow.channel import Channel

READER_BUFFER_ITEMS = 100
"""How far a reader may fall behind before the tap stops reading the provider's socket."""


class StreamResponse(DSPyStreamResponse):  # type: ignore[misc]
    """DSPy's chunk of a field, with the identity of the call it comes from.

    ``predict_name`` and ``signature_field_name`` say which field; ``chunk`` is its next text,
    decoded. ``is_last_chunk`` is true once per text field, on an empty chunk.

    ``value`` is what a typed field holds so far, if its listener has ``values=True``. It is the
    same object in every response and grows: copy it to keep it.
    """

    identity: Identity = NOBODY
    value: Any = None

    @property
    def turn(self) -> int:
        """How many calls of the predictor came before, under the same parent."""
        return self.identity.turn

    @property
    def attempt(self) -> int:
        """How many attempts of this call were superseded before."""
        return self.identity.attempt

    @property
    def call_id(self) -> str | None:
        """The call, which tells concurrent calls apart; ``None`` outside a run."""
        return self.identity.call_id

    def __eq__(self, other: object) -> bool:
        """A chunk equals DSPy's of the same content."""
        if not isinstance(other, DSPyStreamResponse):
            return NotImplemented
        return _content(self) == _content(other)

    __hash__ = None  # type: ignore[assignment]


class StreamReset(StreamResponse):
    """``text`` replaces everything streamed of this field in this call so far.

    Sent when an attempt is superseded (a retry, the fallback to JSON): ``text`` is empty and the
    field begins anew. Also sent when the program's value differs from the streamed text (a reply
    that had to be repaired): ``text`` is the value. The chunk is empty, so readers that join chunks
    and do not know resets get no text twice.
    """

    text: str = ""
    reason: str = ""


def _content(chunk: DSPyStreamResponse) -> tuple[Any, ...]:
    kind = chunk.text if isinstance(chunk, StreamReset) else None
    return (
        chunk.predict_name, chunk.signature_field_name, chunk.chunk, chunk.is_last_chunk, kind,
    )  # fmt: skip


class NativeValue(Event, frozen=True, kw_only=True):
    """A value that the provider sends apart from the text: reasoning, citations. Never published."""

    field: str
    value: Any


class EventTranslator(EventVisitor):
    """Translates the items of one streamified call, in order, into what ``dspy.streamify`` yields.

    Items that are not events of this package, such as the program's own chunks, pass unchanged.
    """

    def __init__(self, index: TargetIndex) -> None:
        self._index = index
        self._partials = Partials()
        self._first: dict[str | None, dict[str, Event]] = {}  # call -> field -> its first event
        self.streamed = False
        """Something of a field was streamed."""
        self.cached = False
        """A field came from DSPy's cache, so it was not streamed."""

    def concerns(self, event: Event) -> bool:
        """Whether the reader gets anything for this event; asked before it is queued."""
        if type(event) not in self.handlers:
            return isinstance(event, ev.StreamllEvent)
        if not hasattr(event, "field"):
            return True
        targets = self._targets(event)
        if isinstance(event, ev.FieldPartial):
            return any(target.values for target in targets)
        return bool(targets)

    def __call__(self, item: Any) -> Iterable[Any]:
        if type(item) in self.handlers:
            return self.visit(item)  # type: ignore[no-any-return]
        return self._native(item) if isinstance(item, NativeValue) else (item,)

    def _targets(self, event: Any) -> Sequence[Target]:
        return self._index.find(event.predictor, event.field)

    def _responses(
        self,
        event: Any,
        chunk: Any,
        last: bool = False,
        kind: type[StreamResponse] = StreamResponse,
    ) -> Iterator[Any]:
        for target in self._targets(event):
            name = event.predictor if target.name is None else target.name
            response = kind(name, event.field, chunk, last)
            response.identity = event.identity
            value = self._partials.of(event, event.field) if self._index.has_values else None
            if value is not None:
                response.value = value.value
            yield response

    def _resets(self, event: Any, identity: Identity, reason: str, text: str = "") -> Iterator[Any]:
        for reset in self._responses(event, "", kind=StreamReset):
            reset.identity, reset.reason, reset.text = identity, reason, text
            yield reset

    def _first_of(self, event: Any) -> Event:
        return self._first.setdefault(event.call_id, {}).setdefault(event.field, event)

    def on_field_partial(self, event: ev.FieldPartial) -> Iterator[Any]:
        """The token it came with follows and has the value; native tool calls have no tokens."""
        self._partials.feed(event)
        if event.field not in self._first.get(event.call_id, ()):
            yield from self._responses(event, "")

    def on_token(self, event: ev.TokenEvent) -> Iterator[Any]:
        first = self._first_of(event)
        if event.cached:
            self.cached = True
        elif event.token and not isinstance(first, NativeValue):
            self.streamed = True
            yield from self._responses(event, event.token)

    def on_field_end(self, event: ev.FieldEnd) -> Iterator[Any]:
        first = self._first_of(event)
        if event.complete and not isinstance(first, NativeValue) and not _is_cached(first):
            self.streamed = True
            yield from self._responses(event, "", last=True)

    def on_field_corrected(self, event: ev.FieldCorrected) -> Iterator[Any]:
        first = self._first.get(event.call_id, {}).get(event.field)
        if first is not None and not _is_cached(first):
            yield from self._resets(event, event.identity, "corrected", event.text)

    def on_lm_superseded(self, event: ev.LMSuperseded) -> Iterator[Any]:
        if self._index.is_empty:  # the reader gets raw chunks
            reset = StreamReset(event.predictor, "", "", is_last_chunk=False)
            reset.identity, reset.reason = event.identity, event.reason
            yield reset
        for first in self._first.pop(event.call_id, {}).values():
            yield from self._resets(first, event.identity, event.reason)

    def _native(self, native: NativeValue) -> Iterator[Any]:
        self._first_of(native)
        self.streamed = True
        yield from self._responses(native, native.value)

    def on_status(self, event: ev.Status) -> Iterator[Any]:
        yield StatusMessage(event.message)

    def on_lm_waiting(self, event: ev.LMWaiting) -> Iterator[Any]:
        what = "a free connection to" if event.reason == "connection" else "another attempt at"
        yield StatusMessage(f"Waiting for {what} the language model...")

    def on_stream_gap(self, event: ev.StreamGap) -> Iterator[Any]:
        yield StatusMessage(f"{event.count} messages were left out: they came too fast to be read.")


def _is_cached(event: Event) -> bool:
    return getattr(event, "cached", False)


class ReaderQueue(Channel[Any]):
    """The queue to the reader, for the events it will see and for items that are no events."""

    def __init__(self, translator: EventTranslator) -> None:
        super().__init__(READER_BUFFER_ITEMS, "block", name="streamify")
        self._concerns = translator.concerns

    def put(self, event: Event) -> None:
        if self._concerns(event):
            super().put(event)

    put_item = Channel.put
