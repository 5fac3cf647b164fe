"""One question, asked once: as a stream of events, or for its answer alone."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from types import TracebackType
from typing import Any

from streamll.capture.run.enter import watched_sinks
from streamll.capture.run.scope import current_scope
from streamll.capture.stream import AsyncStream, Call, Stream, stream
from streamll.capture.tap.waits import run_blocking
from streamll.chat.calling import Calling
from streamll.chat.question import Question
from streamll.chat.reply import Reply
from streamll.chat.runner import Answering
from streamll.chat.waits import Blocking, Suspending
from streamll.configuration import Receiver, configuration
from streamll.flow.breaker import CircuitBreaker
from streamll.flow.config import StreamConfig


class Asked:
    """Enter it, ``with`` or ``async with``, once: that sends the question.

    ``reply`` is filled meanwhile, ``calling`` where it is asked for a whole answer. ``streamed``
    is whether the text is wanted as it comes.
    """

    def __init__(
        self,
        how: Answering,
        question: Question,
        config: StreamConfig,
        sinks: tuple[Receiver, ...],
        *,
        name: str,
        breaker: CircuitBreaker | None,
    ) -> None:
        self.question = question
        self.reply = Reply()
        self.calling = Calling(question)
        self.streamed = True
        self._how = how
        self._config = config
        self._sinks = sinks
        self._name = name
        self._breaker = breaker
        self._call: Call | None = None

    @property
    def listened(self) -> bool:
        """Whether anybody but the caller hears this."""
        outer = current_scope()
        return bool(
            self._sinks
            or configuration.sinks
            or watched_sinks()
            or (outer is not None and outer.receivers)
        )

    def __enter__(self) -> Stream:
        how, question, reply, breaker = self._how, self.question, self.reply, self._breaker

        def perform() -> Reply:
            return run_blocking(how.answer(question, reply, breaker, Blocking()))

        self._call = self._open(perform)
        return self._call.__enter__()

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        assert self._call is not None
        self._call.__exit__(kind, error, traceback)

    async def __aenter__(self) -> AsyncStream:
        how, question, reply, breaker = self._how, self.question, self.reply, self._breaker

        async def perform() -> Reply:
            return await how.answer(question, reply, breaker, Suspending())

        self._call = self._open(perform)
        return await self._call.__aenter__()

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        assert self._call is not None
        await self._call.__aexit__(kind, error, traceback)

    def _open(self, program: Any) -> Call:
        """``program`` must not hold this object: whoever drops that stops the program."""
        if self._call is not None:
            raise TypeError("a question is asked once; ask again for another answer")
        program.__name__ = self._name
        fields = "*" if self.streamed or self.listened else ()
        return stream(
            program, fields=fields, config=self._config, sinks=self._sinks, keep_text=False
        )()


async def invoked(asked: Asked) -> Calling:
    """The whole answer. A failure is kept in the ``Calling``; being cancelled is raised as well."""
    asked.streamed = False
    with _outcome(asked):
        async with asked as events:
            await events.result()
    return asked.calling


def invoked_sync(asked: Asked) -> Calling:
    """The same in this thread; what is raised as well is Ctrl-C."""
    asked.streamed = False
    with _outcome(asked), asked as events:
        events.result()
    return asked.calling


@contextlib.contextmanager
def _outcome(asked: Asked) -> Iterator[None]:
    """What becomes of the block is what becomes of the call."""
    try:
        yield
    except Exception as error:  # noqa: BLE001 - it is the outcome
        asked.calling.failed(asked.reply, error)
    except BaseException as error:
        asked.calling.failed(asked.reply, error, cancelled=True)
        raise
    else:
        asked.calling.completed(asked.reply)
