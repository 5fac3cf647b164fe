"""Process-wide options: sinks of every run, what may leave the process, what is truncated.

``configure`` takes effect at once, for good or, as a ``with`` block, for a while. There is one
configuration per process; a run reads it when it starts. Blocks of several tasks or threads may be left in
any order: what was set last holds, of the blocks that are not left.
"""

from __future__ import annotations

import functools
import inspect
import re
import threading
import weakref
from collections.abc import Callable, Iterable, Mapping
from contextlib import ExitStack
from typing import TYPE_CHECKING, Any, NamedTuple, Protocol

import msgspec

from streamll.core.errors import ConfigurationError, StreamllError, logger
from streamll.core.events import KINDS, Event
from streamll.core.jsonable import is_endless

if TYPE_CHECKING:
    from streamll.guards import Guard

CONTENT = ("inputs", "outputs", "prompts", "tools", "errors")
ERROR_FACTS = ("status", "provider", "code", "provider_code", "retry_after", "adapter_name")
FACT = re.compile(r"[\w.:/-]{1,64}", re.ASCII)
"""A text that is a fact rather than a message: one short word."""

Redact = Callable[[Event], "Event | None"]


class Receiver(Protocol):
    """Where a run puts its events: a sink, or a stream's channel. Never blocks or raises.

    One with ``passive = True`` takes what there is; for its sake alone no reply is streamed.
    """

    def put(self, event: Event, /) -> None: ...


class Configuration(msgspec.Struct, kw_only=True):
    """The options of ``configure``."""

    sinks: tuple[Receiver, ...] = ()
    redact: Redact | None = None
    guards: tuple[Guard, ...] = ()
    include: frozenset[str] = frozenset()
    include_limit: int = 10_000
    cached_tokens: bool = True
    tokens_in_evaluate: bool = False
    redact_failed: Redact | None = None  # whose failure has been logged

    def approve(self, event: Event, redact: Redact) -> Event | None:
        """The event as ``redact`` lets it leave the run, or ``None``.

        A ``redact`` that raises, returns anything else, or puts something else where an event has
        text, lets nothing out.
        """
        approved: Any
        try:
            approved = redact(event)
            odd = None if approved is event else _without_text(approved)
            if odd is None and (approved is None or isinstance(approved, Event)):
                return approved
            if inspect.iscoroutine(approved):
                approved.close()  # else Python warns that nobody has awaited it
            name = type(approved).__name__
            failure = f"returned a {name} instead of an event or None"
            if odd is not None:
                failure = f"returned a {name} whose {odd} is not text"
        except Exception as error:  # noqa: BLE001 - whatever it raises, the event must not leave
            failure = f"raised {type(error).__name__}"
        if self.redact_failed is not redact:
            self.redact_failed = redact
            name = getattr(redact, "__qualname__", type(redact).__name__)
            text = "redact function %s %s on a %s event; such events are withheld (logged once)"
            logger.warning(text, name, failure, event.event_type)
        return None

    def deliver(self, event: Event) -> None:
        """Send an event that belongs to no run to the global sinks."""
        if not self.sinks:
            return
        send = functools.partial(self._send, self.sinks)
        if self.guards:
            from streamll.guards.outside import outside

            outside.put(self._guarded(event), self.guards, send)
        else:
            send(event)

    def _send(self, sinks: tuple[Receiver, ...], event: Event) -> None:
        approved = event if self.redact is None else self.approve(event, self.redact)
        if approved is not None:
            for sink in sinks:
                sink.put(approved)

    def _guarded(self, event: Event) -> Event:
        from streamll.guards.scopes import ScopeGuards
        from streamll.guards.text import ExactRules

        rules = functools.partial(ExactRules, limit=lambda: self.include_limit)
        scope = ScopeGuards(self.guards, rules)
        context, _ = scope.context(event.context)
        return scope.contents(msgspec.structs.replace(event, context=context))[0]


@functools.cache
def _texts(kind: type[Event]) -> tuple[str, ...]:
    fields = msgspec.structs.fields(kind) if KINDS.get(kind.event_type) is kind else ()
    return tuple(field.name for field in fields if field.type is str)


def _without_text(event: Any) -> str | None:
    """The field of an event that is to be text and is not: no reader of a log could read it."""
    texts = _texts(type(event)) if isinstance(event, Event) else ()
    return next((name for name in texts if not isinstance(getattr(event, name), str)), None)


configuration = Configuration()


class _Value(NamedTuple):
    """A value of one option, and the call of ``configure`` that set it, while that can be left."""

    value: Any
    block: Callable[[], _Block | None]


_values: dict[str, list[_Value]] = {}
"""By option, the values that hold or would if later blocks were left, the latest last."""

_lock = threading.Lock()


class _Block:
    """The options that one call of ``configure`` has set."""

    def __init__(self, options: Mapping[str, Any]) -> None:
        self._options = options
        own = weakref.ref(self)
        with _lock:
            for name, value in options.items():
                values = _values.setdefault(name, [])
                now = getattr(configuration, name)
                if not values or values[-1].value is not now:
                    values[:] = [_Value(now, lambda: None)]
                elif (
                    values[-1].block() is None
                ):  # which is never left, so that what is below never holds
                    del values[:-1]
                values.append(_Value(value, own))
                setattr(configuration, name, value)

    def leave(self) -> None:
        with _lock:
            for name in self._options:
                values = _values[name]
                values[:] = [each for each in values if each.block() is not self]
                setattr(configuration, name, values[-1].value)


class Configured(ExitStack):
    """What ``configure`` returns. Leaving it as a ``with`` block takes its options back.

    As a notebook cell's last line it shows the options that are in force.
    """

    def __repr__(self) -> str:
        sinks = ", ".join(type(sink).__name__ for sink in configuration.sinks)
        redact = configuration.redact
        options = {
            "sinks": f"[{sinks}]",
            "redact": None
            if redact is None
            else getattr(redact, "__name__", type(redact).__name__),
            "guards": f"[{', '.join(guard.name for guard in configuration.guards)}]",
            "include": sorted(configuration.include),
            "include_limit": configuration.include_limit,
            "cached_tokens": configuration.cached_tokens,
            "tokens_in_evaluate": configuration.tokens_in_evaluate,
        }
        told = ", ".join(f"{name}={value}" for name, value in options.items())
        return f"<streamll.configure: {told}>"


def configure(
    *,
    sinks: Iterable[Receiver] | None = None,
    redact: Redact | bool | None = False,
    guards: Iterable[Guard] | None = None,
    include: Iterable[str] | None = None,
    include_limit: int | None = None,
    cached_tokens: bool | None = None,
    tokens_in_evaluate: bool | None = None,
) -> Configured:
    """Set process-wide options; those not given stay as they are.

    Leaving what is returned as a ``with`` block takes them back: those hold again that were set before, or
    those of another task's or thread's block that was entered since and is not left.

    Args:
        sinks: get the events of every captured run, besides the run's own sinks.
        redact: called with each event before any sink or stream sees it; returns the event,
            a changed one (``msgspec.structs.replace``), or ``None`` to withhold it. If it
            raises or returns anything else, the event is withheld. ``None`` removes it, but not
            from a run that began with it. It sees events as guards have left them.
        guards: what no event may show, of ``streamll.guards``: they mask text while it streams, also
            where it comes in pieces, for every run that starts from now on, and for events outside of
            runs, about which no ``Check`` is asked. ``()`` removes them.
        include: content that events may carry beyond the named fields, of ``"inputs"``,
            ``"outputs"``, ``"prompts"``, ``"tools"`` (arguments and results) and ``"errors"``
            (exception messages, which may quote any of them). Default: none.
        include_limit: characters of included content per value (default 10,000).
        cached_tokens: deliver text from DSPy's cache, as one token per field (default true).
        tokens_in_evaluate: capture tokens inside ``dspy.Evaluate`` and optimizers too
            (default false).

    Raises:
        ConfigurationError: an unknown name in ``include``, a negative ``include_limit``, a
            ``redact`` that cannot be called, a sink without ``put``, or what is no guard.
    """
    given: dict[str, Any] = {
        "sinks": None if sinks is None else checked_sinks(sinks),
        "guards": None if guards is None else checked_guards(guards),
        "include": None if include is None else _checked_content(include),
        "include_limit": include_limit,
        "cached_tokens": cached_tokens,
        "tokens_in_evaluate": tokens_in_evaluate,
    }
    if include_limit is not None:
        if not include_limit >= 0 or include_limit % 1:
            raise ConfigurationError(
                f"include_limit is a whole number of characters, at least 0, not {include_limit}"
            )
        given["include_limit"] = int(include_limit)  # of 1e4, too
    changes = {name: value for name, value in given.items() if value is not None}
    if redact is None or callable(redact):
        changes["redact"] = redact
    elif redact is not False:
        raise ConfigurationError("redact must be a function of one event, or None")
    undo = Configured()
    if changes:
        undo.callback(_Block(changes).leave)
    return undo


def _checked_content(include: Iterable[str]) -> frozenset[str]:
    if isinstance(include, str):
        raise ConfigurationError(f"include is a list of names, such as [{include!r}]")
    names = frozenset(include)
    if unknown := sorted(names - set(CONTENT)):
        raise ConfigurationError(f"include has no {unknown[0]!r}; there are {', '.join(CONTENT)}")
    return names


def checked_sinks(sinks: Any) -> tuple[Receiver, ...]:
    """``sinks`` as a tuple without duplicates. Raises ``ConfigurationError`` for what is no sink."""
    if isinstance(sinks, (str, bytes)) or not isinstance(sinks, Iterable):
        raise ConfigurationError(f"sinks must be a list of sinks, not {type(sinks).__name__}")
    unique: list[Receiver] = []
    for sink in sinks:
        if isinstance(sink, type) or not callable(getattr(sink, "put", None)):
            raise ConfigurationError(
                f"{sink!r} is not a sink; subclass streamll.sinks.BaseSink and pass an instance"
            )
        if not any(sink is other for other in unique):
            unique.append(sink)
    return tuple(unique)


def checked_guards(guards: Any) -> tuple[Guard, ...]:
    """``guards`` as a tuple without duplicates. Raises ``ConfigurationError`` for what is no guard."""
    if guards == ():  # for whoever has none, the room is not even loaded
        return ()
    from streamll.guards import Guard

    if isinstance(guards, (str, bytes, Guard)) or not isinstance(guards, Iterable):
        raise ConfigurationError(f"guards must be a list of guards, not {type(guards).__name__}")
    unique: dict[int, Guard] = {}
    for guard in guards:
        if not isinstance(guard, Guard):
            name = getattr(guard, "__name__", type(guard).__name__)
            raise ConfigurationError(
                f"{name} is not a guard; give Pattern(…), Words(…) or Check(…) of streamll.guards, "
                "or what one of its functions returns, such as card_numbers()"
            )
        unique[id(guard)] = guard
    return tuple(unique.values())


# --- what events may contain --------------------------------------------------------------------


def included(kind: str, value: Any, shape: Callable[[Any], Any] | None = None) -> Any:
    """``value``, clipped, if content of this kind was asked for; else ``None``.

    ``shape`` converts the value first. A value that cannot be converted is described instead: the
    program must not fail because it is observed.
    """
    if kind not in configuration.include or value is None:
        return None
    try:
        return clip(value if shape is None else shape(value), configuration.include_limit)
    except Exception as error:  # noqa: BLE001 - a program's values may raise anything
        return {"result": f"({type(value).__name__}, not shown: {type(error).__name__})"}


def clip(value: Any, limit: int, within: tuple[int, ...] = ()) -> Any:
    """``value`` with every text cut to ``limit`` characters; objects as their clipped ``str``.

    What ``is_endless`` is the name of its type there: to go on up to Python's limit would leave no
    room for the program's finalizers, which may have their turn at any call. ``within`` identifies
    what the value is part of.
    """
    if value is None or isinstance(value, (bool, int, float)):
        return value
    if isinstance(value, (Mapping, list, tuple)):
        if is_endless(value, within):
            return f"<{type(value).__name__}>"
        within = (*within, id(value))
        if isinstance(value, Mapping):
            return {str(key): clip(item, limit, within) for key, item in value.items()}
        return [clip(item, limit, within) for item in value]
    text = value if isinstance(value, str) else str(value)
    return text if len(text) <= limit else f"{text[:limit]}… ({len(text)} characters)"


def describe(error: BaseException) -> tuple[str, str]:
    """The error's type name, and a message that may leave the process.

    Its own text can quote prompts, replies and keys, so by default an error is described by the
    facts that DSPy keeps beside the text (status, provider, code).
    """
    name = type(error).__name__
    if isinstance(error, StreamllError):
        return name, str(error)
    try:
        if "errors" in configuration.include:
            return name, clip(str(error), configuration.include_limit)
        facts = [
            f"{fact} {value}"
            for fact in ERROR_FACTS
            if _is_fact(value := getattr(error, fact, None), error)
        ]
    except Exception as second:  # noqa: BLE001 - a program's own errors may raise anything
        return name, f"not shown: {type(second).__name__}"
    return name, ", ".join(facts)


def _is_fact(value: Any, error: BaseException) -> bool:
    if isinstance(value, str):  # ``sys.exit`` takes its message for a code
        return not isinstance(error, SystemExit) and FACT.fullmatch(value) is not None
    return isinstance(value, (int, float))
