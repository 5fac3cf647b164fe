"""The vocabulary: every event of a run, on one page.

One immutable class per kind. An event carries five things besides its own fields:

* ``seq``: its number within the run, contiguous from 0 (``None`` outside a run);
* ``timestamp``: seconds since the epoch;
* ``identity``: where it comes from (run, path, predictor, call, turn, attempt, candidate). One
  ``Identity`` is shared by all events of a call, so a token costs no more than its text;
* ``context``: what ``set_context`` held when the event was created;
* ``extra``: keys of a newer writer that this version does not know, kept for the next reader.

``event.data`` is a read-only mapping of the kind's own fields and the context.
Durations and ``time_to_first_token`` are in seconds; ``offset`` and ``length`` are in characters
(Python code points); ``cost`` is in US dollars as DSPy estimates it. Tokens are as the provider counts
them, ``None`` where that is not known (``core.usage``).

Each class also states its part in the order of events, as class attributes: what it ``opens`` or
``closes``, and what must be open around it (``inside``). ``core.ordering`` checks that order;
``RunView`` and others derive from it what is still open.

This module does not assign ``seq`` (``core.ordering``), does not know JSON (``core.wire``)
and does not import dspy.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from operator import attrgetter
from types import MappingProxyType
from typing import Any, ClassVar, TypeVar

import msgspec

from streamll.core.usage import ModelUsage

NOTHING: Mapping[str, Any] = MappingProxyType({})
T = TypeVar("T")


class Identity(msgspec.Struct, frozen=True, kw_only=True, repr_omit_defaults=True):
    """Where an event comes from; outside a run every field has its default.

    ``path`` holds the frames from the run's root to here, ``predictor`` the
    ``named_predictors()`` key. ``turn`` counts earlier calls of this predictor under the same
    parent, ``attempt`` the earlier LM requests of this predictor call that were superseded
    (retry, Chat→JSON fallback); ``candidate`` is the index of the completion where ``n > 1``.
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
AGENT = "agent"
"""``kind`` of a module that has tools."""


def _from_identity(member: T) -> T:
    """A property of events that reads this member of their identity."""
    name = member.__name__  # type: ignore[attr-defined]
    return property(attrgetter(f"identity.{name}"))  # type: ignore[return-value]


class EventData(Mapping[str, Any]):
    """Read-only view of an event's own fields, with the context below them."""

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
    opens: ClassVar[str] = ""
    """What begins with this event: ``"run"``, ``"trace"``, one of ``CALLS``, ``"field"``."""
    closes: ClassVar[str] = ""
    """What ends with this event; each opened thing is closed exactly once."""
    inside: ClassVar[str] = "run"
    """What must be open around it: ``"run"``, ``"field"``, ``"call"`` (the event's own call) or, for a
    call of one kind alone, one of ``CALLS``.
    """

    seq: int | None = None
    timestamp: float = 0.0
    identity: Identity = NOBODY
    context: Mapping[str, Any] = NOTHING
    extra: Mapping[str, Any] = NOTHING

    @property
    def data(self) -> Mapping[str, Any]:
        """The kind's own fields, ``extra`` and the context, as one read-only mapping."""
        own = {name: getattr(self, name) for name in own_fields(type(self))}
        return EventData({**self.extra, **own} if self.extra else own, self.context)

    @property
    def event_id(self) -> str | None:
        """``run_id:seq``, the key readers de-duplicate by; ``None`` outside a run."""
        return None if self.seq is None else f"{self.identity.run_id}:{self.seq}"

    run_id = _from_identity(Identity.run_id)
    path = _from_identity(Identity.path)
    predictor = _from_identity(Identity.predictor)
    call_id = _from_identity(Identity.call_id)
    parent_call_id = _from_identity(Identity.parent_call_id)
    turn = _from_identity(Identity.turn)
    attempt = _from_identity(Identity.attempt)
    candidate = _from_identity(Identity.candidate)


SHARED_FIELDS = Event.__struct_fields__
_kinds: dict[str, type[Event]] = {}
KINDS: Mapping[str, type[Event]] = MappingProxyType(_kinds)
"""The classes below by their ``event_type``."""
K = TypeVar("K", bound=type[Event])


def _kind(event_type: str, **order: str) -> Callable[[K], K]:
    """Name a class below, and state what it ``opens``, ``closes`` or must be ``inside`` of."""

    def register(cls: K) -> K:
        cls.event_type = event_type
        for rule, scope in order.items():
            setattr(cls, rule, scope)
        _kinds[event_type] = cls
        return cls

    return register


def own_fields(kind: type[Event]) -> tuple[str, ...]:
    """The fields a kind adds to ``Event``, in declaration order."""
    return tuple(name for name in kind.__struct_fields__ if name not in SHARED_FIELDS)


class StreamllEvent(Event, frozen=True, kw_only=True):
    """An event of a user's own type.

    Only ``event_type`` and ``data`` need to be given. Inside a run ``data`` becomes an
    ``EventData``, which includes the context.
    """

    event_type: str  # type: ignore[misc]
    data: Mapping[str, Any] = NOTHING


class UnknownEvent(StreamllEvent, frozen=True, kw_only=True):
    """A kind this version does not know (a newer writer's); ``data`` holds its own fields."""


# --- the run -------------------------------------------------------------------------------


@_kind("run.start", opens="run", inside="")
class RunStart(Event, frozen=True, kw_only=True):
    """The outermost captured call of ``program`` begins."""

    program: str
    inputs: Mapping[str, Any] | None = None  # only when inputs were asked for


class Totals(Event, frozen=True, kw_only=True):
    """What a run used, superseded attempts included; the base of the three last events.

    ``time_to_first_token`` is the reader's: from the run's start to the first token of any field,
    with all that the program did before. A count of tokens is ``None`` where any part of it is not
    known; what was reported all the same is in ``usage``, by model. ``waited`` are the seconds of
    ``duration`` in which the run had asked a person something.
    """

    duration: float = 0.0
    time_to_first_token: float | None = None
    lm_calls: int = 0
    prompt_tokens: int | None = None
    completion_tokens: int | None = None
    cost: float | None = None
    cache_read_tokens: int | None = None
    cache_write_tokens: int | None = None
    reasoning_tokens: int | None = None
    usage: tuple[ModelUsage, ...] = ()
    waited: float = 0.0


@_kind("run.end", closes="run")
class RunEnd(Totals, frozen=True, kw_only=True):
    """The run has returned."""

    outputs: Mapping[str, Any] | None = None  # only when outputs were asked for


@_kind("run.error", closes="run")
class RunError(Totals, frozen=True, kw_only=True):
    """``partial`` is the text of unfinished calls streamed so far, by ``predictor.field``."""

    error_type: str
    message: str
    partial: Mapping[str, str] = NOTHING


@_kind("run.cancelled", closes="run")
class RunCancelled(Totals, frozen=True, kw_only=True):
    """The run's reader left before the end; ``partial`` as in ``RunError``."""

    partial: Mapping[str, str] = NOTHING


# --- modules, tools, language models ------------------------------------------------------------


@_kind("module.start", opens="module")
class ModuleStart(Event, frozen=True, kw_only=True):
    """The module ``name`` is called; it is of kind ``"agent"`` if it has tools to call."""

    name: str
    inputs: Mapping[str, Any] | None = None
    kind: str = "module"


@_kind("module.end", closes="module")
class ModuleEnd(Event, frozen=True, kw_only=True):
    """The module has returned, after ``duration`` seconds."""

    name: str
    duration: float
    outputs: Mapping[str, Any] | None = None


@_kind("module.error", closes="module")
class ModuleError(Event, frozen=True, kw_only=True):
    """The module has raised, after ``duration`` seconds."""

    name: str
    duration: float
    error_type: str
    message: str


@_kind("tool.start", opens="tool")
class ToolStart(Event, frozen=True, kw_only=True):
    """A tool is called; of kind ``"interpreter"``, code is run that the model wrote.

    ``ProgramOfThought``, ``CodeAct`` and ``RLM`` run such code; it is ``arguments["code"]``.
    """

    name: str
    kind: str = "tool"
    arguments: Mapping[str, Any] | None = None  # only when tools were asked for


@_kind("tool.end", closes="tool")
class ToolEnd(Event, frozen=True, kw_only=True):
    """The tool has returned, after ``duration`` seconds."""

    name: str
    kind: str = "tool"
    duration: float
    result: Any = None


@_kind("tool.error", closes="tool")
class ToolError(Event, frozen=True, kw_only=True):
    """The tool has raised, after ``duration`` seconds."""

    name: str
    kind: str = "tool"
    duration: float
    error_type: str
    message: str


@_kind("lm.start", opens="lm")
class LMStart(Event, frozen=True, kw_only=True):
    """A request is sent to the language model ``model``."""

    model: str
    messages: Any = None  # only when prompts were asked for


@_kind("lm.end", closes="lm")
class LMEnd(Event, frozen=True, kw_only=True):
    """``error_type`` is set when the call failed for good.

    Tokens are those of all its requests, superseded ones included. ``usage`` has them by model where
    the fields cannot say it all: several models, or a request of which they are not known.
    ``response_model`` and ``response_id`` are the reply's, as the provider names them.

    Times are those of the last attempt: ``time_to_first_token`` and ``time_to_first_chunk`` begin
    when its request leaves, and end with the reply's first text, and with its first chunk of any
    kind (thinking, a tool call, text). ``time_per_output_chunk`` is the mean from one of the
    ``chunks`` to the next; ``chunk_gaps`` are these pauses as pairs of seconds and number, of
    similar length together, the shortest first. A reply that came whole has no chunks.
    """

    model: str
    duration: float
    prompt_tokens: int | None = None
    completion_tokens: int | None = None
    cost: float | None = None
    cached: bool = False
    streamed: bool = False
    time_to_first_token: float | None = None
    finish_reason: str | None = None
    error_type: str | None = None
    chunks: int = 0
    time_to_first_chunk: float | None = None
    time_per_output_chunk: float | None = None
    chunk_gaps: tuple[tuple[float, int], ...] = ()
    cache_read_tokens: int | None = None
    cache_write_tokens: int | None = None
    reasoning_tokens: int | None = None
    usage: tuple[ModelUsage, ...] = ()
    response_model: str | None = None
    response_id: str | None = None


@_kind("lm.superseded", inside="call")
class LMSuperseded(Event, frozen=True, kw_only=True):
    """Attempt ``identity.attempt`` of this predictor call no longer counts: drop its text.

    ``reason`` is the error type that ended it, ``"fallback"`` for the Chat→JSON fallback,
    or ``"asked again"`` for an adapter that makes a further call for the same fields.
    ``next_model`` is set where the next attempt is another model's, one of a ``StreamConfig``'s
    ``fallbacks``.
    """

    reason: str
    next_model: str | None = None


@_kind("lm.waiting")
class LMWaiting(Event, frozen=True, kw_only=True):
    """A request waits: ``"connection"`` (pool exhausted), ``"retry"`` or ``"limit"`` (rate limit).

    Or, for ``"fallback"``, it has failed for good and goes to ``model`` instead, at once.
    """

    reason: str
    delay: float | None = None
    model: str | None = None


# --- evaluations and optimizers -------------------------------------------------------------------


@_kind("evaluate.start", opens="evaluate")
class EvaluateStart(Event, frozen=True, kw_only=True):
    """``dspy.Evaluate`` begins to measure the program ``name`` by ``metric`` on ``total`` examples."""

    name: str
    metric: str
    total: int


@_kind("evaluate.example", inside="evaluate")
class EvaluateExample(Event, frozen=True, kw_only=True):
    """Example ``index`` of the evaluation is done, the ``done``-th of ``total``.

    ``score`` is what the metric returned for it as a number, ``mean`` the percentage so far, as
    ``EvaluateEnd.score`` will be. An example that failed has an ``error_type`` and counts with
    Evaluate's ``failure_score``.
    """

    index: int
    done: int
    total: int
    score: float | None = None
    mean: float | None = None
    duration: float = 0.0
    error_type: str | None = None
    message: str = ""
    inputs: Mapping[str, Any] | None = None  # only when inputs were asked for
    outputs: Mapping[str, Any] | None = None  # only when outputs were asked for


@_kind("evaluate.end", closes="evaluate")
class EvaluateEnd(Event, frozen=True, kw_only=True):
    """It has returned ``score`` (a percentage), or raised; of the examples ``done``, ``failed`` failed."""

    name: str
    duration: float
    score: float | None = None
    done: int = 0
    failed: int = 0
    error_type: str | None = None
    message: str = ""


@_kind("compile.start", opens="compile")
class CompileStart(Event, frozen=True, kw_only=True):
    """The ``optimizer`` begins to compile the program ``name``, with ``total`` training examples."""

    name: str
    optimizer: str
    total: int | None = None


@_kind("compile.candidate", inside="compile")
class CompileCandidate(Event, frozen=True, kw_only=True):
    """The optimizer has evaluated its candidate ``index``, on ``total`` examples.

    ``best`` is the best score so far, of candidate ``best_index``. Scores of a few examples do not
    compare with those of many: only candidates count that were evaluated on as many as any yet.
    """

    index: int
    score: float
    total: int
    best: float
    best_index: int
    duration: float


@_kind("compile.end", closes="compile")
class CompileEnd(Event, frozen=True, kw_only=True):
    """The optimizer has returned, or raised; ``best`` of its ``candidates`` is None if it had none."""

    name: str
    optimizer: str
    duration: float
    candidates: int = 0
    best: float | None = None
    error_type: str | None = None
    message: str = ""


# --- output of the model ------------------------------------------------------------------------


@_kind("field.start", opens="field", inside="call")
class FieldStart(Event, frozen=True, kw_only=True):
    """An output field begins."""

    field: str


@_kind("token", inside="field")
class TokenEvent(Event, frozen=True, kw_only=True, gc=False):
    """Text of one output field, decoded, as soon as it is certain.

    ``token_index`` counts the tokens of this field call from 0. A merged token replaces
    ``count`` tokens beginning at ``token_index``. ``offset`` is the number of characters of
    this field call before it. ``finish_reason`` is only known after the last text was sent: an
    empty closing token carries it. ``cached`` marks text that came from DSPy's cache.
    """

    field: str
    token: str
    token_index: int = 0
    offset: int = 0
    count: int = 1
    finish_reason: str | None = None
    cached: bool = False


@_kind("field.partial", inside="call")
class FieldPartial(Event, frozen=True, kw_only=True):
    """A change to the value of a field that is not plain text (``core.partials`` applies it).

    ``value`` replaces what is at ``pointer``, keys and indices from the top: the whole value if it
    is empty. With ``append`` it is added to what is there: text to text, items to a list, members
    to an object.
    Everything inside ``value`` is complete; the place itself is in ``state`` (``"partial"`` or
    ``"complete"``), everything above it is partial, and what has not arrived is pending. The
    last one of a call has the whole value as the program returns it.
    """

    field: str
    value: Any
    state: str = "partial"
    pointer: tuple[str | int, ...] = ()
    append: bool = False


@_kind("field.end", closes="field", inside="field")
class FieldEnd(Event, frozen=True, kw_only=True):
    """``complete`` is false if the attempt failed before the field had ended."""

    field: str
    length: int
    complete: bool = True


@_kind("field.corrected", inside="call")
class FieldCorrected(Event, frozen=True, kw_only=True):
    """The program's value of the field differs from the text that was streamed: use this."""

    field: str
    text: str
    value: Any = None


@_kind("thinking", inside="call")
class Thinking(Event, frozen=True, kw_only=True):
    """A piece of the model's own thinking; ``index`` counts its parts."""

    text: str
    index: int = 0


@_kind("tool_call.delta", inside="call")
class ToolCallDelta(Event, frozen=True, kw_only=True):
    """A native tool call while the model writes it; ``arguments`` is a fragment of JSON."""

    index: int
    name: str | None = None
    arguments: str = ""


@_kind("citation", inside="call")
class Citation(Event, frozen=True, kw_only=True):
    """A source that the model cites."""

    text: str | None = None
    title: str | None = None
    url: str | None = None


@_kind("refusal", inside="call")
class Refusal(Event, frozen=True, kw_only=True):
    """The provider reports that the model declines to answer; ``text`` is part of the reason."""

    text: str


@_kind("reply.part", inside="call")
class ReplyPart(Event, frozen=True, kw_only=True):
    """A part of the reply that is not text (image, sound, file): where it is, not its bytes.

    ``size`` is the number of bytes if the reply itself contains them.
    """

    kind: str
    media_type: str | None = None
    url: str | None = None
    size: int | None = None


@_kind("guarded")
class Guarded(Event, frozen=True, kw_only=True):
    """The guard ``name`` has kept text back; it is of the ``kind`` ``"pattern"``, ``"words"`` or
    ``"check"``.

    ``outcome`` is what it does (``"mask"``, ``"drop"``, ``"replace"``, ``"stop"``). In the text of an output
    ``field``, ``offset`` is the number of characters that were released before it, where that is known.
    It comes before the event that it is about, or after that one if something opens with it.
    """

    name: str
    kind: str
    outcome: str = "mask"
    field: str | None = None
    offset: int | None = None


# --- messages of the program ----------------------------------------------------------------------


class _Said(Event, frozen=True, kw_only=True):
    """What a program or a person says: as text, whatever was handed over, since readers rely on it."""

    texts: ClassVar[tuple[str, ...]] = ()
    texts_or_none: ClassVar[tuple[str, ...]] = ()

    def __post_init__(self) -> None:
        for name in (*self.texts, *self.texts_or_none):
            value = getattr(self, name)
            if not isinstance(value, str) and (value is not None or name in self.texts):
                msgspec.structs.force_setattr(self, name, str(value))


@_kind("status")
class Status(_Said, frozen=True, kw_only=True):
    """A message of ``streamll.status`` or of a ``StatusMessageProvider``."""

    texts = ("message",)

    message: str


@_kind("trace.start", opens="trace")
class TraceStart(_Said, frozen=True, kw_only=True):
    """A ``streamll.trace`` block is entered."""

    texts = ("name",)

    name: str
    trace_id: str
    parent_trace_id: str | None = None


@_kind("trace.end", closes="trace")
class TraceEnd(_Said, frozen=True, kw_only=True):
    """The block is left, after ``duration`` seconds."""

    texts = ("name",)

    name: str
    trace_id: str
    duration: float
    parent_trace_id: str | None = None
    error_type: str | None = None


@_kind("question", opens="question")
class Question(_Said, frozen=True, kw_only=True):
    """The program asks a person and waits (``streamll.ask``).

    ``schema`` is the answer's JSON Schema (2020-12). Of a tool call that is to be allowed
    (``streamll.approve``), ``tool`` is its name and ``arguments`` what it would be called with.
    ``to`` says whose answer is wanted, ``lapses_at`` when it is no longer waited for, in seconds
    since the epoch.
    """

    texts, texts_or_none = ("text",), ("to",)

    question_id: str
    text: str
    schema: Mapping[str, Any] = NOTHING
    tool: str | None = None
    arguments: Mapping[str, Any] | None = None  # only when tools were asked for
    to: str | None = None
    lapses_at: float | None = None


@_kind("answer", closes="question")
class Answer(_Said, frozen=True, kw_only=True):
    """A question is no longer open, after ``waited`` seconds.

    ``outcome`` is ``"answered"``, ``"lapsed"`` (nobody answered in time) or ``"withdrawn"`` (the
    program was stopped, or somebody declined to answer). ``value`` is the answer as JSON has it, or
    the default that stands in for it; ``by`` is who gave it, where that is known, and ``answer_id``
    what the one who gave it called it.
    """

    texts_or_none = ("by", "answer_id")

    question_id: str
    outcome: str
    value: Any = None
    by: str | None = None
    waited: float = 0.0
    answer_id: str | None = None


@_kind("stream.gap")
class StreamGap(Event, frozen=True, kw_only=True):
    """``count`` events were lost before this one. It has no ``seq`` of its own."""

    count: int
    reason: str


TRIMMED = "trimmed"
"""``StreamGap.reason`` where a log was trimmed before its reader could read it."""
TERMINAL = frozenset(name for name, kind in KINDS.items() if kind.closes == "run")
"""The types of a run's last event; exactly one of them ends a run."""
CALLS = ("module", "tool", "lm", "evaluate", "compile")
"""What ``inside = "call"`` can mean: the call that ``call_id`` names is one of these."""
