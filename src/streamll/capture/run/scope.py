"""A scope: one captured call, the run it belongs to, who listens to it and what they want.

The current scope rides in DSPy's own settings overrides: they reach tasks, ``asyncify``,
``dspy.Parallel`` and threads started with a copied context. Scopes nest; the inner one names its
parent, so that an inner stream can be left without stopping the outer program.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, Protocol

from streamll.capture.inside_dspy import ACTIVE_COMPILES, overriding, setting
from streamll.capture.run.frames import ModuleNames
from streamll.configuration import Receiver, configuration
from streamll.core.errors import Unwind
from streamll.core.events import Event, Identity

if TYPE_CHECKING:
    from streamll.capture.policy.call import CallPolicy
    from streamll.capture.run.fields import FieldSelection
    from streamll.capture.run.run import Run
    from streamll.capture.run.status import Statuses

SCOPE_KEY = "_streamll_scope"
QUIET_KEY = "_streamll_quiet"


class ReaderRequest(Protocol):
    """What a reader wants besides events, whatever the program declares (``streamify``)."""

    send_stream: Any
    """What the program finds as ``dspy.settings.send_stream``."""

    def wanted(self, predictor: Any, fields: Iterable[str]) -> frozenset[str]:
        """Which ``fields`` of ``predictor`` to stream."""

    def wants_chunks(self, predictor: Any) -> bool:
        """Whether to be told of this predictor's chunks, as DSPy shows them."""

    def chunk(self, predictor: Any, identity: Identity, chunk: Any) -> None:
        """A chunk of an LM call made for ``predictor``; its events have this ``identity``."""


class Scope:
    """One captured call of ``instance``. Immutable but for ``cancelled`` and ``switched``."""

    def __init__(
        self,
        run: Run,
        instance: Any,
        *,
        parent: Scope | None = None,
        receivers: tuple[Receiver, ...] = (),
        selection: FieldSelection | None = None,
        on_token: Callable[[Event], None] | None = None,
        statuses: Statuses | None = None,
        reader_request: ReaderRequest | None = None,
        governor: CallPolicy | None = None,
    ) -> None:
        self.run = run
        self.instance = instance
        self.parent = parent
        inherited = parent.receivers if parent is not None else ()
        self.receivers: tuple[Receiver, ...] = unique((*inherited, *receivers))
        self.puts = tuple(
            outlet.put for outlet in self.receivers
        )  # looked up once, called per token
        self._declared = selection
        self.switched: FieldSelection | None = None  # ``self._streamll_stream_fields = …``
        self.token_hooks: tuple[Callable[[Event], None], ...] = (
            parent.token_hooks if parent is not None else ()
        )
        if on_token is not None:
            self.token_hooks += (on_token,)
        self.statuses: Statuses | None = statuses or (parent.statuses if parent else None)
        self.reader_requests: tuple[ReaderRequest, ...] = (
            parent.reader_requests if parent is not None else ()
        )
        if reader_request is not None:
            self.reader_requests += (reader_request,)
        self.governor: CallPolicy | None = governor or (parent.governor if parent else None)
        self.cancelled = False
        self.reason: BaseException | None = None
        """Why it was cancelled, where that is an error and not the reader's leaving."""

    def __reduce__(self) -> tuple[type[None], tuple[()]]:
        return type(None), ()  # ``dspy.settings.save`` pickles every setting

    @property
    def selection(self) -> FieldSelection | None:
        """The innermost declaration that governs this call; ``None`` where there is none."""
        return self._governing()[1]

    def _governing(self) -> tuple[Scope, FieldSelection | None]:
        scope = self
        while True:
            selection = scope._declared if scope.switched is None else scope.switched
            if selection is not None or scope.parent is None:
                return scope, selection
            scope = scope.parent

    def wanted(self, predictor: Any, fields: Iterable[str]) -> frozenset[str]:
        """Which ``fields`` of ``predictor`` stream; it is called what the declaring module calls it."""
        scope, selection = self._governing()
        if selection is None:
            return frozenset()
        name = scope.names.predictor(predictor) if selection.qualified else None
        return frozenset(field for field in fields if selection.wants(name, field))

    @functools.cached_property
    def names(self) -> ModuleNames:
        """What the modules of this very program are called, wherever in the run it is."""
        return self.run.names if self.parent is None else ModuleNames(self.instance)

    @property
    def send_stream(self) -> Any:
        """Where this call's program may send chunks of its own; ``None`` if nowhere."""
        return self.reader_requests[-1].send_stream if self.reader_requests else None

    @property
    def is_cancelled(self) -> bool:
        """Whether this call, or one around it, was left."""
        scope: Scope | None = self
        while scope is not None:
            if scope.cancelled:
                return True
            scope = scope.parent
        return False

    def is_within(self, other: Scope) -> bool:
        """Whether this scope is ``other`` or lies inside it."""
        scope: Scope | None = self
        while scope is not None:
            if scope is other:
                return True
            scope = scope.parent
        return False

    def cancel(self, reason: BaseException | None = None) -> None:
        """Stop the program of this scope: at its next chunk or request, or out of a blocked read."""
        self.reason = self.reason or reason
        self.cancelled = self.run.has_cancelled_calls = True
        self.run.interrupt(self)

    def check(self) -> None:
        """Raise ``Unwind`` if this call, or one around it, was left."""
        scope: Scope | None = self
        while scope is not None:  # is_cancelled, once more: this is asked for every token
            if scope.cancelled:
                raise Unwind
            scope = scope.parent

    def publish(self, event: Event) -> None:
        """Put a program's own event into the run, at the place where it happens."""
        self.run.publish_custom(event, self)
        for outlet in self.receivers:
            if getattr(outlet, "overfull", False):
                outlet.wait_for_room()  # type: ignore[attr-defined]


def unique(receivers: Iterable[Receiver]) -> tuple[Receiver, ...]:
    """Sinks may compare equal and need not hash; identity decides."""
    return tuple({id(outlet): outlet for outlet in receivers}.values())


def current_scope() -> Scope | None:
    scope: Scope | None = setting(SCOPE_KEY)
    return scope if scope is not None and not scope.run.closed else None


def stop_if_left() -> None:
    """Raise ``Unwind`` if the program around this was left, though its run may have ended.

    ``dspy.Parallel`` would otherwise go on with the calls that wait in its queue.
    """
    scope: Scope | None = setting(SCOPE_KEY)
    if scope is not None:
        scope.check()


@contextmanager
def entered(scope: Scope) -> Iterator[Scope]:
    """Run a block inside ``scope``. Unlike ``dspy.context`` this freezes no other setting."""
    with overriding(SCOPE_KEY, scope):
        yield scope


def is_quiet() -> bool:
    """Inside ``dspy.Evaluate`` or an optimizer, where tokens are not captured unless asked for."""
    if configuration.tokens_in_evaluate:
        return False
    return bool(setting(QUIET_KEY) or ACTIVE_COMPILES.get())
