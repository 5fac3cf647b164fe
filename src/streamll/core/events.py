"""The vocabulary: everything a run can say, on one page.

One immutable class per kind. An event carries five things besides its own fields:

* ``seq``: its place in the run, contiguous from 0 (``None`` outside a run);
* ``timestamp``: seconds since the epoch;
* ``identity``: who speaks (run, path, predictor, call, turn, attempt, candidate). One
  ``Identity`` is shared by all events of a call, so a token costs no more than its text;
* ``context``: what ``set_context`` held when the event was created;
* ``extra``: keys of a newer writer that this version does not know, kept for the next reader.

``event.data`` shows the kind's own fields and the context as one read-only mapping.
Durations and ``time_to_first_token`` are seconds; ``offset`` and ``length`` are characters
(Python code points); ``cost`` is US dollars as DSPy estimates it.

This module does not assign ``seq`` (``core.ordering``), does not know JSON (``core.wire``)
and does not import dspy.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from types import MappingProxyType
from typing import Any, ClassVar

import msgspec

NOTHING: Mapping[str, Any] = MappingProxyType({})


class Identity(msgspec.Struct, frozen=True, kw_only=True, repr_omit_defaults=True):
    """Who an event comes from; every field is the default outside a run.

    ``path`` holds the frames from the run's root to here, ``predictor`` the
    ``named_predictors()`` key. ``turn`` counts earlier calls of this predictor under the same
    parent, ``attempt`` the LM requests of this predictor call that were superseded before
    (retry, Chat→JSON fallback), ``candidate`` the completion of ``n``.
    """

    run_id: str | None = None
    path: tuple[str, ...] = ()
    predictor: str | None = None
    call_id: str | None = None
    parent_call_id: str | None = None
    turn: int = 0
    attempt: int = 0
    candidate: int = 0


NOBODY = Identity()


class EventData(Mapping[str, Any]):
    """Read-only view of an event's own fields, with the context beneath them."""

    __slots__ = ("context", "own")

    def __init__(self, own: Mapping[str, Any], context: Mapping[str, Any] = NOTHING) -> None:
        self.own = own
        self.context = context

    def __getitem__(self, key: str) -> Any:
        return self.own[key] if key in self.own else self.context[key]

    def __iter__(self) -> Iterator[str]:
        yield from self.own
        yield from (key for key in self.context if key not in self.own)

    def __len__(self) -> int:
        return len(self.own.keys() | self.context.keys())

    def __repr__(self) -> str:
        return repr(dict(self))


class Event(msgspec.Struct, frozen=True, kw_only=True, repr_omit_defaults=True):
    """What all kinds share. ``isinstance(x, Event)`` holds for everything a run yields."""

    event_type: ClassVar[str] = ""

    seq: int | None = None
    timestamp: float = 0.0
    identity: Identity = NOBODY
    context: Mapping[str, Any] = NOTHING
    extra: Mapping[str, Any] = NOTHING

    @property
    def data(self) -> Mapping[str, Any]:
        own = {name: getattr(self, name) for name in own_fields(type(self))}
        return EventData({**self.extra, **own} if self.extra else own, self.context)

    @property
    def event_id(self) -> str | None:
        """``run_id:seq``, the key readers de-duplicate by; ``None`` outside a run."""
        return None if self.seq is None else f"{self.identity.run_id}:{self.seq}"

    @property
    def run_id(self) -> str | None:
        return self.identity.run_id

    @property
    def path(self) -> tuple[str, ...]:
        return self.identity.path

    @property
    def predictor(self) -> str | None:
        return self.identity.predictor

    @property
    def call_id(self) -> str | None:
        return self.identity.call_id

    @property
    def parent_call_id(self) -> str | None:
        return self.identity.parent_call_id

    @property
    def turn(self) -> int:
        return self.identity.turn

    @property
    def attempt(self) -> int:
        return self.identity.attempt

    @property
    def candidate(self) -> int:
        return self.identity.candidate


SHARED_FIELDS = Event.__struct_fields__


def own_fields(kind: type[Event]) -> tuple[str, ...]:
    """The fields a kind adds to ``Event``, in declaration order."""
    return tuple(name for name in kind.__struct_fields__ if name not in SHARED_FIELDS)


class StreamllEvent(Event, frozen=True, kw_only=True):
    """A custom event of a user's own type.

    Needs nothing but ``event_type`` and ``data``. Inside a run ``data`` becomes an
    ``EventData`` that shows the context as well.
    """

    event_type: str  # type: ignore[misc]
    data: Mapping[str, Any] = NOTHING


class UnknownEvent(StreamllEvent, frozen=True, kw_only=True):
    """A kind that only a newer writer knows; ``data`` holds its own fields."""


# --- the run -------------------------------------------------------------------------------


class RunStart(Event, frozen=True, kw_only=True):
    event_type: ClassVar[str] = "run.start"
    program: str
    inputs: Mapping[str, Any] | None = None  # only when inputs were asked for


class Totals(Event, frozen=True, kw_only=True):
    """What a run used, superseded attempts included."""

    duration: float = 0.0
    time_to_first_token: float | None = None
    lm_calls: int = 0
    prompt_tokens: int = 0
    completion_tokens: int = 0
    cost: float | None = None


class RunEnd(Totals, frozen=True, kw_only=True):
    event_type: ClassVar[str] = "run.end"
    outputs: Mapping[str, Any] | None = None  # only when outputs were asked for


class RunError(Totals, frozen=True, kw_only=True):
    """``partial`` is the streamed text so far, by ``predictor.field``."""

    event_type: ClassVar[str] = "run.error"
    error_type: str
    message: str
    partial: Mapping[str, str] = NOTHING


class RunCancelled(Totals, frozen=True, kw_only=True):
    event_type: ClassVar[str] = "run.cancelled"
    partial: Mapping[str, str] = NOTHING


# --- modules, tools, language models ------------------------------------------------------------


class ModuleStart(Event, frozen=True, kw_only=True):
    event_type: ClassVar[str] = "module.start"
    name: str
    inputs: Mapping[str, Any] | None = None


class ModuleEnd(Event, frozen=True, kw_only=True):
    event_type: ClassVar[str] = "module.end"
    name: str
    duration: float
    outputs: Mapping[str, Any] | None = None


class ModuleError(Event, frozen=True, kw_only=True):
    event_type: ClassVar[str] = "module.error"
    name: str
    duration: float
    error_type: str
    message: str


class ToolStart(Event, frozen=True, kw_only=True):
    event_type: ClassVar[str] = "tool.start"
    name: str
    arguments: Mapping[str, Any] | None = None


class ToolEnd(Event, frozen=True, kw_only=True):
    event_type: ClassVar[str] = "tool.end"
    name: str
    duration: float
    result: Any = None


class ToolError(Event, frozen=True, kw_only=True):
    event_type: ClassVar[str] = "tool.error"
    name: str
    duration: float
    error_type: str
    message: str


class InterpreterStart(Event, frozen=True, kw_only=True):
    """A program runs code the model wrote (ProgramOfThought, CodeAct, RLM)."""

    event_type: ClassVar[str] = "interpreter.start"
    name: str
    code: str | None = None  # only when tools were asked for


class InterpreterEnd(Event, frozen=True, kw_only=True):
    event_type: ClassVar[str] = "interpreter.end"
    name: str
    duration: float
    result: Any = None


class InterpreterError(Event, frozen=True, kw_only=True):
    event_type: ClassVar[str] = "interpreter.error"
    name: str
    duration: float
    error_type: str
    message: str


class LMStart(Event, frozen=True, kw_only=True):
    event_type: ClassVar[str] = "lm.start"
    model: str
    messages: Any = None  # only when prompts were asked for


class LMEnd(Event, frozen=True, kw_only=True):
    """``error_type`` is set when the call failed for good; then usage may be unknown (0)."""

    event_type: ClassVar[str] = "lm.end"
    model: str
    duration: float
    prompt_tokens: int = 0
    completion_tokens: int = 0
    cost: float | None = None
    cached: bool = False
    streamed: bool = False
    time_to_first_token: float | None = None
    finish_reason: str | None = None
    error_type: str | None = None


class LMSuperseded(Event, frozen=True, kw_only=True):
    """Attempt ``identity.attempt`` of this predictor call counts no more: drop its text.

    ``reason`` is the error type that ended it, or ``"fallback"`` for the Chat→JSON fallback.
    """

    event_type: ClassVar[str] = "lm.superseded"
    reason: str


class LMWaiting(Event, frozen=True, kw_only=True):
    """A request waits: ``"connection"`` (pool exhausted), ``"retry"``, or ``"limit"`` (a rate)."""

    event_type: ClassVar[str] = "lm.waiting"
    reason: str
    delay: float | None = None


# --- what the model says ------------------------------------------------------------------------


class FieldStart(Event, frozen=True, kw_only=True):
    event_type: ClassVar[str] = "field.start"
    field: str


class TokenEvent(Event, frozen=True, kw_only=True, gc=False):
    """Text of one output field, decoded, as early as it is certain.

    ``token_index`` counts the tokens of this field call from 0. A merged token stands for
    ``count`` tokens beginning at ``token_index``. ``offset`` is the number of characters of
    this field call before it. ``finish_reason`` is known only after the last text left: an
    empty closing token carries it. ``cached`` marks text that came from DSPy's cache.
    """

    event_type: ClassVar[str] = "token"
    field: str
    token: str
    token_index: int = 0
    offset: int = 0
    count: int = 1
    finish_reason: str | None = None
    cached: bool = False


class FieldPartial(Event, frozen=True, kw_only=True):
    """What is new in a field that is no plain text, valid so far (``core.partials`` adds it up).

    ``value`` stands at ``place`` from now on: the whole value where that is empty. With
    ``append`` it is added to what stands there, text to text and members to an object.
    Everything inside ``value`` is complete; the place itself is in ``state`` (``"partial"`` or
    ``"complete"``), all above it are partial, and what has not come yet is pending. The last
    one of a call has the whole value as the program returns it.
    """

    event_type: ClassVar[str] = "field.partial"
    field: str
    value: Any
    state: str = "partial"
    place: tuple[str | int, ...] = ()
    append: bool = False


class FieldEnd(Event, frozen=True, kw_only=True):
    """``complete`` is false where the attempt failed before the field had ended."""

    event_type: ClassVar[str] = "field.end"
    field: str
    length: int
    complete: bool = True


class FieldCorrected(Event, frozen=True, kw_only=True):
    """The program's value of the field is not the text that was streamed; this is."""

    event_type: ClassVar[str] = "field.corrected"
    field: str
    text: str
    value: Any = None


class Thinking(Event, frozen=True, kw_only=True):
    event_type: ClassVar[str] = "thinking"
    text: str
    index: int = 0


class ToolCallDelta(Event, frozen=True, kw_only=True):
    """A native tool call as the model writes it; ``arguments`` is a JSON fragment."""

    event_type: ClassVar[str] = "tool_call.delta"
    index: int
    name: str | None = None
    arguments: str = ""


class Citation(Event, frozen=True, kw_only=True):
    event_type: ClassVar[str] = "citation"
    text: str | None = None
    title: str | None = None
    url: str | None = None


class Refusal(Event, frozen=True, kw_only=True):
    """The provider says that the model will not answer; ``text`` is a piece of its reason."""

    event_type: ClassVar[str] = "refusal"
    text: str


class ReplyPart(Event, frozen=True, kw_only=True):
    """A part of the reply that is no text (an image, sound, a file): where it is, not its bytes.

    ``size`` is the number of bytes where the reply holds them itself.
    """

    event_type: ClassVar[str] = "reply.part"
    kind: str
    media_type: str | None = None
    url: str | None = None
    size: int | None = None


# --- what the program says ----------------------------------------------------------------------


class Status(Event, frozen=True, kw_only=True):
    event_type: ClassVar[str] = "status"
    message: str


class TraceStart(Event, frozen=True, kw_only=True):
    event_type: ClassVar[str] = "trace.start"
    name: str
    trace_id: str
    parent_trace_id: str | None = None


class TraceEnd(Event, frozen=True, kw_only=True):
    event_type: ClassVar[str] = "trace.end"
    name: str
    trace_id: str
    duration: float
    parent_trace_id: str | None = None
    error_type: str | None = None


class StreamGap(Event, frozen=True, kw_only=True):
    """``count`` events were lost before this one. Has no ``seq`` of its own."""

    event_type: ClassVar[str] = "stream.gap"
    count: int
    reason: str


KINDS: Mapping[str, type[Event]] = MappingProxyType(
    {
        kind.event_type: kind
        for kind in (
            RunStart, RunEnd, RunError, RunCancelled,
            ModuleStart, ModuleEnd, ModuleError,
            ToolStart, ToolEnd, ToolError,
            InterpreterStart, InterpreterEnd, InterpreterError,
            LMStart, LMEnd, LMSuperseded, LMWaiting,
            FieldStart, TokenEvent, FieldPartial, FieldEnd, FieldCorrected,
            Thinking, ToolCallDelta, Citation, Refusal, ReplyPart,
            Status, TraceStart, TraceEnd, StreamGap,
        )
    }
)  # fmt: skip
TERMINAL = frozenset({"run.end", "run.error", "run.cancelled"})
