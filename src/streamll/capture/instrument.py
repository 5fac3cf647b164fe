"""``instrument``: capture a module's calls from now on, without changing how it is called."""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable, Iterable
from typing import Any, TypedDict, TypeVar, overload

import dspy
from dspy.streaming import StatusMessageProvider
from typing_extensions import Unpack

from streamll.capture.hooks.places import install
from streamll.capture.run.fields import FieldSelection
from streamll.capture.run.options import (
    CaptureOptions,
    TokenHook,
    declare_options,
)
from streamll.capture.run.status import Statuses
from streamll.configuration import Receiver, checked_guards, checked_sinks
from streamll.core.errors import ConfigurationError
from streamll.core.events import Event
from streamll.guards import Guard

Target = TypeVar("Target")
OnToken = str | Callable[..., Any]


class _Options(TypedDict, total=False):
    """The options of ``instrument``; see there."""

    fields: Iterable[str] | None
    stream_fields: Iterable[str] | None
    sinks: Iterable[Receiver] | None
    on_token: OnToken | None
    status: StatusMessageProvider | None
    approve: Iterable[str]
    guards: Iterable[Guard]


@overload
def instrument(target: Target, /, **options: Unpack[_Options]) -> Target: ...
@overload
def instrument(**options: Unpack[_Options]) -> Callable[[Target], Target]: ...


def instrument(
    target: Any = None,
    /,
    *,
    fields: Iterable[str] | None = None,
    stream_fields: Iterable[str] | None = None,
    sinks: Iterable[Receiver] | None = None,
    on_token: OnToken | None = None,
    status: StatusMessageProvider | None = None,
    approve: Iterable[str] = (),
    guards: Iterable[Guard] = (),
) -> Any:
    """Capture every call of a ``dspy.Module`` class or instance.

    As a decorator, bare or with options, or as a function: ``streamll.instrument(qa, …)``. The
    class stays the same class, and its results, errors, retries and cache entries stay the same.

    Args:
        fields: output fields to stream: names, ``"predictor.name"``, or ``"*"``. ``None``
            (default) streams no text, only lifecycle events; an outer declaration then holds.
            ``[]`` switches text off, whatever is declared outside.
        stream_fields: the same, under another name.
        sinks: get the events of the calls, besides the sinks of ``configure``. Default: the
            terminal, if no other sink gets them. ``[]``: no sink.
        on_token: called in the program's own thread, before the program goes on, with each
            ``TokenEvent`` that has text, and with the ``LMSuperseded`` or ``FieldCorrected`` that
            takes such text back: ``f(event)``, ``f(module, event)`` or the name of a method. If it
            raises, that is logged once per run.
        status: a ``StatusMessageProvider``, streamll's or DSPy's, whose messages become ``status``
            events.
        approve: names of tools that ask a person before each call, or ``"*"`` for all: as if each was
            ``streamll.approve(tool)``. For agents whose tools one does not make; of one that is
            ``approve(tool)`` each call is asked about once.
        guards: what no event of the calls may show, of ``streamll.guards``, besides those of
            ``configure``. A call that one of them stops raises ``GuardStopped``.

    Raises:
        TypeError: ``target`` is not a ``dspy.Module`` class or instance; ``fields`` and
            ``stream_fields`` are both given, and differ.
        UnknownFieldError: for a name in ``fields``, or in those of a guard, that no predictor has; for
            a class at the first call.
        ConfigurationError: ``on_token`` cannot be called, or is a coroutine function; for a class
            and the name of a method at the first call. Or what is no guard, or no status provider, or
            one whose hooks are coroutine functions. Or ``approve`` has what is no name, or, for a
            class at the first call, a misspelt one; one of no tool that the modules hold is logged.
    """
    capture = CaptureOptions(
        selection=_selection(fields, stream_fields),
        sinks=None if sinks is None else checked_sinks(sinks),
        on_token=None if on_token is None else token_hook(on_token),
        statuses=None if status is None else Statuses(status),
        approve=_names_of_tools(approve),
        guards=checked_guards(guards),
    )
    if target is None:
        return lambda cls: _declare(cls, capture)
    return _declare(target, capture)


def _selection(
    fields: Iterable[str] | None, stream_fields: Iterable[str] | None
) -> FieldSelection | None:
    given = [FieldSelection(names) for names in (fields, stream_fields) if names is not None]
    if len(given) > 1 and given[0].listed() != given[1].listed():
        raise TypeError("instrument got different fields= and stream_fields=; they mean the same")
    return given[0] if given else None


def _names_of_tools(approve: Any) -> frozenset[str]:
    if isinstance(approve, str):
        return frozenset([approve])
    if not isinstance(approve, Iterable):
        raise ConfigurationError(f"approve takes names of tools, or '*' for all, not {approve!r}")
    names = list(approve)
    for name in names:
        if not isinstance(name, str):
            likely = getattr(name, "name", getattr(name, "__name__", "…"))
            raise ConfigurationError(
                f"approve takes names of tools, such as {likely!r}, not {name!r}"
            )
    return frozenset(names)


def _declare(target: Any, capture: CaptureOptions) -> Any:
    is_class = isinstance(target, type)
    if not (issubclass(target, dspy.Module) if is_class else isinstance(target, dspy.Module)):
        name = target.__name__ if is_class or callable(target) else type(target).__name__
        raise TypeError(
            f"instrument takes a dspy.Module class or instance, not {name}; "
            "wrap the function in a module with a forward method"
        )
    install()
    if not is_class:
        capture.check(target)
    if not is_class and capture.on_token is not None:
        capture.on_token(target)
    declare_options(target, capture)
    return target


def token_hook(on_token: OnToken) -> TokenHook:
    """``on_token`` in the one form used inside: of a module, what is called with each event."""
    if isinstance(on_token, str):
        return lambda module: _callable(getattr(module, on_token, None), on_token, module)
    _callable(on_token, on_token)
    positional = [
        p
        for p in inspect.signature(on_token).parameters.values()
        if p.kind in (p.POSITIONAL_ONLY, p.POSITIONAL_OR_KEYWORD) and p.default is p.empty
    ]
    if len(positional) > 1:
        return lambda module: functools.partial(on_token, module)
    return lambda _: on_token


def _callable(hook: Any, given: OnToken, module: Any = None) -> Callable[[Event], None]:
    if not callable(hook):
        where = "" if module is None else f" of {type(module).__name__}"
        raise ConfigurationError(
            f"on_token must be a function or a method name{where}, not {given!r}"
        )
    if inspect.iscoroutinefunction(hook):
        raise ConfigurationError(
            f"on_token must be an ordinary function, not the coroutine function {given!r}: the "
            "program waits for it in its own thread. Await in a sink instead, such as "
            "CallbackSink(function)"
        )
    return hook  # type: ignore[no-any-return]
