"""``ask``: a program asks a person and waits for the answer."""

from __future__ import annotations

import math
from typing import Any

from streamll.asking.answers import AnswerType
from streamll.asking.here import question_of
from streamll.asking.questions import NO_DEFAULT, Question, Unasked
from streamll.context import current_scope
from streamll.core.errors import ConfigurationError, NobodyToAsk
from streamll.core.events import Event


def ask(
    question: str,
    *,
    schema: Any = str,
    default: Any = NO_DEFAULT,
    timeout: float | None = None,
    to: str | None = None,
) -> Any:
    """Ask a person, and wait for the answer.

    Anywhere inside a captured run: in a ``forward``, a tool, a callback. Whoever reads the run sees a
    ``question`` event and may answer: ``events.answer(…)`` of a stream, ``streamll.answer``. The first answer wins.

    Args:
        question: what people read.
        schema: the type of the answer, any that pydantic reads (``bool``,
            ``Literal["red", "blue"]``, a model; default ``str``), or a JSON Schema as a mapping.
        default: what is returned instead where nobody can be asked, nobody answers in time, or
            somebody declines to.
        timeout: seconds to wait; by default for ever. The wait counts in no timeout of a
            ``StreamConfig``.
        to: whose answer is wanted, for those who show the question.

    Raises:
        NobodyToAsk: outside a run, inside ``dspy.Evaluate`` or an optimizer, or where nobody who
            reads the run could answer; and there is no default.
        QuestionLapsed: nobody answered in time, and there is no default.
        QuestionWithdrawn: somebody declined to answer, and there is no default.
        ConfigurationError: ``schema`` cannot be one.
        StreamllError: on an event loop, which this would block: ``await ask_async(…)`` there.
    """
    with asked(AnswerType(schema), default, timeout, text=question, to=to) as open_question:
        open_question.wait()
        return open_question.result()


async def ask_async(
    question: str,
    *,
    schema: Any = str,
    default: Any = NO_DEFAULT,
    timeout: float | None = None,
    to: str | None = None,
) -> Any:
    """``ask`` on an event loop: ``await`` the answer.

    Args:
        question: as ``ask`` takes it, and so are the others.
        schema: the answer's type, by default ``str``.
        default: the value where nobody answers.
        timeout: in seconds, by default for ever.
        to: whose answer is wanted.

    Raises:
        NobodyToAsk, QuestionLapsed, QuestionWithdrawn, ConfigurationError: as ``ask`` does.
    """
    with asked(AnswerType(schema), default, timeout, text=question, to=to) as open_question:
        await open_question.wait_async()
        return open_question.result()


def asked(
    answers: AnswerType, default: Any, timeout: float | None, **own: Any
) -> Question | Unasked:
    """An open question; where nobody can be asked, what stands in for one: its default."""
    if timeout is not None and not timeout >= 0:
        raise ConfigurationError(f"timeout is at least 0 seconds, not {timeout!r}")
    if timeout == math.inf:
        timeout = None
    scope = current_scope()
    nobody = "it is asked outside any captured run" if scope is None else scope.nobody_to_ask()
    if nobody is not None:
        if default is NO_DEFAULT:
            raise NobodyToAsk(f"nobody can answer {own['text']!r}: {nobody}")
        return Unasked(default)
    return Question(scope, answers, default, timeout, own)


def answer(run_id: str, question: str | Event, value: Any, *, by: str | None = None) -> None:
    """Answer a question of a run of this process, for routes and handlers of one's own.

    Args:
        run_id: the run that asks.
        question: the ``question`` event, or its ``question_id``.
        value: the answer as JSON has it, for the question's ``schema``.
        by: who answers, for the ``answer`` event.

    Raises:
        WrongAnswer: it cannot be the answer; ``problems`` says where and why. The question stays open.
        QuestionClosed: the question has ended, mostly since somebody else was first.
        NoSuchQuestion: no run under way in this process has asked it.
    """
    question_of(run_id, question_id_of(question)).answer(value, by)


def question_id_of(question: str | Event) -> str:
    return question if isinstance(question, str) else str(question.data["question_id"])
