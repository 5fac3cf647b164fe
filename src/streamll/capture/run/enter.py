"""Where a captured call begins and ends: a new run, or a scope inside the current one.

``Module.__call__``, ``BaseLM.__call__`` and ``Evaluate.__call__`` come through here
(``hooks.wrappers``). A call that is not
to be captured goes straight on.
"""

from __future__ import annotations

import asyncio
import contextlib
import threading
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager
from typing import Any

import dspy

from streamll.capture.inside_dspy import overriding, setting
from streamll.capture.run import options
from streamll.capture.run.options import CaptureOptions, own_options
from streamll.capture.run.run import Run
from streamll.capture.run.scope import SCOPE_KEY, Scope, check_cancelled, current_scope
from streamll.configuration import Receiver, configuration
from streamll.core.errors import Unwind, warn_once
from streamll.flow.waiting import running_loop
from streamll.guards.checks import inside_check

CATCH_UP_TIMEOUT_S = 1.0
"""How long an outermost call waits at its end for local sinks to handle its events."""

Inputs = dict[str, Any]


active_runs: set[str] = set()
"""The ids of the runs under way in this process."""


@contextmanager
def captured(scope: Scope, inputs: Inputs) -> Iterator[None]:
    """Run a block as the body of ``scope``, which tells ``scope.returned`` the call's result.

    An outermost scope opens and closes its run. Where a guard has stopped that, ``GuardStopped`` is
    raised, whatever the program made of being stopped.
    """
    if scope.parent is not None:
        with overriding(SCOPE_KEY, scope):
            yield
        return
    run = scope.run
    active_runs.add(run.run_id)
    run.start(scope, inputs)
    try:
        with _stopped_by_guards(scope), overriding(SCOPE_KEY, scope):
            yield
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
        run.succeed(scope, scope.value)
    finally:
        active_runs.discard(run.run_id)


@contextmanager
def _stopped_by_guards(scope: Scope) -> Iterator[None]:
    try:
        yield
    except (Unwind, Exception):
        if (stopped := scope.stopped) is not None:
            raise stopped from None  # what the program raised may quote what was forbidden
        raise
    if (stopped := scope.stopped) is not None:  # after its last chunk: nothing was left to unwind
        raise stopped


@contextmanager
def settled(scope: Scope) -> Iterator[None]:
    """Run a block in which ``scope`` ends, and wait for what checks then still hold back of it.

    The run may be stopped until then, by its last event or a verdict: then this raises why.
    """
    try:
        yield
    finally:
        if (settling := scope.run.settling) is not None:
            settling.wait(scope)
    _raise_if_stopped(scope)


@asynccontextmanager
async def settled_async(scope: Scope) -> AsyncIterator[None]:
    """The same on an event loop, on which async checks of the run are asked."""
    if scope.parent is None:
        scope.run.loop = running_loop()
    try:
        yield
    finally:
        if (settling := scope.run.settling) is not None:
            await settling.wait_async(scope)
    _raise_if_stopped(scope)


def _raise_if_stopped(scope: Scope) -> None:
    if scope.parent is None and scope.run.stopped_by is not None:
        raise scope.run.stopped_by


def call_captured(
    original: Callable[..., Any], instance: Any, args: tuple[Any, ...], kwargs: Inputs
) -> Any:
    scope = _scope_of_call(instance)
    if scope is None:
        return original(instance, *args, **kwargs)
    if scope.parent is not None:
        with captured(scope, {}):
            return scope.returned(original(instance, *args, **kwargs))
    try:
        with settled(scope), captured(scope, inputs_of(args, kwargs)):
            scope.returned(original(instance, *args, **kwargs))
    finally:
        catch_up(scope.receivers)
    return scope.value


async def acall_captured(
    original: Callable[..., Awaitable[Any]], instance: Any, args: tuple[Any, ...], kwargs: Inputs
) -> Any:
    scope = _scope_of_call(instance)
    if scope is None:
        return await original(instance, *args, **kwargs)
    if scope.parent is not None:
        with captured(scope, {}):
            return await scope.returned_async(await original(instance, *args, **kwargs))
    try:
        async with settled_async(scope):
            with captured(scope, inputs_of(args, kwargs)):
                await scope.returned_async(await original(instance, *args, **kwargs))
    finally:
        if not catch_up(scope.receivers, 0):
            await asyncio.to_thread(catch_up, scope.receivers)
    return scope.value


# --- calls that are known by DSPy's callbacks alone -------------------------------------------------

_outermost: dict[str, tuple[Scope, contextlib.ExitStack]] = {}


def enter_outermost(call_id: str, instance: Any, inputs: Inputs) -> None:
    """Open a run for an optimizer, if it is to be captured.

    Every class of optimizers has a ``compile`` of its own, which DSPy has wrapped with callbacks when
    the class was made: there is no one function that could be replaced. Its first callback opens the
    run and its last one closes it, both in the context of the call.
    """
    if (scope := _scope_of_call(instance)) is not None:
        block = contextlib.ExitStack()
        block.enter_context(settled(scope))
        block.enter_context(captured(scope, inputs))
        _outermost[call_id] = scope, block


def raise_in_optimizer() -> None:
    """Raise ``GuardStopped`` in the calls of an optimizer's run that a guard has stopped.

    Whoever called the optimizer gets what it raises, since its own call is not among those that are
    replaced: that must be no ``Unwind``.
    """
    scope: Scope | None = setting(SCOPE_KEY)
    if scope is not None and (stopped := scope.stopped) is not None:
        *_, outermost = scope.enclosing()
        if any(outermost is known for known, _ in list(_outermost.values())):
            raise stopped from None


def leave_outermost(call_id: str, value: Any, error: BaseException | None) -> None:
    """Close the run that ``enter_outermost`` has opened for this call, if it has."""
    scope, block = _outermost.pop(call_id, (None, None))
    if scope is None or block is None:
        return
    scope.value = value
    block.__exit__(type(error) if error is not None else None, error, None)
    catch_up(scope.receivers)


def _scope_of_call(instance: Any) -> Scope | None:
    """The scope that a call of ``instance`` opens; ``None`` if it opens none."""
    if inside_check.get():  # of a guard: no part of any run
        return None
    check_cancelled()
    outer = current_scope()
    chosen = _options_for(instance, outer)
    if chosen is None:
        return None
    return chosen.scope(outer.run if outer is not None else Run(instance), instance, outer)


def _options_for(instance: Any, scope: Scope | None) -> CaptureOptions | None:
    """Whether and how this call is captured: as declared, as watched, or as an orphan."""
    declared = own_options(instance)
    if declared is not None or scope is not None:
        return declared
    if options.watching is not None:
        return options.watching
    return _orphan_call() if active_runs and isinstance(instance, dspy.BaseLM) else None


def _orphan_call() -> CaptureOptions | None:
    """An LM call in a thread that got no context from the captured program it may belong to."""
    if configuration.sinks:
        return CaptureOptions()
    if threading.current_thread() is not threading.main_thread():
        warn_once(
            "an LM call ran in a thread without its program's context, so no run can show it; "
            "start the thread with contextvars.copy_context().run"
        )
    return None


def catch_up(receivers: tuple[Receiver, ...], timeout: float = CATCH_UP_TIMEOUT_S) -> bool:
    """Wait until the local sinks have handled all events, ``timeout`` seconds in all."""
    deadline = time.monotonic() + timeout
    done = True
    for receiver in receivers:
        if getattr(receiver, "local", False):
            try:
                done &= receiver.catch_up(max(0.0, deadline - time.monotonic()))  # type: ignore[attr-defined]
            except Exception as error:  # noqa: BLE001 - a sink never breaks the program
                name = type(receiver).__name__
                warn_once(f"sink {name}: {type(error).__name__} in catch_up()")
    return done


def inputs_of(args: tuple[Any, ...], kwargs: Inputs) -> Inputs:
    """Inputs as one mapping: positional ones under their position."""
    return {**{str(i): value for i, value in enumerate(args)}, **kwargs}
