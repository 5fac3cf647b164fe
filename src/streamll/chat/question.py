"""One question to a model: as its caller puts it, its hooks, the call of a ``dspy.LM``, the reply.

``PendingCall`` is the program of the ``streamll.stream`` that every question is: the stream's
config governs attempts, timeouts and limits, and its sinks receive the events.
"""

from __future__ import annotations

import asyncio
import inspect
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager, suppress
from difflib import get_close_matches
from typing import Any

import dspy
import msgspec

from streamll.chat.lm15 import lm15
from streamll.chat.reply import ModelReply
from streamll.context import current_scope
from streamll.core.errors import CircuitOpen, ConfigurationError, StreamTimeout, Unwind, logger

CONNECTIONS_PER_LM = 100
"""What DSPy's native engine opens at most; a further request waits for one to be free."""

CLIENT_OPTIONS = frozenset(
    {"api_key", "api_base", "base_url", "timeout", "headers", "extra_headers", "max_retries"}
)
USUAL_OPTIONS = (
    *("instruction", "imodel", "context", "messages", "model", "config", "sinks", "guards"),
    *("temperature", "max_tokens", "top_p", "stop", "seed", "reasoning_effort"),
    *("tools", "tool_choice", "response_format"),
)
"""What a misspelt option may have been meant to be."""


class Question:
    """``messages`` and ``options`` of one question to ``model``; a ``before`` hook may change both.

    ``messages`` are dictionaries as chat completions have them. ``state`` is for the hooks'
    own use.

    Raises:
        ConfigurationError: an option that belongs to the model (``api_key``, …), or messages that
            are none.
    """

    def __init__(self, model: str, messages: Any, options: Mapping[str, Any]) -> None:
        self.model = model
        self.messages = _messages(messages)
        self.options = dict(options)
        self.state: dict[str, Any] = {}
        for name in CLIENT_OPTIONS & self.options.keys():
            own = f": iModel(…, {name}=…)" if name in {"api_key", "base_url"} else ""
            raise ConfigurationError(f"{name} belongs to the model, not to one question{own}")

    def request(self, model: str) -> lm15.Request:
        """The request to ``model``, as ``dspy.LM`` takes it.

        Raises:
            ConfigurationError: a message or option that makes no sense or cannot be carried.
        """
        body = {**self.options, "model": model, "messages": self.messages}
        try:
            return lm15.request_from_openai_chat(body)
        except lm15.UnsupportedFeatureError as error:
            raise ConfigurationError(_refused(error)) from error
        except (ValueError, TypeError) as error:
            raise ConfigurationError(f"this cannot be sent: {error}") from error


class Hooks(msgspec.Struct, frozen=True, kw_only=True):
    """Functions of the caller's own, called once per question, streamed or not; also ``async``.

    ``before(question)`` may change the question, and prevents it by raising. ``after(question,
    reply)`` and ``on_error(question, error)`` run at its end; what they raise is logged and does
    not reach the caller. ``error`` is what the caller gets. Neither runs for a question that was
    cancelled, or whose stream was left: nothing failed.
    """

    before: Callable[[Question], Any] | None = None
    after: Callable[[Question, ModelReply], Any] | None = None
    on_error: Callable[[Question, BaseException], Any] | None = None


class PendingCall:
    """One question, called from a thread or awaited on an event loop; fills ``reply``.

    It holds no reference to the stream that runs it, so that dropping that stream stops it.
    """

    def __init__(self, lms: LMPool, hooks: Hooks, question: Question, name: str) -> None:
        self.__name__ = name
        self.question = question
        self.reply = ModelReply()
        self._lms = lms
        self._hooks = hooks

    def __call__(self) -> ModelReply:
        """Ask.

        Raises:
            LM15Error: what the provider or the connection failed with.
            CircuitOpen: the provider is not asked for the time being.
            Exception: what a ``before`` hook raises.
        """
        with suppress(StopIteration):  # it never suspends
            self._ask(blocking=True).send(None)
        return self.reply

    async def acall(self) -> ModelReply:
        """The same on an event loop."""
        await self._ask(blocking=False)
        return self.reply

    async def _ask(self, *, blocking: bool) -> None:
        hooks, question, reply = self._hooks, self.question, self.reply
        try:
            await _call(hooks.before, question, blocking=blocking)
            reply.complete(await self._response(blocking=blocking))
        except (Exception, Unwind, asyncio.CancelledError) as error:
            if (reason := _reason(error)) is not None:
                await _call_quietly(hooks.on_error, question, reason, blocking=blocking)
            raise
        finally:
            reply.ended = time.monotonic()
        await _call_quietly(hooks.after, question, reply, blocking=blocking)

    async def _response(self, *, blocking: bool) -> lm15.Response:
        # DSPy's history would keep every message; with its ``send_stream`` the reply would also
        # go into the output of a ``dspy.streamify`` around the caller.
        with self._lms.free() as lm, dspy.context(disable_history=True, send_stream=None):
            provider, _, model = lm.model.partition("/")
            if model != self.question.model:
                lm = lm.copy(model=f"{provider}/{self.question.model}")  # noqa: PLW2901
            request = self.question.request(lm.model)
            try:
                return lm(request=request) if blocking else await lm.acall(request=request)
            except dspy.LMError as error:
                cause = _cause(error)
        raise cause


class LMPool:
    """The LMs of one model. Safe to use from any thread."""

    def __init__(self, make_lm: Callable[[], dspy.LM]) -> None:
        self.lms = [make_lm()]
        self._make_lm = make_lm
        self._in_use = [0]
        self._lock = threading.Lock()

    @contextmanager
    def free(self) -> Iterator[dspy.LM]:
        """An LM with a free connection; a new one if all connections are in use."""
        with self._lock:
            if min(self._in_use) >= CONNECTIONS_PER_LM:
                self.lms.append(self._make_lm())
                self._in_use.append(0)
            index = next(i for i, used in enumerate(self._in_use) if used < CONNECTIONS_PER_LM)
            self._in_use[index] += 1
        try:
            yield self.lms[index]
        finally:
            with self._lock:
                self._in_use[index] -= 1

    def close(self) -> None:
        """Close the idle connections of threads."""
        for lm in self.lms:
            lm.close()

    async def aclose(self) -> None:
        """Close those, and the ones of this event loop."""
        for lm in self.lms:
            await lm.aclose()


def _refused(error: lm15.UnsupportedFeatureError) -> str:
    """lm15's reason, without what it says to its own authors."""
    what, _, why = str(error).removeprefix("openai-chat: ").partition(" cannot be carried ")
    _, _, why = why.partition(" — ")
    if "no verdict" not in why:
        return f"{what} cannot be sent: {why or 'no request carries it'}"
    close = get_close_matches(what.strip("'"), USUAL_OPTIONS, n=1)
    return f"{what} is no option of a question" + (f"; did you mean {close[0]!r}?" if close else "")


def _cause(error: dspy.LMError) -> BaseException:
    """What DSPy's error stands for: lm15's, or the open breaker that kept the request back."""
    cause = error.__cause__ or error
    return cause.__cause__ if isinstance(cause.__cause__, CircuitOpen) else cause


def _reason(error: BaseException) -> BaseException | None:
    """What the caller gets for it; ``None`` if the question was left."""
    if isinstance(error, Exception):
        timeout = getattr(error, "timeout", None)
        return timeout if isinstance(timeout, StreamTimeout) else error
    scope = current_scope()
    return None if scope is None else scope.reason or scope.stopped


async def _call(hook: Callable[..., Any] | None, *arguments: Any, blocking: bool) -> None:
    result = hook(*arguments) if hook is not None else None
    if inspect.isawaitable(result):
        if blocking:
            if inspect.iscoroutine(result):
                result.close()
            raise ConfigurationError("an async hook needs the async form of the call")
        await result


async def _call_quietly(hook: Callable[..., Any] | None, *arguments: Any, blocking: bool) -> None:
    """The same; an exception is logged, since the question has its own outcome already."""
    try:
        await _call(hook, *arguments, blocking=blocking)
    except Exception:
        logger.exception("the hook %s raised", getattr(hook, "__name__", hook))


def _messages(messages: Any) -> list[dict[str, Any]]:
    """A text, a mapping, messages of a session, or a list of any of these."""
    if isinstance(messages, (str, Mapping)) or hasattr(messages, "to_chat"):
        messages = [messages]
    if not isinstance(messages, Iterable):
        raise ConfigurationError(
            f"messages is a list of {{'role': …, 'content': …}}, not {type(messages).__name__}"
        )
    found = [_as_message(message) for message in messages]
    if not found:
        raise ConfigurationError("there is no message to answer")
    return found


def _as_message(message: Any) -> dict[str, Any]:
    if isinstance(message, str):
        return {"role": "user", "content": message}
    if isinstance(message, Mapping) and "role" in message:
        return dict(message)
    if hasattr(message, "to_chat"):
        return dict(message.to_chat())
    raise ConfigurationError(f"a message has a role and content; this is {type(message).__name__}")
