"""Where a captured call begins and ends: a new run, or a scope inside the run that is on.

``Module.__call__`` and ``BaseLM.__call__`` come through here (``hooks.places``). A call that nobody
captures goes straight on.
"""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from typing import Any
from weakref import WeakKeyDictionary

import dspy

from streamll.capture.run.fields import FieldSelection
from streamll.capture.run.frames import output_fields
from streamll.capture.run.run import Run
from streamll.capture.run.scope import Scope, current_scope, entered, stop_if_left
from streamll.capture.run.status import Statuses
from streamll.configuration import Receiver, configuration, logger
from streamll.core.errors import Unwind
from streamll.core.events import Event

CATCH_UP = 1.0
"""Seconds an outermost call waits at its end for local sinks to show what it said."""

Inputs = dict[str, Any]


class Capture:
    """How a call is to be captured: what ``instrument`` and ``watch`` declare."""

    def __init__(
        self,
        *,
        selection: FieldSelection | None = None,
        sinks: tuple[Receiver, ...] | None = None,
        on_token: Callable[[Any, Event], None] | None = None,
        statuses: Statuses | None = None,
        checked: bool = True,
    ) -> None:
        self.selection = selection
        self.checked = checked
        self.sinks = sinks
        self.on_token = on_token
        self.statuses = statuses

    def __reduce__(self) -> tuple[type[None], tuple[()]]:
        return type(None), ()  # a saved program is saved without its listeners

    def __deepcopy__(self, memo: Any) -> Capture:
        return self

    def scope(self, run: Run, instance: Any, parent: Scope | None = None) -> Scope:
        if self.selection and self.checked:
            check_fields(instance, self.selection)
        hook = self.on_token
        return Scope(
            run,
            instance,
            parent=parent,
            receivers=self._outlets(parent),
            selection=self._governing(instance, parent),
            on_token=None if hook is None else lambda event: hook(instance, event),
            statuses=self.statuses,
        )

    def _governing(self, instance: Any, parent: Scope | None) -> FieldSelection | None:
        """The fields declared for this call; ``None`` leaves it to what is declared around it.

        ``stream(qa, fields=…)`` speaks of the very call that ``qa``'s own declaration speaks of,
        and closer to it. Where only ``watch`` looks on, its fields hold.
        """
        if parent is not None and parent.instance is instance and parent.selection is not None:
            return None
        if self.selection is None and parent is None and watching is not None:
            return watching.selection
        return self.selection

    def _outlets(self, parent: Scope | None) -> tuple[Receiver, ...]:
        own = self.sinks or ()
        if parent is not None:
            return own
        listening = (*configuration.sinks, *watched_sinks(), *own)
        if not listening and self.sinks is None:
            from streamll.sinks.terminal import default_terminal

            return (default_terminal(),)
        return listening


watching: Capture | None = None


def watch_with(capture: Capture | None) -> None:
    """Capture every program that nothing else captures (``watch``); ``None`` ends that."""
    global watching  # noqa: PLW0603
    watching = capture


def watched_sinks() -> tuple[Receiver, ...]:
    return (watching.sinks or ()) if watching is not None else ()


def check_fields(program: Any, selection: FieldSelection) -> None:
    """Raise ``UnknownFieldError`` where the predictors are known; they may also come later."""
    if fields := output_fields(program):
        selection.check(type(program).__name__, fields)


def declared(instance: Any) -> Capture | None:
    """What ``instrument`` declared for this instance or its class.

    Looked up past a module's own ``__getattr__``, which may raise what it likes.
    """
    own: Capture | None = vars(instance).get("_streamll_capture")  # ``None`` after unpickling
    if own is not None or not _of_classes:
        return own
    return next((_of_classes[kind] for kind in type(instance).__mro__ if kind in _of_classes), None)


def declare(target: Any, capture: Capture) -> None:
    """Capture the calls of a module, or of a class and its subclasses, from now on."""
    if isinstance(target, type):
        _of_classes[target] = capture
    else:
        target._streamll_capture = capture  # noqa: SLF001 - the attribute is ours


# Not an attribute of the class: where that is pickled by value, unpickling would overwrite it.
_of_classes: WeakKeyDictionary[type, Capture] = WeakKeyDictionary()


def capture_of(instance: Any, scope: Scope | None) -> Capture | None:
    """Whether and how this call is captured: declared, watched, or an LM call gone astray."""
    capture = declared(instance) if isinstance(instance, dspy.Module) else None
    if capture is not None or scope is not None:
        return capture
    if watching is not None:
        return watching
    if live.runs and not isinstance(instance, dspy.Module):
        return _astray()
    return None


def _astray() -> Capture | None:
    """An LM call in a thread that got no context from the captured program it may belong to."""
    if configuration.sinks:
        return Capture()
    if threading.current_thread() is not threading.main_thread() and not live.warned:
        live.warned = True
        logger.warning(
            "an LM call ran in a thread without its program's context, so no run can show it; "
            "start the thread with contextvars.copy_context().run (said once)"
        )
    return None


class _Live:
    """The runs that are on in this process."""

    def __init__(self) -> None:
        self.runs: set[str] = set()
        self.warned = False


live = _Live()


class Outcome:
    """What the captured call returned."""

    value: Any = None


@contextmanager
def captured(scope: Scope, inputs: Inputs) -> Iterator[Outcome]:
    """Run a block as the body of ``scope``; an outermost one opens and closes its run."""
    outcome = Outcome()
    if scope.parent is not None:
        with entered(scope):
            yield outcome
        return
    run = scope.run
    live.runs.add(run.run_id)
    run.start(scope, inputs)
    try:
        with entered(scope):
            yield outcome
    except (Unwind, KeyboardInterrupt, GeneratorExit, asyncio.CancelledError):
        if scope.reason is not None:
            run.fail(scope, scope.reason)
        else:
            run.cancel(scope)
        raise
    except BaseException as error:
        run.fail(scope, error)
        raise
    else:
        run.succeed(scope, outcome.value)
    finally:
        live.runs.discard(run.run_id)


def begin(instance: Any) -> Scope | None:
    """The scope this call opens; ``None`` if it opens none."""
    stop_if_left()
    outer = current_scope()
    capture = capture_of(instance, outer)
    if capture is None:
        return None
    if outer is not None:
        return capture.scope(outer.run, instance, outer)
    return capture.scope(Run(instance), instance)


def call_captured(
    original: Callable[..., Any], instance: Any, args: tuple[Any, ...], kwargs: Inputs
) -> Any:
    scope = begin(instance)
    if scope is None:
        return original(instance, *args, **kwargs)
    try:
        with captured(scope, inputs_of(args, kwargs)) as outcome:
            outcome.value = original(instance, *args, **kwargs)
    finally:
        if scope.parent is None:
            catch_up(scope.receivers)
    return outcome.value


async def acall_captured(
    original: Callable[..., Awaitable[Any]], instance: Any, args: tuple[Any, ...], kwargs: Inputs
) -> Any:
    scope = begin(instance)
    if scope is None:
        return await original(instance, *args, **kwargs)
    try:
        with captured(scope, inputs_of(args, kwargs)) as outcome:
            outcome.value = await original(instance, *args, **kwargs)
    finally:
        if scope.parent is None and not catch_up(scope.receivers, 0):
            await asyncio.to_thread(catch_up, scope.receivers)
    return outcome.value


def catch_up(receivers: tuple[Receiver, ...], timeout: float = CATCH_UP) -> bool:
    """Wait until the local sinks have handled what was said, ``timeout`` seconds in all."""
    deadline = time.monotonic() + timeout
    done = True
    for outlet in receivers:
        if getattr(outlet, "local", False):
            done &= outlet.catch_up(max(0.0, deadline - time.monotonic()))  # type: ignore[attr-defined]
    return done


def inputs_of(args: tuple[Any, ...], kwargs: Inputs) -> Inputs:
    return {**{str(i): value for i, value in enumerate(args)}, **kwargs}
