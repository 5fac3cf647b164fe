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


class AttributeDict(dict[str, Any]):
    """A dict whose keys are attributes."""

    __getattr__ = dict.get


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


def wrapped_error(error: Exception) -> Exception:
    """The error as a program sees it. Without DSPy's own judgement nothing is tried again."""
    wrap = _private("dspy.clients.errors", "wrap_error", None)
    wrapped: Exception = error if wrap is None else wrap(error, model="")
    return wrapped


def is_transient(error: Exception) -> bool:
    """Whether DSPy would try again after this error."""
    judge = _private("dspy.utils.exceptions", "is_retryable_lm_error", lambda error: False)
    return bool(judge(wrapped_error(error)))


ENGINE_CHUNK: Any = _private("dspy.clients.engines.streaming", "EngineChunk", AttributeDict)
"""What ``dspy.streamify`` hands out without listeners. Without it a dict with attributes."""


def attributes(value: Any) -> Any:
    """Dicts, and the dicts in them, with their keys as attributes too."""
    if isinstance(value, dict):
        return AttributeDict({key: attributes(item) for key, item in value.items()})
    return [attributes(item) for item in value] if isinstance(value, list) else value


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
