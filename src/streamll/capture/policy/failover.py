"""Failover: the LMs that are asked for one LM call, one after the other, until one answers.

DSPy makes an LM call by ``execute``. Under a config with ``fallbacks`` that is done with the
program's own LM first, then with each fallback: a whole call of DSPy's each time, so that cache,
history, usage and price are those of the LM that answered, and what the program gets is what that
LM gives. The attempts at one LM, and its timeouts, are in ``attempts``.
"""

from __future__ import annotations

import asyncio
import dataclasses
import functools
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import dspy

from streamll.capture.inside_dspy import CLIENT_KEYS, is_transient, prepare_call, setting
from streamll.capture.tap.waits import Waits
from streamll.core.errors import logger
from streamll.flow.config import StreamConfig

Execute = Callable[[Any, Any], Any]


class CutReply(NamedTuple):
    """What an LM had said when it failed for good, for the next one to continue."""

    texts: list[str]
    failure: BaseException


class Failover:
    """One LM call of ``listener`` and the LMs for it."""

    def __init__(self, listener: Any, config: StreamConfig) -> None:
        self._listener = listener
        self._config = config
        self._left = list(config.fallbacks)
        self._tried: list[tuple[str, Exception]] = []
        self._cut: CutReply | None = None
        self.can_continue = False  # one candidate, and nothing but text
        self.supervised: Any = None  # the ``SupervisedCall`` at the LM that is being asked
        self.answered: tuple[Any, Any] | None = None
        """The LM that answered, and its call; ``None`` while the program's own is asked."""

    @property
    def has_next(self) -> bool:
        return bool(self._left)

    @property
    def begun(self) -> bool:
        """Whether the program's own LM has failed, so that another one is asked."""
        return bool(self._tried)

    async def complete(
        self, waits: Waits, execute: Execute, lm: Any, call: Any, *, asynchronous: bool
    ) -> Any:
        """The result of the first LM that gives one. Raises the error of the last one."""
        self._left = [other for other in self._left if other is not lm]
        asked, asked_call, error = lm, call, None
        while error is None or self._left:
            if error is not None:
                asked = self._next(asked, error)
            try:
                if asked is not lm:
                    prepare = functools.partial(_call_of, asked, call, asynchronous=asynchronous)
                    # which may read files of messages, so that DSPy does it off the loop as well
                    asked_call = await asyncio.to_thread(prepare) if asynchronous else prepare()
                self.can_continue = asked_call.n == 1
                result = await waits.call(execute, asked, asked_call)
            except Exception as failed:  # noqa: BLE001 - raised below, without one in the context of another
                error = failed
            else:
                self._settle(cached=bool(getattr(result, "cache_hit", False)))
                if asked is not lm:
                    self.answered = asked, asked_call
                return result
            self._settle_attempts()
            if not self._may_go_on(error, asked_call):
                break
        self._settle(cached=False)
        assert error is not None
        raise _naming(error, self._tried)

    def _may_go_on(self, error: Exception, call: Any) -> bool:
        """Whether another LM may be asked after this error.

        Errors of an LM, permanent ones included: another one has another key, other limits and
        features. Not what is wrong with the program, or with Python.
        """
        if call.managed and not isinstance(error, dspy.LMError):
            return False
        supervised = self.supervised
        begun = self._listener.has_begun or (supervised is not None and supervised.has_begun)
        is_passed_on = setting("send_stream") is not None  # ``dspy.streamify`` has yielded it
        return not (begun and (self._config.on_partial == "fail" or is_passed_on))

    def _next(self, lm: Any, error: Exception) -> Any:
        """The LM to ask after ``lm`` has failed. Raises ``Unwind`` if the stream was left."""
        listener = self._listener
        listener.check()
        self._tried.append((lm.model, error))
        following = self._left.pop(0)
        if not is_transient(error):
            text = "%s: %s; asking %s instead"
            logger.warning(text, lm.model, type(error).__name__, following.model)
        listener.waiting("fallback", None, following.model)
        listener.switch(following.model, type(error).__name__)
        return following

    # --- between two LMs ------------------------------------------------------------------------

    def hold(self, texts: list[str], failure: BaseException) -> bool:
        """Keep a reply that was cut for the next LM to continue; False if it cannot be continued."""
        possible = self._config.on_partial == "continue" and self.can_continue and self.has_next
        if possible and texts:
            self._cut = CutReply(texts, failure)
        return self._cut is not None

    def take(self) -> CutReply | None:
        """What is to be continued by the LM that is being asked now, if anything is."""
        cut, self._cut = self._cut, None
        return cut

    def _settle_attempts(self) -> None:
        """The listener has been told how the attempts at an LM ended, or the reply is held."""
        if self.supervised is not None:
            self.supervised.give_up()

    def _settle(self, *, cached: bool) -> None:
        """The call is over: nobody continues what is still held, and a cached reply replaces it."""
        if (cut := self.take()) is not None:
            self._listener.failed(cut.failure)
        if cached and self.begun:
            self._listener.begin()


def _call_of(lm: Any, call: Any, *, asynchronous: bool) -> Any:
    """DSPy's ``PreparedCall`` of ``lm`` for what ``call`` asks of another LM.

    An address or key that came with the call was meant for the other LM. A ``rollout_id``, which
    asks for another reply than the cached one, is often an option of the LM itself.
    """
    kwargs: dict[str, Any] = {
        key: val for key, val in call.kwargs.items() if key not in CLIENT_KEYS
    }
    own: Mapping[str, Any] = call.legacy
    if own.get("rollout_id") is not None:
        again = {name: own[name] for name in ("rollout_id", "temperature") if name in own}
        kwargs = {**again, **kwargs}
    if call.request is not None:
        kwargs["request"] = dataclasses.replace(call.request, model=lm.model)
    return prepare_call(lm, call.prompt, call.messages, kwargs, asynchronous=asynchronous)


def _naming(error: Exception, tried: list[tuple[str, Exception]]) -> Exception:
    """The last LM's error, with the LMs before it in its message and as ``earlier_errors``."""
    if not tried:
        return error
    said = f" (asked before: {'; '.join(_told(model, each) for model, each in tried)})"
    for each in (error, error.__cause__):
        if isinstance(each, Exception):
            each.earlier_errors = [failed for _, failed in tried]  # type: ignore[attr-defined]
            if isinstance(getattr(each, "message", None), str):
                each.message += said  # type: ignore[attr-defined]
            if each.args and isinstance(each.args[0], str):
                each.args = (each.args[0] + said, *each.args[1:])
    return error


def _told(model: str, error: Exception) -> str:
    first_line = str(getattr(error, "message", error)).partition("\n")[0]
    return f"{model}: {type(error).__name__}: {first_line}"
