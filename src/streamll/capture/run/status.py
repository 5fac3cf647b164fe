"""Status messages, which a provider makes when a module, tool or LM call begins and ends.

``StatusMessage`` is DSPy's own class; the provider extends DSPy's by one hook.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable
from typing import Any

from dspy.streaming import StatusMessage as DSPyStatusMessage
from dspy.streaming import StatusMessageProvider as DSPyStatusMessageProvider

from streamll.core.errors import ConfigurationError, logger

StatusMessage = DSPyStatusMessage


class StatusMessageProvider(DSPyStatusMessageProvider):  # type: ignore[misc]
    """DSPy's provider with a hook for tools that fail.

    Override hooks to change their messages; a hook that returns nothing gives no message. The
    ``…_end`` hooks take ``(self, outputs)`` or ``(self, instance, outputs)`` and are called only
    where there are outputs.
    """

    def tool_error_status_message(self, instance: Any, exception: BaseException) -> str | None:
        """The message after a ``dspy.Tool`` raised, instead of the one for its end.

        ``instance`` is the tool, ``exception`` what it raised.
        """
        return f"Tool {instance.name} failed: {type(exception).__name__}"


def _check(provider: Any) -> None:
    names = [name for name in dir(StatusMessageProvider) if name.endswith("_status_message")]
    hooks = {name: getattr(provider, name) for name in names if hasattr(provider, name)}
    if isinstance(provider, type) or not hooks:
        given = repr(provider) if isinstance(provider, type) else type(provider).__name__
        raise ConfigurationError(f"status is a StatusMessageProvider, not {given}")
    for name, hook in hooks.items():
        if inspect.iscoroutinefunction(hook):
            raise ConfigurationError(
                f"{type(provider).__name__}.{name} must be an ordinary function: nobody awaits it"
            )


class Statuses:
    """A provider, as a run calls it. Its exceptions are logged, once.

    Raises:
        ConfigurationError: what has no hook that could be called, or a coroutine function as one.
    """

    def __init__(self, provider: DSPyStatusMessageProvider | None = None) -> None:
        if provider is not None:
            _check(provider)
        self._provider = provider if provider is not None else StatusMessageProvider()
        self._reported = False

    def message(self, moment: str, instance: Any, value: Any) -> str | None:
        """The message for ``"tool_start"``, ``"lm_end"``, …, if there is one."""
        if moment.startswith("tool") and instance.name == "finish":  # as in DSPy: ReAct's own tool
            return None
        name = f"{moment}_status_message"
        try:
            hook = getattr(self._provider, name, None) or getattr(_STANDARD, name)
            message = _call_with_last(hook, instance, value)
        except Exception:
            if not self._reported:
                self._reported = True
                text = (
                    "the status message for %s could not be made; the program goes on (logged once)"
                )
                logger.exception(text, moment)
            return None
        return str(message) if message else None


_STANDARD = StatusMessageProvider()


def _call_with_last(hook: Callable[..., Any], *arguments: Any) -> Any:
    """Call a hook with as many of the last arguments as it takes."""
    kinds = [parameter.kind for parameter in inspect.signature(hook).parameters.values()]
    if inspect.Parameter.VAR_POSITIONAL in kinds:
        return hook(*arguments)
    positional = (inspect.Parameter.POSITIONAL_ONLY, inspect.Parameter.POSITIONAL_OR_KEYWORD)
    count = sum(kind in positional for kind in kinds)
    return hook(*arguments[-count:] if count else ())
