"""From a question to its reply, with everything around it: hooks, attempts, limits, events.

Runs inside the scope of a stream, whose ``StreamConfig`` governs the attempts (``capture.govern``)
and whose reader hears the events. What DSPy's callbacks tell of a ``dspy.LM``'s call is told
here, because DSPy knows nothing of this one.
"""

from __future__ import annotations

import asyncio
import time
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from types import SimpleNamespace
from typing import Any

from streamll.capture.hooks.callbacks import CALLBACK
from streamll.capture.inside_dspy import ACTIVE_CALL_ID
from streamll.capture.policy.call import CallPolicy, SupervisedCall
from streamll.capture.reply.lm_call import LMCall
from streamll.capture.run.scope import current_scope
from streamll.chat.engines import Engines
from streamll.chat.hooks import Hooks, complain
from streamll.chat.question import Question
from streamll.chat.reply import Listening, Reply
from streamll.chat.waits import Waits
from streamll.core.errors import CircuitOpen, Unwind
from streamll.flow.breaker import CircuitBreaker

LEFT = (Unwind, asyncio.CancelledError, GeneratorExit, KeyboardInterrupt)
"""What ends a question without an error of its own."""


class Answering:
    """How one model answers. ``answer`` may be under way any number of times."""

    def __init__(
        self,
        name: str,
        door: str,
        engines: Engines,
        hooks: Hooks,
        *,
        priced: bool,
    ) -> None:
        self.name = name
        self.door = door
        self.engines = engines
        self.hooks = hooks
        self.priced = priced
        """Whether the provider's public prices are those of this model."""

    async def answer(
        self, question: Question, reply: Reply, breaker: CircuitBreaker | None, waits: Waits
    ) -> Reply:
        """Fill ``reply``. Raises lm15's errors, ``CircuitOpen``, or what a ``before`` hook raises."""
        try:
            await waits.hook(self.hooks.before, question)
            request = question.request(self.door)
            with lm_call(f"{self.name}/{question.model}", question) as call:
                governed = SupervisedCall(_governor(call), Listening(reply, call), breaker)
                response = await waits.complete(self.engines, governed, request)
                reply.complete(response)
                cost = (
                    await waits.cost(response, self.door, question.model) if self.priced else None
                )
                call.result = accounts(response.usage, cost)
        except BaseException as error:
            reply.ended = time.monotonic()
            if not isinstance(error, LEFT):
                await self._tell(self.hooks.on_error, waits, question, error)
            if isinstance(error.__cause__, CircuitOpen):
                raise error.__cause__ from None
            raise
        reply.ended = time.monotonic()
        await self._tell(self.hooks.after, waits, question, reply)
        return reply

    async def _tell(self, hook: Any, waits: Waits, *arguments: Any) -> None:
        try:
            await waits.hook(hook, *arguments)
        except Exception as error:  # noqa: BLE001 - the question's own outcome stands
            complain(hook, error)


def _governor(call: LMCall) -> CallPolicy:
    governor = call.scope.governor
    assert governor is not None, "every question is asked inside a stream with a config"
    return governor


@contextmanager
def lm_call(model: str, question: Question) -> Iterator[LMCall]:
    """An LM call that DSPy knows nothing of, in the current scope."""
    scope = current_scope()
    assert scope is not None
    call_id = uuid.uuid4().hex
    CALLBACK.on_lm_start(call_id, SimpleNamespace(model=model), {"prompt": question.messages})
    call: LMCall = scope.run.frames[call_id].lm_calls[0]
    token = ACTIVE_CALL_ID.set(call_id)
    error: BaseException | None = None
    try:
        yield call
    except BaseException as raised:
        error = raised
        raise
    finally:
        ACTIVE_CALL_ID.reset(token)
        CALLBACK.on_lm_end(call_id, None, error)


def accounts(usage: Any, cost: float | None) -> Any:
    """Usage and cost as DSPy's results have them, for ``lm.end``."""
    counted = {"prompt_tokens": usage.input_tokens, "completion_tokens": usage.output_tokens}
    return SimpleNamespace(usage=counted, cost=cost, cache_hit=False)
