"""DSPy's private names, each with what is left of capture where a DSPy does not have it.

Public DSPy would do for most of this, at a price: ``dspy.context`` freezes every other setting
for the block, so a program that calls ``dspy.configure`` inside would run differently.
"""

from __future__ import annotations

import importlib
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Any

import dspy


def _private(module: str, name: str, otherwise: Any) -> Any:
    try:
        return getattr(importlib.import_module(module), name)
    except (ImportError, AttributeError):
        return otherwise


ACTIVE_CALL_ID: ContextVar[str | None] = _private(
    "dspy.utils.callback_context", "ACTIVE_CALL_ID", ContextVar("active_call_id", default=None)
)
"""The call that is running. Without it every call looks like a root."""

ADAPTER_CALLS: ContextVar[tuple[Any, ...]] = _private(
    "dspy.clients.call_context", "_adapter_calls", ContextVar("adapter_calls", default=())
)
"""The adapter calls under way. Without it a fallback looks like a further call."""

ACTIVE_COMPILES: ContextVar[tuple[Any, ...]] = _private(
    "dspy.utils.callback_context", "_ACTIVE_COMPILES", ContextVar("active_compiles", default=())
)
"""Optimizers at work. Without it tokens are captured inside them."""

PARALLEL_EXECUTOR: Any = _private("dspy.utils.parallelizer", "ParallelExecutor", None)
"""What ``dspy.Parallel`` and ``Evaluate`` run on. Without it ``set_context`` does not reach there."""

OVERRIDES: ContextVar[Any] | None = _private(
    "dspy.dsp.utils.settings", "thread_local_overrides", None
)
"""The settings of ``dspy.context``. Without it ``dspy.context`` itself has to do."""


def setting(key: str) -> Any:
    """A setting of ours in DSPy's overrides; ``None`` where it is not set."""
    if OVERRIDES is None:
        return dspy.settings.get(key)
    return OVERRIDES.get().get(key)


@contextmanager
def overriding(key: str, value: Any) -> Iterator[None]:
    """Set one key of DSPy's overrides for a block, and no other."""
    if OVERRIDES is None:
        with dspy.context(**{key: value}):
            yield
        return
    overrides = OVERRIDES.get()
    token = OVERRIDES.set(type(overrides)({**overrides, key: value}))
    try:
        yield
    finally:
        OVERRIDES.reset(token)


def engine_selection() -> Any:
    """The module whose ``_select_engine`` and ``finalize`` capture wraps; ``None`` without it."""
    try:
        from dspy.clients import execution
    except ImportError:
        return None
    return execution if hasattr(execution, "_select_engine") else None
