"""The questions of a run, from their asking to their answer.

Whoever answers may be in any thread; the first one wins, and the ``answer`` event is in the run before
the program goes on. Waiting is a lock for a thread and a future for a task: no polling, and no thread
but the program's own.
"""

from __future__ import annotations

import threading
import time
import uuid
from collections.abc import Callable, Mapping
from typing import Any, NoReturn, Protocol

import msgspec

from streamll.asking.answers import AnswerType
from streamll.asking.here import asked_here
from streamll.asking.through_log import Listening
from streamll.context import get_context, scoped_context
from streamll.core import events as ev
from streamll.core.errors import (
    NobodyToAsk,
    NoSuchQuestion,
    QuestionClosed,
    QuestionLapsed,
    QuestionWithdrawn,
    StreamllError,
)
from streamll.core.events import Event, Identity
from streamll.flow.timers import Timer, timers
from streamll.flow.waiting import LoopWaiter, ThreadWaiter, Waiter, on_event_loop

ANSWERED, LAPSED, WITHDRAWN = "answered", "lapsed", "withdrawn"
NO_DEFAULT: Any = msgspec.UNSET
NOT_TOLD = "not what the question takes"
"""Of a wrong answer, where more would tell what the question itself does not."""


class AskingRun(Protocol):
    """What a run is to its questions (``capture.run.run.Run``)."""

    run_id: str
    lock: threading.RLock
    closed: bool

    def publish(
        self, kind: type[Event], scope: Any, identity: Identity, /, **own: Any
    ) -> Event | None: ...

    def connected(self, call: Any, shutdown: Callable[[], object]) -> None: ...

    def disconnected(self, call: Any) -> None: ...


class Unasked:
    """In place of a question that nobody is asked: ``default`` is its answer."""

    def __init__(self, default: Any) -> None:
        self._default = default

    def wait(self) -> None: ...

    async def wait_async(self) -> None: ...

    def result(self) -> Any:
        return self._default

    def __enter__(self) -> Unasked:  # noqa: PYI034
        return self

    def __exit__(self, *_: object) -> None: ...


class Question:
    """One question, from its asking to the end of its block. ``wait`` or ``wait_async``, then ``result``."""

    def __init__(
        self,
        scope: Any,
        answers: AnswerType,
        default: Any,
        timeout: float | None,
        own: Mapping[str, Any],
    ) -> None:
        self.id = uuid.uuid4().hex
        self.scope = scope  # where a run that is left looks for what waits
        self.answers = answers
        answers.tell = self._tell
        self.closed: QuestionClosed | None = None
        self._questions: Questions = scope.run.questions
        self._identity: Identity = scope.run.current_identity()
        self._context = get_context()
        self._default = default
        self._timeout = timeout
        self._own = own
        self._shown: ev.Question | None = None
        """Its event as it has left: guards may have masked what it says."""
        self._value: Any = None
        self._answer_id: str | None = None
        self._asked_at = 0.0
        self._waiter: Waiter | None = None
        self._timer: Timer | None = None
        self._listening = Listening(scope.receivers, scope.run.run_id, self._context)

    # --- asking ---------------------------------------------------------------------------------

    def __enter__(self) -> Question:  # noqa: PYI034
        self._listening.begin()
        return self

    def __exit__(self, *_: object) -> None:
        """Nobody waits for the answer any more."""
        self._questions.run.disconnected(self)
        if self._timer is not None:
            self._timer.cancel()
        if self._asked_at:
            self.withdraw()
        self.scope.unlisten(self._take_event)
        self._listening.end()

    def wait(self) -> None:
        """Raises ``StreamllError`` on an event loop: who could answer may need that loop."""
        if on_event_loop():
            raise StreamllError(
                "this would block its event loop, and with it whoever could answer; there, use "
                "await streamll.ask_async(…), or a tool that is an async function"
            )
        self._listening.wait()
        self._open()
        waiter = ThreadWaiter()
        if self._waits_with(waiter):
            waiter.wait(None)

    async def wait_async(self) -> None:
        await self._listening.wait_async()
        self._open()
        waiter = LoopWaiter()
        if self._waits_with(waiter):
            await waiter.wait(lambda _: None)

    def _open(self) -> None:
        """Ask it. From here on it can be answered."""
        lapses_at = None if self._timeout is None else time.time() + self._timeout
        facts = {"question_id": self.id, "schema": self.answers.schema, "lapses_at": lapses_at}
        run = self._questions.run
        self.scope.check()
        for receiver in self.scope.receivers:
            if (take := getattr(receiver, "take_question", None)) is not None:
                take(self)  # it asks a person itself, once it has the event
        with run.lock:
            if run.closed:
                raise NobodyToAsk("the run has ended, so nobody sees the question")
            self._asked_at = time.monotonic()
            self.scope.listen(self._take_event)
            # First: who sees the event may answer at once.
            self._questions.add(self, self._asked_at)
            run.publish(ev.Question, self.scope, self._identity, **facts, **self._own)
        if self._timeout is not None:
            self._timer = timers.at(self._asked_at + self._timeout, self._lapse)
        run.connected(self, self.withdraw)  # at once, if the program was left

    def _take_event(self, event: Event) -> None:
        if isinstance(event, ev.Question) and event.question_id == self.id:
            self._shown = event
            self.scope.unlisten(self._take_event)

    def _waits_with(self, waiter: Waiter) -> bool:
        with self._questions.run.lock:
            self._waiter = waiter
            return self.closed is None

    def result(self) -> Any:
        """The answer, or what stands in for it.

        Raises:
            Unwind: the program was left.
            QuestionLapsed, QuestionWithdrawn: there is no answer, and no default.
        """
        self.scope.check()
        assert self.closed is not None
        if self.closed.outcome != ANSWERED and self._default is NO_DEFAULT:
            text = self._own["text"]
            if self.closed.outcome == LAPSED:
                raise QuestionLapsed(f"nobody answered in time: {text!r}")
            raise QuestionWithdrawn(f"there will be no answer: {text!r}")
        return self._value

    # --- answering ------------------------------------------------------------------------------

    def answer(self, value: Any, by: str | None = None, answer_id: str | None = None) -> None:
        """Answer it with JSON.

        Raises:
            WrongAnswer: it cannot be the answer; the question stays open.
            QuestionClosed: it has ended.
        """
        if self.closed is None:
            converted = self.answers.convert(value, self._shown)
            if self._close(QuestionClosed(ANSWERED, by), converted, answer_id):
                return
        if not self._is_of(answer_id):
            self._raise_closed()

    def _tell(self, problem: str) -> str:
        """What may be told of a problem: the schema that it quotes may have been masked in the question."""
        redacted = self.scope.run.redact is not None
        if redacted and (self._shown is None or self._shown.schema != self.answers.schema):
            return NOT_TOLD
        return self.scope.as_shown(problem) or NOT_TOLD

    def withdraw(self, by: str | None = None, answer_id: str | None = None) -> bool:
        """Have it end without an answer; False if it has ended already."""
        return self._close(QuestionClosed(WITHDRAWN, by), self._default, answer_id)

    def decline(self, by: str | None = None, answer_id: str | None = None) -> None:
        """The same for whoever was asked; ``QuestionClosed`` if it has ended already."""
        if not self.withdraw(by, answer_id) and not self._is_of(answer_id):
            self._raise_closed()

    def _is_of(self, answer_id: str | None) -> bool:
        """Whether it has ended by this very message: a log may bring one twice."""
        return answer_id is not None and answer_id == self._answer_id

    def _raise_closed(self) -> NoReturn:
        """An error of its own for each, so that none keeps what others had in hand."""
        assert self.closed is not None
        raise QuestionClosed(self.closed.outcome, self.closed.by)

    def _lapse(self) -> None:
        self._close(QuestionClosed(LAPSED), self._default)

    def _close(self, closed: QuestionClosed, value: Any, answer_id: str | None = None) -> bool:
        run = self._questions.run
        told = None if value is NO_DEFAULT else self.answers.told(value)
        with run.lock:
            if self.closed is not None:
                return False
            self.closed, self._value, self._answer_id = closed, value, answer_id
            now = time.monotonic()
            with scoped_context(self._context):
                run.publish(
                    ev.Answer, self.scope, self._identity,
                    question_id=self.id, outcome=closed.outcome, value=told, by=closed.by,
                    waited=now - self._asked_at, answer_id=answer_id,
                )  # fmt: skip
            self._questions.remove(self, now)
            if self._waiter is not None:
                self._waiter.wake()
        return True


class Questions:
    """The questions of one run."""

    def __init__(self, run: AskingRun) -> None:
        self.run = run
        self.open: dict[str, Question] = {}
        self._asked: dict[str, Question] = {}
        self._waiting_since = 0.0
        self._waited = 0.0
        self._resumed: list[Callable[[], None]] = []

    @property
    def waited(self) -> float:
        """Seconds so far in which a question was open, of however many at once."""
        return self._waited_until(time.monotonic())

    def _waited_until(self, now: float) -> float:
        return self._waited + (now - self._waiting_since if self.open else 0.0)

    def when_resumed(self, call: Callable[[], None]) -> bool:
        """Call this once when no question is open any more; False if none is now."""
        with self.run.lock:
            if self.open:
                self._resumed.append(call)
            return bool(self.open)

    def add(self, question: Question, now: float) -> None:
        if not self.open:
            self._waiting_since = now
        self.open[question.id] = self._asked[question.id] = question
        asked_here[self.run.run_id] = self

    def remove(self, question: Question, now: float) -> None:
        """``now`` is until when its ``answer`` event says that it has waited."""
        waited = self._waited_until(now)
        del self.open[question.id]
        if not self.open:
            self._waited = waited
            calls, self._resumed = self._resumed, []
            for call in calls:
                call()

    def find(self, question_id: str) -> Question:
        """A question that was asked; ``NoSuchQuestion``."""
        with self.run.lock:
            question = self._asked.get(question_id)
        if question is None:
            open_ = ", ".join(self.open) or "none"
            raise NoSuchQuestion(f"this run has no question {question_id!r}; open: {open_}")
        return question

    def end(self) -> None:
        """The run ends: nobody waits for an answer any more."""
        for question in list(self.open.values()):
            question.withdraw()
        asked_here.pop(self.run.run_id, None)
