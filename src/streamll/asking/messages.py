"""Answers as messages through a log: written by whoever answers, heard where the program runs.

Both are events outside any run (docs/wire.md). No I/O.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from typing import Any

from streamll.asking.here import asked_here, question_of
from streamll.core.errors import NoSuchQuestion, QuestionClosed, WrongAnswer
from streamll.core.events import Event, StreamllEvent
from streamll.core.problems import Problem
from streamll.core.run_view import MESSAGES

ANSWER, REFUSED = f"{MESSAGES}answer", f"{MESSAGES}answer_refused"


def message(kind: str, **data: Any) -> Event:
    return StreamllEvent(event_type=kind, data=data, timestamp=time.time())


def hear(data: Mapping[str, Any], refuse: Callable[[Event], object]) -> None:
    """Take an answer that came through the log, if a run of this process has asked the question.

    ``refuse`` gets what is told to whoever gave it, where it cannot be taken.
    """
    run_id, question_id, by, answer_id = (
        each if isinstance(each := data.get(key), str) else None
        for key in ("run_id", "question_id", "by", "answer_id")
    )
    if run_id not in asked_here or run_id is None or question_id is None:
        return
    try:
        question = question_of(run_id, question_id)
        if "value" not in data:
            question.decline(by, answer_id)
        else:
            question.answer(data["value"], by, answer_id)
    except (WrongAnswer, QuestionClosed, NoSuchQuestion) as error:
        refuse(
            message(
                REFUSED, run_id=run_id, question_id=question_id, answer_id=answer_id, **told(error)
            )
        )


def refusal_in(data: Mapping[str, Any]) -> Exception:
    """The error that a refusal tells of."""
    said, problems = str(data.get("message")), data.get("problems")
    if data.get("error") == "WrongAnswer" and isinstance(problems, list):
        return WrongAnswer(
            Problem(str(each.get("place")), str(each.get("message")))
            for each in problems
            if isinstance(each, Mapping)
        )
    if data.get("error") == "QuestionClosed":
        by = data.get("by")
        return QuestionClosed(str(data.get("outcome")), by if isinstance(by, str) else None)
    return NoSuchQuestion(said)


def told(error: WrongAnswer | QuestionClosed | NoSuchQuestion) -> dict[str, Any]:
    """Why an answer was not taken, as plain data."""
    about: dict[str, Any] = {"error": type(error).__name__, "message": str(error)}
    if isinstance(error, WrongAnswer):
        about["problems"] = [
            {"place": each.place, "message": each.message} for each in error.problems[: error.TOLD]
        ]
    elif isinstance(error, QuestionClosed):
        about |= {"outcome": error.outcome, "by": error.by}
    return about
