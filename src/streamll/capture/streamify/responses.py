"""What the reader of a streamified call gets: DSPy's classes, made from a run's events."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any

from dspy.streaming import StreamResponse as DSPyStreamResponse

from streamll.capture.run.status import StatusMessage
from streamll.core.events import (
    NOBODY,
    Event,
    FieldCorrected,
    FieldEnd,
    FieldPartial,
    Identity,
    LMSuperseded,
    LMWaiting,
    Status,
    StreamGap,
    StreamllEvent,
    TokenEvent,
)
from streamll.core.partials import Partials
from streamll.flow.channel import Channel

BUFFER_SIZE = 100
"""Items a reader may lie behind before the program stops reading the provider's socket."""


class StreamResponse(DSPyStreamResponse):  # type: ignore[misc]
    """DSPy's chunk of a field, which also knows the call it comes from.

    ``turn`` counts earlier calls of the predictor under the same parent (the turns of a ReAct
    loop), ``attempt`` the attempts that were given up before this one, ``call_id`` tells calls
    apart that run at once. ``is_last_chunk`` is true once per text field, on an empty chunk.

    ``value`` is what the field holds so far, where its listener asked for it (``values=True``)
    and the field is no plain text. It goes on growing: copy it to keep it.
    """

    identity: Identity = NOBODY
    value: Any = None

    @property
    def turn(self) -> int:
        return self.identity.turn

    @property
    def attempt(self) -> int:
        return self.identity.attempt

    @property
    def call_id(self) -> str | None:
        return self.identity.call_id

    def __eq__(self, other: object) -> bool:
        """A chunk equals DSPy's of the same content."""
        if not isinstance(other, DSPyStreamResponse):
            return NotImplemented
        return _content(self) == _content(other)

    __hash__ = None  # type: ignore[assignment]


class StreamReset(StreamResponse):
    """What was said of this field in this call does not count; ``text`` does instead.

    Comes where an attempt is given up (a retry, the fallback to JSON): ``text`` is empty and
    the field begins anew. And where the program's value is not what was streamed (a reply that
    had to be repaired): then ``text`` is the value. Its chunk is empty, so that a reader that
    joins chunks and knows nothing of resets is not disturbed.
    """

    text: str = ""
    reason: str = ""

    def __eq__(self, other: object) -> bool:
        return isinstance(other, StreamReset) and _content(self) == _content(other)

    __hash__ = None


def _content(chunk: DSPyStreamResponse) -> tuple[Any, ...]:
    kind = chunk.text if isinstance(chunk, StreamReset) else None
    return (
        chunk.predict_name, chunk.signature_field_name, chunk.chunk, chunk.is_last_chunk, kind,
    )  # fmt: skip


Names = Mapping[tuple[str | None, str], tuple[str | None, ...]]
"""(the run's name of a predictor, field) -> what its listeners call the predictor.

``None`` as the run's name stands for every predictor, as a listener's for what the run calls it.
"""

HEARD = frozenset(
    {TokenEvent, FieldEnd, FieldCorrected, LMSuperseded, LMWaiting, Status, StreamGap}
)
OF_A_FIELD = frozenset({TokenEvent, FieldEnd, FieldCorrected})


class Translation:
    """The events of one streamified call, in order, as what ``dspy.streamify`` yields.

    Items that are no events of this package are handed on: chunks of the program's own.
    """

    def __init__(
        self, names: Names, *, raw: bool = False, valued: Iterable[tuple[str | None, str]] = ()
    ) -> None:
        self._names = names
        self._valued = frozenset(valued)  # of which responses have the value
        self._partials = Partials()
        self._raw = raw  # the reader gets LM chunks as such
        self._spoken: dict[str | None, dict[str, Event]] = {}  # call -> field -> first event
        self.streamed = False
        """Something of a field was streamed."""
        self.cached = False
        """A field came out of DSPy's cache, so it was not streamed."""

    def concerns(self, event: Event) -> bool:
        """Whether this event can become anything; asked before it is queued."""
        kind = type(event)
        if kind in OF_A_FIELD:
            return bool(self._listeners(event))
        if kind is FieldPartial:
            return self._is_valued(event)
        return kind in HEARD or isinstance(event, StreamllEvent)

    def __call__(self, item: Any) -> Iterator[Any]:
        translate = _TRANSLATIONS.get(type(item))
        return iter((item,)) if translate is None else translate(self, item)

    def _listeners(self, event: Any) -> tuple[str | None, ...]:
        names = self._names
        return names.get((event.predictor, event.field)) or names.get((None, event.field), ())

    def _is_valued(self, event: Any) -> bool:
        valued = self._valued
        return (event.predictor, event.field) in valued or (None, event.field) in valued

    def _responses(
        self,
        event: Any,
        chunk: Any,
        last: bool = False,
        kind: type[StreamResponse] = StreamResponse,
    ) -> Iterator[Any]:
        for name in self._listeners(event):
            response = kind(event.predictor if name is None else name, event.field, chunk, last)
            response.identity = event.identity
            if self._valued and (value := self._partials.of(event, event.field)) is not None:
                response.value = value.value
            yield response

    def _partial(self, event: FieldPartial) -> Iterator[Any]:
        """Said by the token it came with, which follows; native tool calls have none."""
        self._partials.feed(event)
        if event.field not in self._spoken.get(event.call_id, ()):
            yield from self._responses(event, "")

    def _token(self, event: TokenEvent) -> Iterator[Any]:
        first = self._spoken.setdefault(event.call_id, {}).setdefault(event.field, event)
        if event.cached:
            self.cached = True
        elif event.token and not isinstance(first, Native):
            self.streamed = True
            yield from self._responses(event, event.token)

    def _field_end(self, event: FieldEnd) -> Iterator[Any]:
        first = self._spoken.setdefault(event.call_id, {}).setdefault(event.field, event)
        if event.complete and not isinstance(first, Native) and not getattr(first, "cached", False):
            self.streamed = True
            yield from self._responses(event, "", last=True)

    def _corrected(self, event: FieldCorrected) -> Iterator[Any]:
        first = self._spoken.get(event.call_id, {}).get(event.field)
        if first is None or getattr(first, "cached", False):
            return
        for reset in self._responses(event, "", kind=StreamReset):
            reset.text, reset.reason = event.text, "corrected"
            yield reset

    def _superseded(self, event: LMSuperseded) -> Iterator[Any]:
        if self._raw:
            reset = StreamReset(event.predictor, "", "", is_last_chunk=False)
            reset.identity, reset.reason = event.identity, event.reason
            yield reset
        for first in self._spoken.pop(event.call_id, {}).values():
            for reset in self._responses(first, "", kind=StreamReset):
                reset.identity, reset.reason = event.identity, event.reason
                yield reset

    def _native(self, native: Native) -> Iterator[Any]:
        self._spoken.setdefault(native.call_id, {}).setdefault(native.field, native)
        self.streamed = True
        yield from self._responses(native, native.value)

    def _status(self, event: Status) -> Iterator[Any]:
        yield StatusMessage(event.message)

    def _waiting(self, event: LMWaiting) -> Iterator[Any]:
        what = "a free connection to" if event.reason == "connection" else "another attempt at"
        yield StatusMessage(f"Waiting for {what} the language model...")

    def _gap(self, event: StreamGap) -> Iterator[Any]:
        yield StatusMessage(f"{event.count} messages were left out: they came too fast to be read.")


class Output(Channel[Any]):
    """The queue to the reader: of a run's events those that it will see, and what is said directly."""

    def __init__(self, translation: Translation) -> None:
        super().__init__(BUFFER_SIZE, "block", name="streamify")
        self._concerns = translation.concerns

    def put(self, event: Event) -> None:
        if self._concerns(event):
            super().put(event)

    say = Channel.put


class Native(Event, frozen=True, kw_only=True):
    """A value that the provider sends apart from the text: reasoning, citations. Never published."""

    field: str
    value: Any


_TRANSLATIONS: Mapping[type, Callable[[Translation, Any], Iterator[Any]]] = {
    FieldPartial: Translation._partial,  # noqa: SLF001 - this class's own table
    TokenEvent: Translation._token,  # noqa: SLF001 - this class's own table
    FieldEnd: Translation._field_end,  # noqa: SLF001
    FieldCorrected: Translation._corrected,  # noqa: SLF001
    LMSuperseded: Translation._superseded,  # noqa: SLF001
    Native: Translation._native,  # noqa: SLF001
    Status: Translation._status,  # noqa: SLF001
    LMWaiting: Translation._waiting,  # noqa: SLF001
    StreamGap: Translation._gap,  # noqa: SLF001
}
