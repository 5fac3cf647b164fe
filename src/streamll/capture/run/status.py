"""Status messages: what a provider says when a module, tool or LM call begins and ends.

``StatusMessage`` is DSPy's own class; so is every provider, with one hook more.
"""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable
from typing import Any

from dspy.streaming import StatusMessage as DSPyStatusMessage
from dspy.streaming import StatusMessageProvider as DSPyStatusMessageProvider

from streamll.configuration import logger

StatusMessage = DSPyStatusMessage

FINISH = "finish"
"""ReAct's way to end its loop looks like a tool; DSPy says nothing of it."""


class StatusMessageProvider(DSPyStatusMessageProvider):  # type: ignore[misc]
    """DSPy's provider with a hook for tools that fail.

    Override what shall say something else; a hook that returns nothing says nothing. The ``…_end``
    hooks take ``(self, outputs)`` or ``(self, instance, outputs)`` and are asked only where
    there are outputs.
    """

    def tool_error_status_message(self, instance: Any, exception: BaseException) -> str | None:
        """Status message after a ``dspy.Tool`` raised, instead of the one for its end."""
        return f"Tool {instance.name} failed: {type(exception).__name__}"


class Statuses:
    """A provider as a run asks it. What the provider does wrong goes to the log, once."""

    def __init__(self, provider: DSPyStatusMessageProvider | None = None) -> None:
        self._provider = provider if provider is not None else StatusMessageProvider()
        self._complained = False

    def message(self, moment: str, instance: Any, value: Any) -> str | None:
        """What to say at ``"tool_start"``, ``"lm_end"``, …; DSPy's providers know no errors."""
        if moment.startswith("tool") and instance.name == FINISH:
            return None
        try:
            message = self._hook(moment)(instance, value)
        except Exception as error:  # noqa: BLE001 - the program does not answer for its messages
            self._complain(moment, error)
            return None
        return str(message) if message else None

    def _hook(self, moment: str) -> Callable[[Any, Any], Any]:
        name = f"{moment}_status_message"
        standard: Callable[..., Any] = getattr(_STANDARD, name)
        hook: Callable[..., Any] = getattr(self._provider, name, standard)
        return functools.partial(_call_with_last, hook)

    def _complain(self, moment: str, error: Exception) -> None:
        if not self._complained:
            self._complained = True
            logger.error(
                "the status message for %s could not be made; the program goes on (said once)",
                moment,
                exc_info=error,
            )


_STANDARD = StatusMessageProvider()


def _call_with_last(hook: Callable[..., Any], *arguments: Any) -> Any:
    """Call a hook with as many of the last arguments as it takes."""
    count = 0
    for parameter in inspect.signature(hook).parameters.values():
        if parameter.kind is parameter.VAR_POSITIONAL:
            return hook(*arguments)
        count += parameter.kind in (
            parameter.POSITIONAL_ONLY,
            parameter.POSITIONAL_OR_KEYWORD,
        )
    return hook(*arguments[-count:] if count else ())
