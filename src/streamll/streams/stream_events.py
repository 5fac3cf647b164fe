"""``StreamEvent``: a run reduced to four kinds of item, for use in ``match``.

They are names for events of the run, not a second model: ``.event`` is the event behind each.
The text that counts is that of all tokens since the last ``Reset``.
"""

from __future__ import annotations

from collections.abc import Hashable, Mapping
from dataclasses import dataclass, field, fields
from typing import Any, ClassVar

from streamll.core import events as ev
from streamll.core.events import Event, TokenEvent
from streamll.core.run_view import RunView, named


class StreamEvent:
    """One of ``Token(text)``, ``Done()``, ``Error(error)``, ``Reset()``."""

    Token: ClassVar[type[Token]]
    Done: ClassVar[type[Done]]
    Error: ClassVar[type[Error]]
    Reset: ClassVar[type[Reset]]

    __slots__ = ()
    event: Event | None

    def __repr__(self) -> str:
        """Without what does not count when two are compared."""
        own = [repr(getattr(self, each.name)) for each in fields(self) if each.compare]  # type: ignore[arg-type]
        return f"{type(self).__name__}({', '.join(own)})"


@dataclass(slots=True, unsafe_hash=True, repr=False)
class Token(StreamEvent):
    """``text`` of one field, ``event.field``. ``event`` is ``None`` for text that is repeated after
    a ``Reset`` because it still counts.
    """

    text: str
    event: TokenEvent | None = field(default=None, compare=False)

    @property
    def field(self) -> str | None:
        return getattr(self.event, "field", None)


@dataclass(slots=True, unsafe_hash=True, repr=False)
class Done(StreamEvent):
    """The program has succeeded; ``prediction`` is what it returned."""

    prediction: Any = field(default=None, compare=False)
    event: ev.RunEnd | None = field(default=None, compare=False)


@dataclass(slots=True, unsafe_hash=True, repr=False)
class Error(StreamEvent):
    """``error`` ended the program. ``partial`` is the text until then, by ``predictor.field``; where
    the last attempt said nothing, that of the one before, which a ``Reset`` has taken back.
    """

    error: BaseException
    partial: Mapping[str, str] = field(default_factory=dict, compare=False)
    event: ev.RunError | None = field(default=None, compare=False)


@dataclass(slots=True, unsafe_hash=True, repr=False)
class Reset(StreamEvent):
    """Discard the text so far: an attempt was superseded, or a field was corrected.

    What still counts of it follows as ``Token``. ``reason`` is the name of the error that ended
    the attempt, ``"fallback"``, or ``"corrected"``.
    """

    reason: str = field(default="", compare=False)
    event: Event | None = field(default=None, compare=False)


StreamEvent.Token = Token
StreamEvent.Done = Done
StreamEvent.Error = Error
StreamEvent.Reset = Reset


class Translator:
    """Translates the events of a run; its ends are ``done`` and ``failed``."""

    def __init__(self) -> None:
        self._view = RunView()

    def feed(self, event: Event) -> list[StreamEvent]:
        if isinstance(event, (ev.LMSuperseded, ev.FieldCorrected)):
            return self._changed(event)
        self._view.feed(event)
        if isinstance(event, TokenEvent) and event.token:
            return [Token(event.token, event)]
        return []

    def _changed(self, event: ev.LMSuperseded | ev.FieldCorrected) -> list[StreamEvent]:
        before = self._view.whole_text()
        self._view.feed(event)
        kept = self._view.whole_text()
        if kept == before:
            return []
        reason = event.reason if isinstance(event, ev.LMSuperseded) else "corrected"
        reset = Reset(reason, event)
        return [reset, Token(kept)] if kept else [reset]

    def done(self, prediction: Any) -> Done:
        end = self._view.end
        return Done(prediction, end if isinstance(end, ev.RunEnd) else None)

    def failed(self, error: BaseException) -> Error:
        end = self._view.end
        partial = named(self._view.last_texts())
        return Error(error, partial, end if isinstance(end, ev.RunError) else None)


def token_of(event: Event, field: str | None) -> str:
    """The event's text if it is a token of ``field`` (``None``: of any); else nothing."""
    if isinstance(event, TokenEvent) and (
        field is None or field in (event.field, f"{event.predictor}.{event.field}")
    ):
        return event.token
    return ""


def text_of(item: Any) -> str | None:
    """The text an item carries; ``None`` for others.

    That of a string, a token event, a ``Token``, a ``StreamResponse`` of ``streamify``.
    """
    if isinstance(item, str):
        return item
    if isinstance(item, TokenEvent):
        return item.token
    if isinstance(item, Token):
        return item.text
    return item.chunk if is_response(item) else None


def is_response(item: Any) -> bool:
    """Whether this is a piece of a field as DSPy's or our ``streamify`` yields it."""
    has_field = hasattr(type(item), "__dataclass_fields__") and hasattr(
        item, "signature_field_name"
    )
    return has_field and isinstance(item.chunk, str)


def is_reset(item: Any) -> bool:
    """Whether ``streamify`` takes back a field's text with this response; its ``text`` stands instead."""
    return is_response(item) and hasattr(item, "reason")


def event_of(item: Any) -> Event | None:
    """The event an item is, or is a name for."""
    if isinstance(item, Event):
        return item
    event = getattr(item, "event", None)
    return event if isinstance(event, Event) else None


def author_of(item: Any) -> Hashable:
    """What a piece's text must share: no piece spans two fields."""
    event = event_of(item)
    if isinstance(event, TokenEvent):
        return (event.identity, event.field)
    if is_response(item):
        call = getattr(item, "call_id", None)  # DSPy's own has none
        return (item.predict_name, item.signature_field_name, call)
    return type(item).__name__
