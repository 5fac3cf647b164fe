"""What events may contain: content only where ``configure(include=…)`` asks for it.

An exception's own text can quote prompts, replies and keys, so by default an error is described
by its type and by the facts DSPy keeps beside the text (status, provider, code).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from streamll.configuration import configuration
from streamll.core.errors import StreamllError

ERROR_FACTS = ("status", "provider", "code", "provider_code", "retry_after", "adapter_name")


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


def clip(value: Any, limit: int) -> Any:
    """``value`` with every text cut to ``limit`` characters; objects as their clipped ``str``."""
    if value is None or isinstance(value, (bool, int, float)):
        return value
    if isinstance(value, Mapping):
        return {str(key): clip(item, limit) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [clip(item, limit) for item in value]
    text = value if isinstance(value, str) else str(value)
    return text if len(text) <= limit else f"{text[:limit]}… ({len(text)} characters)"


def describe(error: BaseException) -> tuple[str, str]:
    """The error's type name, and a message that may leave the process."""
    name = type(error).__name__
    if isinstance(error, StreamllError):
        return name, str(error)
    try:
        if "errors" in configuration.include:
            return name, clip(str(error), configuration.include_limit)
        facts = [
            f"{fact} {value}"
            for fact in ERROR_FACTS
            if isinstance(value := getattr(error, fact, None), (str, int, float)) and value != ""
        ]
    except Exception as second:  # noqa: BLE001 - a program's own errors may raise anything
        return name, f"not shown: {type(second).__name__}"
    return name, ", ".join(facts)
