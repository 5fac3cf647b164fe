"""A stream's ``StreamConfig`` at work: attempts, timeouts, breakers, continuing after a cut."""

from __future__ import annotations

from dataclasses import fields

import dspy

from streamll.capture.inside_dspy import HAS_ENGINES, needs_engines
from streamll.core.errors import ConfigurationError
from streamll.flow.config import StreamConfig, checked_config

BOUNDS = frozenset({"buffer_size", "overflow", "timeout"})
"""The options of a ``StreamConfig`` that are about a stream as a whole, not about its LM calls."""


def check_config(config: StreamConfig) -> None:
    """Raise ``ConfigurationError`` for options that govern LM calls where nothing can.

    Before DSPy 3.4 LiteLLM makes the attempts, as the LM's own ``num_retries`` say. Also raises it
    for a fallback that is no LM, and for what is no ``StreamConfig``.
    """
    checked_config(config)
    given = [
        each.name
        for each in fields(config)
        if each.name not in BOUNDS and getattr(config, each.name) != each.default
    ]
    if given and not HAS_ENGINES:
        what = f"StreamConfig({', '.join(f'{name}=…' for name in given)})"
        raise ConfigurationError(
            f"{needs_engines(what)}; the LM's own num_retries and timeout apply here"
        )
    for fallback in config.fallbacks:
        if not isinstance(fallback, dspy.BaseLM):
            name = f"dspy.LM({fallback!r})" if isinstance(fallback, str) else "dspy.LM(…)"
            raise ConfigurationError(
                f"fallbacks must be LMs, and one is a {type(fallback).__name__}; write {name}"
            )
