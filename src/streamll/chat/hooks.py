"""What is called around a question: before it, after its reply, on its failure."""

from __future__ import annotations

import inspect
import logging
from collections.abc import Awaitable, Callable
from typing import Any

import msgspec

from streamll.chat.question import Question
from streamll.chat.reply import Reply
from streamll.core.errors import ConfigurationError

logger = logging.getLogger("streamll")

Before = Callable[[Question], Any]
After = Callable[[Question, Reply], Any]
OnError = Callable[[Question, BaseException], Any]


class Hooks(msgspec.Struct, frozen=True, kw_only=True):
    """Functions of your own, called once per question, ordinary or ``async``.

    ``before(question)`` may change the question, and prevents it by raising. ``after(question,
    reply)`` and ``on_error(question, error)`` are told of the end, streamed or not; what they
    raise is logged, since it is not the caller's question that failed.
    """

    before: Before | None = None
    after: After | None = None
    on_error: OnError | None = None


def call(hook: Callable[..., Any] | None, *arguments: Any) -> Awaitable[Any] | None:
    """Call a hook; what it returns if that has to be awaited."""
    result = hook(*arguments) if hook is not None else None
    return result if inspect.isawaitable(result) else None


def call_blocking(hook: Callable[..., Any] | None, *arguments: Any) -> None:
    awaitable = call(hook, *arguments)
    if awaitable is not None:
        if inspect.iscoroutine(awaitable):
            awaitable.close()
        raise ConfigurationError("an async hook needs the async form of the call")


def complain(hook: Callable[..., Any] | None, error: Exception) -> None:
    """The hook raised; it is said, and nothing else happens."""
    logger.error("the hook %s raised", getattr(hook, "__name__", hook), exc_info=error)
