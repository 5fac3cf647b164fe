"""Answering the questions of a run, whichever process runs it.

Where the run is here, the answer is given at once. Elsewhere it goes through the log (``server.answer``),
checked against the question as the log has it, and what came of it is awaited there.
"""

from __future__ import annotations

import asyncio
import contextlib
import time
import uuid
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import msgspec
from starlette.requests import Request
from starlette.responses import JSONResponse, Response

from streamll.asking.answers import check
from streamll.asking.messages import ANSWER, message
from streamll.core.errors import NoSuchQuestion, QuestionClosed, RunUnavailable, WrongAnswer
from streamll.core.events import Answer, Identity, Question, StreamllEvent
from streamll.core.positions import AFTER_EVERYTHING, Position
from streamll.core.wire import encode
from streamll.serve.formats.questions import read_id
from streamll.serve.permits import Permit
from streamll.serve.routes.service import Service
from streamll.serve.web.requests import HTTPRefusal, InvalidRequest, body_of, read_json

HEARD_S = 5.0
"""How long a process that runs elsewhere has to say what came of an answer."""

DECLINED: Any = msgspec.UNSET
"""In place of an answer: there will be none."""
CLOSED = 409

TOLD = "stream.answer"
MESSAGES = (
    'an answer is {"type": "answer", "question_id": …, "value": …}, or '
    '{"type": "decline", "question_id": …}'
)
KEYS = {"question_id", "value", "decline", "by"}


async def answer(service: Service, request: Request) -> Response:
    run_id, permit = request.path_params["run_id"], request.state.permit
    body = await read_json(request, service.limits)
    question_id, by = body.get("question_id"), body.get("by")
    declines = body.get("decline") is True
    if body.keys() - KEYS or not isinstance(question_id, str) or ("value" in body) is declines:
        what = 'an answer is {"question_id": …, "value": …}, or {"question_id": …, "decline": true}'
        raise HTTPRefusal(400, what)
    if not isinstance(by, (str, type(None))):
        raise HTTPRefusal(400, "by is a text")
    given = {} if declines else {"value": body["value"]}
    taken = await give(service, permit, run_id, question_id, by=by, **given)
    status = "given" if taken else "sent"
    told = {"run_id": run_id, "question_id": question_id, "status": status}
    return JSONResponse(told, 200 if taken else 202)


async def give(
    service: Service,
    permit: Permit,
    run_id: str,
    question_id: str,
    *,
    by: str | None = None,
    **value: Any,
) -> bool:
    """Give an answer, or without a ``value`` decline to. True once the program has it; False if the
    process that runs it has not said so yet: then the log has the answer.

    Args:
        by: who answers, if the permit is nobody's in particular.

    Raises:
        HTTPRefusal: 403, 404 (no such question), 409 (not open any more), 422 (a wrong answer).
        RunUnavailable: the run is not there, or the log is away.
    """
    await service.rights.check(permit, run_id, "answer")
    by = permit.who or by
    try:
        if (run := service.runner.running.get(run_id)) is not None:
            if value:
                run.answer(question_id, value["value"], by=by)
            else:
                run.decline(question_id, by=by)
            return True
        return await _through_log(service, run_id, question_id, by, value)
    except WrongAnswer as error:
        raise WrongAnswerRefused(error) from None
    except QuestionClosed as error:
        refusal = HTTPRefusal(CLOSED, str(error))
        refusal.about = {"outcome": error.outcome, "by": error.by}
        raise refusal from None
    except NoSuchQuestion as error:
        raise HTTPRefusal(404, str(error)) from None


async def give_message(
    service: Service, permit: Permit, run_id: str, said: Mapping[str, Any]
) -> bytes:
    """Give an answer that comes as a message of a WebSocket.

    Returns an event of type ``stream.answer``, in no log and without ``seq``: its ``status`` is that of
    ``POST /runs/{id}/answers``, beside what else is told of an error.
    """
    question_id = said.get("question_id")
    told: dict[str, Any] = {"question_id": question_id}
    answers = said["type"] == "answer"
    try:
        if not isinstance(question_id, str) or ("value" in said) is not answers:
            raise HTTPRefusal(400, MESSAGES)  # noqa: TRY301
        value = {"value": said["value"]} if answers else {}
        told["status"] = 200 if await give(service, permit, run_id, question_id, **value) else 202
    except (HTTPRefusal, RunUnavailable) as error:
        told |= {"status": error.status, **body_of(error)}
    who, now = Identity(run_id=run_id), time.time()
    return encode(StreamllEvent(event_type=TOLD, data=told, identity=who, timestamp=now))


class GivenAll(NamedTuple):
    """What came of the answers of one request."""

    before: Position
    """How far the run had come before."""
    questions: frozenset[str]
    late: list[dict[str, str]]
    """The ``place`` of each answer that came too late, and the ``reason``: the run goes on all the same, with
    what was answered first."""


async def give_all(
    service: Service,
    permit: Permit,
    answers: Mapping[str, Any],
    approval: Callable[[Any], Any] = lambda value: value,
) -> GivenAll:
    """Give what a client of a chat wire answers: to questions of one run, by the ids it knows.

    Args:
        answers: JSON, or ``DECLINED``.
        approval: makes of an answer to an approval what ``streamll.approve`` takes.

    Raises:
        HTTPRefusal, RunUnavailable: as ``give`` does; 404 for ids that are none. Answers before
            that one have been given.
    """
    try:
        named = {name: read_id(name) for name in answers}
    except ValueError as error:
        raise HTTPRefusal(404, str(error)) from None
    run_ids = {run_id for run_id, _ in named.values()}
    if len(run_ids) != 1:
        raise HTTPRefusal(400, "a request answers questions of one run")
    [run_id], late = run_ids, []
    view = await service.runner.view(run_id)
    asked = [each for each in view.open.values() if isinstance(each, Question)]
    approvals = {each.question_id for each in asked if each.tool is not None}
    for name, value in answers.items():
        given = approval(value) if named[name][1] in approvals else value
        said = {} if given is DECLINED else {"value": given}
        try:
            await give(service, permit, run_id, named[name][1], **said)
        except HTTPRefusal as error:
            if error.status != CLOSED:
                raise
            late.append({"place": name, "reason": str(error)})
    position = Position(run_id, AFTER_EVERYTHING if view.end is not None else view.seq)
    return GivenAll(position, frozenset(question for _, question in named.values()), late)


class WrongAnswerRefused(InvalidRequest):
    """Ends a request with an answer that its question cannot take: 422, with every problem."""

    def __init__(self, error: WrongAnswer) -> None:
        super().__init__(error)
        self.status = 422


async def _through_log(
    service: Service, run_id: str, question_id: str, by: str | None, value: dict[str, Any]
) -> bool:
    run_log, runner, answer_id = service.run_log, service.runner, uuid.uuid4().hex
    with run_log.buffer(run_id):  # from here on nothing is missed
        asked, answered, reached = await _in_log(service, run_id, question_id)
        if answered is not None:
            raise QuestionClosed(answered.outcome, answered.by)
        if value:
            check(asked.schema, value["value"])
        about = {"run_id": run_id, "question_id": question_id, "answer_id": answer_id, "by": by}
        with runner.refusal_of(answer_id) as refused:
            run_log.sink.put(message(ANSWER, **about, **value))
            heard = asyncio.ensure_future(_answer_of(service, reached, question_id))
            try:
                either: list[asyncio.Future[Any]] = [heard, refused]
                await asyncio.wait(either, timeout=HEARD_S, return_when=asyncio.FIRST_COMPLETED)
            finally:
                heard.cancel()
                with contextlib.suppress(asyncio.CancelledError):
                    await asyncio.wait({heard})
        if refused.done():
            raise refused.result()
        if heard.cancelled():
            return False
        found = heard.result()
    if found is None:
        raise QuestionClosed("withdrawn")
    if found.answer_id != answer_id:
        raise QuestionClosed(found.outcome, found.by)
    return True


async def _in_log(
    service: Service, run_id: str, question_id: str
) -> tuple[Question, Answer | None, Position]:
    """A question as the log has it, its answer, and how far that was read."""
    asked: Question | None = None
    answered: Answer | None = None
    reached = Position(run_id)
    async for items in service.run_log.history(reached):
        for item in items:
            event, reached = item.event, item.position
            if isinstance(event, Question) and event.question_id == question_id:
                asked = event
            elif isinstance(event, Answer) and event.question_id == question_id:
                answered = event
    if asked is None:
        raise NoSuchQuestion(f"this run has no question {question_id!r}")
    return asked, answered, reached


async def _answer_of(service: Service, after: Position, question_id: str) -> Answer | None:
    """The event by which a question ends; ``None`` if the run ends without one."""
    async with contextlib.aclosing(service.run_log.read(after)) as batches:
        async for items in batches:
            for item in items:
                if isinstance(item.event, Answer) and item.event.question_id == question_id:
                    return item.event
    return None
