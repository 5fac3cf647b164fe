"""A scope: one captured call, the run it belongs to, its receivers and the fields they want.

The current scope is kept in DSPy's own settings overrides, which reach tasks, ``asyncify``,
``dspy.Parallel`` and threads started with a copied context. Scopes nest: the inner one refers to its
parent, so that an inner stream can be left without stopping the outer program.
"""

from __future__ import annotations

import dataclasses
import functools
import inspect
from collections.abc import Callable, Iterable, Iterator
from typing import Any, Protocol

from streamll.capture.inside_dspy import ACTIVE_COMPILES, setting
from streamll.capture.run.fields import FieldSelection
from streamll.capture.run.frames import ModuleNames, output_fields
from streamll.capture.run.logs import GuardedLogs
from streamll.capture.run.results import guarded_result
from streamll.capture.run.run import Run
from streamll.capture.run.status import Statuses
from streamll.configuration import Receiver, configuration
from streamll.core.errors import GuardStopped, Unwind, warn_once
from streamll.core.events import Event, Identity
from streamll.guards import Check, Guard
from streamll.guards.checks import inside_check
from streamll.guards.scopes import ScopeGuards

SCOPE_KEY = "_streamll_scope"
QUIET_KEY = "_streamll_quiet"


class ReaderRequest(Protocol):
    """What a reader wants besides events, whatever the program declares (``streamify``)."""

    send_stream: Any
    """What the program finds as ``dspy.settings.send_stream``."""

    def wanted(self, predictor: Any, fields: Iterable[str]) -> frozenset[str]:
        """Which ``fields`` of ``predictor`` to stream."""

    def wants_chunks(self, predictor: Any) -> bool:
        """Whether ``chunk`` is to be called for this predictor."""

    def chunk(self, predictor: Any, identity: Identity, chunk: Any) -> None:
        """A chunk, as DSPy shows it, of an LM call whose events have this ``identity``."""


@dataclasses.dataclass(eq=False, repr=False)
class Scope:
    """One captured call of ``instance``. Only ``call_selection`` and its outcome ever change.

    It is given what is its own, and has what enclosing scopes have as well.
    """

    run: Run
    instance: Any
    _: dataclasses.KW_ONLY
    parent: Scope | None = None
    receivers: tuple[Receiver, ...] = ()
    declared: FieldSelection | None = None
    token_hooks: tuple[Callable[[Event], None], ...] = ()
    statuses: Statuses | None = None
    reader_requests: tuple[ReaderRequest, ...] = ()
    policy: Any = None  # a ``policy.call.CallPolicy``
    approve: frozenset[str] = frozenset()
    """Tools that ask a person before each call inside; ``"*"`` for all."""
    questions: bool | None = None
    """Whether its reader can answer questions; ``False``: nobody may be asked inside."""
    guards: tuple[Guard, ...] = ()
    """Those of its events, of enclosing scopes first."""
    call_selection: FieldSelection | None = None
    """Set by ``self._streamll_stream_fields = …`` inside the call."""
    value: Any = None  # what the call returned
    met: set[tuple[str | None, str]] = dataclasses.field(default_factory=set)
    """The fields, with their predictors, of the calls that this scope's declaration was asked about."""
    cancelled: bool = False
    reason: BaseException | None = None
    """Why it was cancelled, if that is an error rather than the reader's leaving."""

    def __post_init__(self) -> None:
        outer = configuration.guards if self.parent is None else self.parent.guards
        if inside_check.get():  # a check that is itself streamed is not checked in turn
            outer, self.guards = (_unasked(each) for each in (outer, self.guards))
        if (parent := self.parent) is not None:
            self.receivers = (*parent.receivers, *self.receivers)
            self.token_hooks = (*parent.token_hooks, *self.token_hooks)
            self.reader_requests = (*parent.reader_requests, *self.reader_requests)
            self.statuses = self.statuses or parent.statuses
            self.policy = self.policy or parent.policy
            self.approve |= parent.approve
        self.guards = tuple({id(each): each for each in (*outer, *self.guards)}.values())
        if self.guards:
            guarded_logs.install()
            self.guards = self.run.guard(self)
        # each once, by identity: sinks may compare equal and need not be hashable
        self.receivers = tuple({id(each): each for each in self.receivers}.values())
        self.put_methods: tuple[Callable[[Event], object], ...] = tuple(
            receiver.put for receiver in self.receivers
        )

    def __reduce__(self) -> tuple[type[None], tuple[()]]:
        return type(None), ()  # ``dspy.settings.save`` pickles every setting

    def enclosing(self) -> Iterator[Scope]:
        """This scope and those around it, from the inside out."""
        scope: Scope | None = self
        while scope is not None:
            yield scope
            scope = scope.parent

    @property
    def selection(self) -> FieldSelection | None:
        """The innermost declaration that governs this call; ``None`` where there is none."""
        return self._declaration()[1]

    def _declaration(self) -> tuple[Scope, FieldSelection | None]:
        declared = self.declared if self.call_selection is None else self.call_selection
        if declared is not None or self.parent is None:
            return self, declared
        return self.parent._declaration()  # noqa: SLF001 - one of its own kind

    def wanted(self, predictor: Any, fields: Iterable[str]) -> frozenset[str]:
        """Which ``fields`` of ``predictor`` stream, by the names that the declaring module uses."""
        scope, selection = self._declaration()
        if selection is None:
            return frozenset()
        name = scope.names.predictor(predictor) if selection.qualified else None
        scope.met.update((name, field) for field in fields)
        return frozenset(field for field in fields if selection.wants(name, field))

    @functools.cached_property
    def names(self) -> ModuleNames:
        """The names of this program's modules, wherever in the run it is."""
        return self.run.names if self.parent is None else ModuleNames(self.instance)

    @property
    def send_stream(self) -> Any:
        """Where this call's program may send chunks of its own; ``None`` if nowhere."""
        return self.reader_requests[-1].send_stream if self.reader_requests else None

    @property
    def is_cancelled(self) -> bool:
        """Whether this call, or one around it, was left."""
        return any(scope.cancelled for scope in self.enclosing())

    @property
    def stopped(self) -> GuardStopped | None:
        """By which guard this call, or one around it, was stopped; ``None`` if by none."""
        reasons = (scope.reason for scope in self.enclosing())
        return next((each for each in reasons if isinstance(each, GuardStopped)), None)

    def returned(self, value: Any) -> Any:
        """Take what the call has returned, and give it back: masked, where a guard is to do that.

        Raises:
            GuardStopped: a guard forbids something of it that cannot be masked.
        """
        judging = self._take(value)
        if judging is not None:
            judging.wait()
            self.value = judging.value()
        return self.value

    async def returned_async(self, value: Any) -> Any:
        """``returned``, on an event loop, which goes on while checks are asked."""
        judging = self._take(value)
        if judging is not None:
            await judging.wait_async()
            self.value = judging.value()
        return self.value

    def _warn_of_missing(self) -> None:
        """Of a program whose predictors nobody knew before, a misspelt field can only be told now."""
        declared = self.declared if self.call_selection is None else self.call_selection
        missing = declared.missing(self.met.copy()) if declared is not None else ()
        if missing and not output_fields(self.instance):
            known = inspect.isroutine(self.instance)
            name = self.instance.__name__ if known else type(self.instance).__name__
            asked, had = ", ".join(missing), ", ".join(sorted({field for _, field in self.met}))
            warn_once(f"nothing that {name} has called has the field {asked}; there were: {had}")

    def _take(self, value: Any) -> Any:
        """Keep the value without what guards find in it, and ask checks about the rest."""
        self.value = value
        if self.met:
            self._warn_of_missing()
        if not self.guards or self.parent is not None:
            return None
        self.value = guarded_result(value, _unasked(self.guards))
        checks = tuple(each for each in self.guards if isinstance(each, Check) and each.result)
        walk = functools.partial(guarded_result, self.value, checks)
        return self.run.guarding.checking.judging(walk) if checks else None

    def is_within(self, other: Any) -> bool:
        """Whether this scope is ``other`` or lies inside it."""
        return any(scope is other for scope in self.enclosing())

    def cancel(self, reason: BaseException | None = None) -> None:
        """Stop the program of this scope: at its next chunk or request, or out of a blocked read."""
        self.reason = self.reason or reason
        self.cancelled = self.run.has_cancelled_calls = True
        self.run.interrupt(self)

    def check(self) -> None:
        """Raise ``Unwind`` if this call, or one around it, was left."""
        if self.run.has_cancelled_calls and self.is_cancelled:
            raise Unwind

    def needs_approval(self, tool: str) -> bool:
        """Whether a person is to allow a call of this tool."""
        return bool(self.approve) and not self.approve.isdisjoint((tool, "*"))

    def nobody_to_ask(self) -> str | None:
        """Why nobody could answer a question that is asked here; ``None`` if somebody could."""
        if setting(QUIET_KEY) or ACTIVE_COMPILES.get():
            return "evaluations and optimizers wait for nobody"
        readers = [scope.questions for scope in self.enclosing()]
        if False in readers:
            return "whoever asked for this run has no place for questions"
        if True in readers or any(getattr(each, "takes_answers", False) for each in self.receivers):
            return None
        return (
            "nobody who could reads this run: read it with streamll.stream, or send it to a log or "
            "a page"
        )

    def as_shown(self, text: str) -> str | None:
        """A text that is told beside the events, as they would show it; ``None``: not at all.

        So it is where a check would have to be asked about it.
        """
        if any(isinstance(each, Check) and each.fields is None for each in self.guards):
            return None
        shown, hits = self._rules.value(text)
        return shown if all(hit.action == "mask" for hit in hits) else None

    @functools.cached_property
    def _rules(self) -> ScopeGuards:
        return ScopeGuards(self.guards)

    def listen(self, put: Callable[[Event], object]) -> None:
        """Have ``put`` called with each event of this very call, before its receivers are, until ``unlisten``."""
        with self.run.lock:
            self.put_methods = (put, *self.put_methods)

    def unlisten(self, put: Callable[[Event], object]) -> None:
        with self.run.lock:
            self.put_methods = tuple(each for each in self.put_methods if each != put)

    def publish(self, event: Event) -> None:
        """Put a program's own event into the run, at the place where it happens."""
        self.run.publish_custom(event, self)
        for receiver in self.receivers:
            if (wait_for_room := getattr(receiver, "wait_for_room", None)) is not None:
                wait_for_room()


def _unasked(guards: Iterable[Guard]) -> tuple[Guard, ...]:
    return tuple(guard for guard in guards if not isinstance(guard, Check))


def current_scope() -> Scope | None:
    scope: Scope | None = setting(SCOPE_KEY)
    return scope if scope is not None and not scope.run.closed else None


def _guards_here() -> tuple[Guard, ...]:
    scope = current_scope()
    return configuration.guards if scope is None else scope.guards


guarded_logs = GuardedLogs(_guards_here)


def check_cancelled() -> None:
    """Raise ``Unwind`` if the program around this was left, even if its run has ended.

    ``dspy.Parallel`` would otherwise go on with the calls that wait in its queue.
    """
    scope: Scope | None = setting(SCOPE_KEY)
    if scope is not None:
        scope.check()


def is_quiet() -> bool:
    """Inside ``dspy.Evaluate`` or an optimizer, where tokens are not captured by default."""
    if configuration.tokens_in_evaluate:
        return False
    return bool(setting(QUIET_KEY) or ACTIVE_COMPILES.get())
