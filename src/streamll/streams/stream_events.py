"""``StreamEvent``: a run reduced to four kinds of item, for use in ``match``.

They are names for events of the run, not a second model: ``.event`` is the event behind each.
The text that counts is that of all tokens since the last ``Reset``.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar

from streamll.core.events import (
    NOTHING,
    Event,
    FieldCorrected,
    LMSuperseded,
    RunEnd,
    RunError,
    TokenEvent,
)
from streamll.core.run_view import RunView


class StreamEvent:
    """One of ``Token(text)``, ``Done()``, ``Error(error)``, ``Reset()``."""

    Token: ClassVar[type[Token]]
    Done: ClassVar[type[Done]]
    Error: ClassVar[type[Error]]
    Reset: ClassVar[type[Reset]]

    __slots__ = ("event",)
    __match_args__: ClassVar[tuple[str, ...]] = ()

    def __init__(self, event: Event | None = None) -> None:
        self.event = event

    def _own(self) -> tuple[Any, ...]:
        return tuple(getattr(self, name) for name in self.__match_args__)

    def __eq__(self, other: object) -> bool:
        return type(self) is type(other) and self._own() == other._own()

    def __hash__(self) -> int:
        return hash((type(self), self._own()))

    def __repr__(self) -> str:
        return f"{type(self).__name__}({', '.join(map(repr, self._own()))})"


class Token(StreamEvent):
    """``text`` of one field, ``event.field``. ``event`` is ``None`` for text that is repeated after
    a ``Reset`` because it still counts.
    """

    __slots__ = ("text",)
    __match_args__ = ("text",)

    def __init__(self, text: str, event: TokenEvent | None = None) -> None:
        super().__init__(event)
        self.text = text

    @property
    def field(self) -> str | None:
        return getattr(self.event, "field", None)


class Done(StreamEvent):
    """The program has succeeded; ``prediction`` is what it returned."""

    __slots__ = ("prediction",)

    def __init__(self, prediction: Any = None, event: RunEnd | None = None) -> None:
        super().__init__(event)
        self.prediction = prediction


class Error(StreamEvent):
    """``error`` ended the program. ``partial`` is the text until then, by ``predictor.field``."""

    __slots__ = ("error", "partial")
    __match_args__ = ("error",)

    def __init__(
        self,
        error: BaseException,
        partial: Mapping[str, str] = NOTHING,
        event: RunError | None = None,
    ) -> None:
        super().__init__(event)
        self.error = error
        self.partial = partial


class Reset(StreamEvent):
    """Discard the text so far: an attempt was superseded, or a field was corrected.

    What still counts of it follows as ``Token``. ``reason`` is the name of the error that ended
    the attempt, ``"fallback"``, or ``"corrected"``.
    """

    __slots__ = ("reason",)

    def __init__(self, reason: str = "", event: Event | None = None) -> None:
        super().__init__(event)
        self.reason = reason


StreamEvent.Token = Token
StreamEvent.Done = Done
StreamEvent.Error = Error
StreamEvent.Reset = Reset


class Translator:
    """Translates the events of a run; its ends are ``done`` and ``failed``."""

    def __init__(self) -> None:
        self._view = RunView()

    def feed(self, event: Event) -> list[StreamEvent]:
        if isinstance(event, (LMSuperseded, FieldCorrected)):
            return self._changed(event)
        self._view.feed(event)
        if isinstance(event, TokenEvent) and event.token:
            return [Token(event.token, event)]
        return []

    def _changed(self, event: LMSuperseded | FieldCorrected) -> list[StreamEvent]:
        before = self._view.whole_text()
        self._view.feed(event)
        kept = self._view.whole_text()
        if kept == before:
            return []
        reason = event.reason if isinstance(event, LMSuperseded) else "corrected"
        reset = Reset(reason, event)
        return [reset, Token(kept)] if kept else [reset]

    def done(self, prediction: Any) -> Done:
        end = self._view.end
        return Done(prediction, end if isinstance(end, RunEnd) else None)

    def failed(self, error: BaseException) -> Error:
        end = self._view.end
        return Error(error, self._view.named_texts(), end if isinstance(end, RunError) else None)


def text_of(item: Any) -> str | None:
    """The text an item carries: a string, a token event, a ``Token``; ``None`` for others."""
    if isinstance(item, str):
        return item
    if isinstance(item, TokenEvent):
        return item.token
    if isinstance(item, Token):
        return item.text
    return None


def event_of(item: Any) -> Event | None:
    """The event an item is, or is a name for."""
    if isinstance(item, Event):
        return item
    event = getattr(item, "event", None)
    return event if isinstance(event, Event) else None
