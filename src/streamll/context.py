"""What a program adds to its events: context, traces, statuses and custom events.

All of it works inside and outside a captured run. Inside, events join the run's stream, in
order. Outside, they belong to no run and go to the sinks of ``streamll.configure``.

The context is a ``contextvars.ContextVar``: tasks, and threads started with a copied context,
inherit it; siblings never see each other's. ``dspy.Parallel`` copies no context variables, so
``capture.hooks.places`` carries this one into its workers, and with it the trace that is open.
"""

from __future__ import annotations

import functools
import inspect
import time
import uuid
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, ContextDecorator, contextmanager, suppress
from contextvars import ContextVar
from types import MappingProxyType
from typing import Any, TypeVar

import msgspec

from streamll.configuration import configuration
from streamll.core import events as ev
from streamll.core.errors import ConfigurationError
from streamll.core.events import KINDS, NOTHING, SHARED_FIELDS, Event, EventData, StreamllEvent

RESERVED_NAMES = frozenset({*SHARED_FIELDS, "run_id", "event_type", "data"}).union(
    *(kind.__struct_fields__ for kind in KINDS.values())
)
"""Names of an event's own fields, which a context must not hide."""

RESERVED_TYPES = frozenset(KINDS) - {"status"}
"""Event types that only a run may use, since readers rely on their meaning."""


Function = TypeVar("Function", bound=Callable[..., Any])

_context: ContextVar[Mapping[str, Any]] = ContextVar("streamll_context", default=NOTHING)
_trace: ContextVar[_Block | None] = ContextVar("streamll_trace", default=None)


# ``capture`` replaces this when it is imported; a process that never captures has no run.
_find_scope: Callable[[], Any] = lambda: None  # noqa: E731


def set_run_finder(finder: Callable[[], Any]) -> None:
    """Set how the current run is found. Called once, by ``capture``."""
    global _find_scope  # noqa: PLW0603
    _find_scope = finder


def current_scope() -> Any:
    """The innermost captured call here, whose ``publish(event)`` is for its run; ``None`` outside."""
    return _find_scope()


def set_context(**values: Any) -> None:
    """Attach ``values`` to every later event of this task or thread and its children.

    Adds to what is set already; a value of ``None`` removes its key. It is read as
    ``event.data["conversation_id"]``. Requests served at the same time, each in its own task or
    thread, never see each other's context.

    Raises:
        ConfigurationError: a name that events use themselves (``seq``, ``model``, ``name``, …).
    """
    taken = sorted(set(values) & RESERVED_NAMES)
    if taken:
        raise ConfigurationError(
            f"set_context cannot use the name {taken[0]!r}: events have a field of that name; "
            f"choose another, e.g. my_{taken[0]}"
        )
    merged = {**_context.get(), **values}
    _context.set(MappingProxyType({k: v for k, v in merged.items() if v is not None}))


def clear_context() -> None:
    """Remove what ``set_context`` has set in this task or thread."""
    _context.set(NOTHING)


get_context: Callable[[], Mapping[str, Any]] = _context.get
"""What ``set_context`` has set for this task or thread, as a read-only mapping."""


@contextmanager
def scoped_context(values: Mapping[str, Any]) -> Iterator[None]:
    """Run a block with the context ``values``; what the block sets is undone after it."""
    token = _context.set(values)
    try:
        yield
    finally:
        _context.reset(token)


def carrier() -> Callable[[], AbstractContextManager[None]]:
    """Of the context and the open trace of this place: what has them hold in a block elsewhere."""
    context, around = _context.get(), _open_trace()

    @contextmanager
    def carried() -> Iterator[None]:
        token = _trace.set(around)
        try:
            with scoped_context(context):
                yield
        finally:
            _trace.reset(token)

    return carried


def _send(event: Event) -> None:
    _publish(event, current_scope())


def _publish(event: Event, publisher: Any) -> None:
    if publisher is not None:
        publisher.publish(event)
    else:
        configuration.deliver(_with_context(event))


def _with_context(event: Event) -> Event:
    context = get_context()
    stamped = msgspec.structs.replace(
        event, timestamp=event.timestamp or time.time(), context=context
    )
    if isinstance(stamped, StreamllEvent):
        stamped = msgspec.structs.replace(stamped, data=EventData(dict(event.data), context))
    return stamped


def emit_event(event: Event) -> None:
    """Put ``event`` into the current run's stream, where it gets its ``seq`` and identity.

    Raises:
        TypeError: not an event.
        ConfigurationError: an event of a type that only a run may use (``token``, ``run.end``, …),
            or without a type.
    """
    if not isinstance(event, Event):
        raise TypeError(
            f"emit_event takes a streamll event, not {type(event).__name__}; "
            'try streamll.emit("my.type", key=value)'
        )
    if not isinstance(event.event_type, str) or not event.event_type:
        raise ConfigurationError(
            f"an event type is a string, such as 'docs_found', not {event.event_type!r}"
        )
    if not isinstance(event, (StreamllEvent, ev.Status)) or event.event_type in RESERVED_TYPES:
        raise ConfigurationError(
            f"{event.event_type!r} is an event type of streamll's own, which only a run can emit; "
            "choose another name"
        )
    _send(event)


def emit(event_type: str, **data: Any) -> None:
    """Put a custom event into the current run's stream.

    ``streamll.emit("docs_found", count=3)`` arrives as a ``StreamllEvent`` with
    ``event.event_type == "docs_found"`` and ``event.data["count"] == 3``. Raises
    ``ConfigurationError`` for types that only a run may use, as ``emit_event`` does.
    """
    emit_event(StreamllEvent(event_type=event_type, data=data))


def status(message: str) -> None:
    """Report what the program is doing, as a ``status`` event: ``status("Searching…")``.

    ``message`` is shown to people as it is. Outside a run it goes to the sinks of ``configure``.
    """
    _send(ev.Status(message=message))


class Trace(msgspec.Struct, frozen=True):
    """A named step of a program: what ``with streamll.trace(...) as ctx`` yields."""

    name: str
    trace_id: str

    def emit(self, event_type: str, data: Mapping[str, Any] | None = None, **more: Any) -> None:
        """Put a custom event into the stream, with this trace's name and id in its data."""
        own = {"trace": self.name, "trace_id": self.trace_id, **(data or {}), **more}
        emit_event(StreamllEvent(event_type=event_type, data=own))


class trace(ContextDecorator):  # noqa: N801 - it is called like a function
    """Mark a step: ``trace.start`` before, ``trace.end`` after, with duration and error type.

    ``with streamll.trace("retrieval") as step:``, or ``async with``; ``name`` is what the events
    call it. Traces nest; ``parent_trace_id`` is the enclosing one's. Exceptions pass through
    unchanged. The block may ``yield``, and be left in another task or thread: its end goes to the
    run it began in.

    As a decorator it marks each call of a function; of an async function, or of a generator, until
    that has returned, raised or been closed.

    Raises:
        TypeError: a function in place of the name.
    """

    def __init__(self, name: str) -> None:
        if callable(name):  # a decorator without its name: the function would never be called
            raise TypeError('trace takes a name: @streamll.trace("retrieval")')
        self._name = name
        # Those that are open: it may be entered again inside itself, and by several tasks at once.
        self._blocks: list[_Block] = []

    def __call__(self, function: Function) -> Function:
        traced: Any
        if inspect.iscoroutinefunction(function):

            async def traced(*args: Any, **kwargs: Any) -> Any:
                with self._recreate_cm():
                    return await function(*args, **kwargs)

        elif inspect.isgeneratorfunction(function):

            def traced(*args: Any, **kwargs: Any) -> Any:
                with self._recreate_cm():
                    return (yield from function(*args, **kwargs))

        elif inspect.isasyncgenfunction(function):

            async def traced(*args: Any, **kwargs: Any) -> Any:
                with self._recreate_cm(), suppress(StopAsyncIteration):
                    steps = function(*args, **kwargs)
                    step = steps.asend(None)
                    while True:
                        value = await step
                        try:
                            step = steps.asend((yield value))
                        except GeneratorExit:
                            await steps.aclose()
                            raise
                        except BaseException as error:  # noqa: BLE001 - thrown in, for its body
                            step = steps.athrow(error)

        else:
            return super().__call__(function)
        return functools.wraps(function)(traced)  # type: ignore[return-value]

    def __enter__(self) -> Trace:
        block = _Block(self._name)
        self._blocks.append(block)
        return block.step

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        block = next((each for each in _traces_here() if each in self._blocks), self._blocks[-1])
        self._blocks.remove(block)
        block.end(kind)

    async def __aenter__(self) -> Trace:
        return self.__enter__()

    async def __aexit__(self, kind: type[BaseException] | None, *_: object) -> None:
        self.__exit__(kind)

    def _recreate_cm(self) -> trace:  # each call of a decorated function is a trace of its own
        return trace(self._name)


class _Block:
    """One ``with`` block of a ``trace``, from its start on."""

    def __init__(self, name: str) -> None:
        self.step = Trace(name, uuid.uuid4().hex)
        self.parent = _open_trace()
        self._publisher = current_scope()
        _publish(ev.TraceStart(**self._facts()), self._publisher)
        self._started = time.monotonic()
        self.ended = False
        _trace.set(self)

    def end(self, kind: type[BaseException] | None) -> None:
        self.ended = True
        _trace.set(_open_trace())
        duration = time.monotonic() - self._started
        error_type = kind.__name__ if kind is not None else None
        end = ev.TraceEnd(**self._facts(), duration=duration, error_type=error_type)
        _publish(end, self._publisher)

    def _facts(self) -> dict[str, Any]:
        parent = self.parent.step.trace_id if self.parent is not None else None
        return {**msgspec.structs.asdict(self.step), "parent_trace_id": parent}


def _open_trace() -> _Block | None:
    """The innermost trace here that has not been left, wherever it was."""
    return next(_traces_here(), None)


def _traces_here() -> Iterator[_Block]:
    found = _trace.get()
    while found is not None:
        if not found.ended:
            yield found
        found = found.parent
