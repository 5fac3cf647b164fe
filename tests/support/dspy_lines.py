"""What the comparisons of ``docs/invisible.md`` need to know of the DSPy that is installed."""

from __future__ import annotations

import importlib
from collections.abc import Callable
from typing import Any

import dspy

HAS_ENGINES = hasattr(dspy, "lm15")
"""DSPy 3.4 and later. Before, every LM call goes through LiteLLM, which also makes the retries."""

ENGINES = ("lm15", "litellm") if HAS_ENGINES else ("litellm",)

HAS_LM_ERRORS = hasattr(dspy, "LMError")
LM_ERROR = dspy.LMError if HAS_LM_ERRORS else importlib.import_module("openai").OpenAIError
"""What a failed LM call raises. Before DSPy 3.3 it is LiteLLM's error, a subclass of OpenAI's."""

NO_FALLBACK = dspy.ChatAdapter(use_json_adapter_fallback=False)
"""Before DSPy 3.3 the fallback to another adapter is also taken when an LM call has failed."""


def plain(value: Any) -> Any:
    """An object of DSPy's or LiteLLM's as plain data."""
    if HAS_ENGINES:
        return importlib.import_module("dspy.clients.legacy_outputs").plain(value)
    if isinstance(value, dict):
        return {key: plain(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [plain(item) for item in value]
    return value.model_dump() if hasattr(value, "model_dump") else value


def without_waiting(patch: Any, note: Callable[..., None]) -> None:
    """Retries do not wait; ``note`` is called before each, with its error and attempt if known."""
    if HAS_ENGINES:

        def delay(error: Any, attempt: int) -> float:
            note(type(error).__name__, getattr(error, "retry_after", None), attempt)
            return 0.0

        patch.setattr(importlib.import_module("dspy.clients.execution"), "_delay", delay)
        return
    import tenacity

    class NoWait(tenacity.wait.wait_base):
        def __init__(self, **_: Any) -> None:
            pass

        def __call__(self, retry_state: Any) -> float:
            error = retry_state.outcome.exception()
            note(type(error).__name__, None, retry_state.attempt_number)
            return 0.0

    patch.setattr(tenacity, "wait_exponential", NoWait)
