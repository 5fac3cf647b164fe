"""The routes of Vercel's AI SDK: where ``useChat`` posts a chat, resumes and stops its run.

``POST /ai/{program}`` starts, ``GET /ai/{program}/{chat}/stream`` resumes and ``DELETE`` there stops:
the addresses that the package builds of ``api: "/ai/{program}"``. Where one program is served, or the
request names it, ``/ai`` will do as well.

A run goes on when its reader leaves. Who comes back gets its message from the beginning, in any
process: as long as the run is under way, and for ``RESUMABLE_S`` after its end, unless this process
has sent the end to somebody before; then nothing is missing, and the answer is 204. A page that knows
that it was cut asks with ``?after=-1``, and gets the run also later.

A request whose last message has responses to approvals gives them and goes on with the run that has asked.
"""

from __future__ import annotations

import time
from typing import Any, NamedTuple

from starlette.requests import Request
from starlette.responses import Response

from streamll.core.errors import InvalidInputs
from streamll.core.events import Answer
from streamll.core.positions import Position
from streamll.serve.formats import RenderOptions, make_format
from streamll.serve.formats.vercel import VercelFormat
from streamll.serve.inputs.wires import vercel as wire
from streamll.serve.programs import Served
from streamll.serve.routes.answers import give_all
from streamll.serve.routes.inputs import inputs_from
from streamll.serve.routes.rendering import AI_VERSION, VERCEL_APPROVES, VERCEL_NAMES, ai_version
from streamll.serve.routes.service import Sent, Service
from streamll.serve.web import requests
from streamll.serve.web.requests import HTTPRefusal

RESUMABLE_S = 30.0
"""How long after its end a run is sent to who comes back: about as long as a connection is retried."""


class ChatRun(NamedTuple):
    """A run of a chat. Logs from before have neither ``program`` nor ``form``."""

    run_id: str
    program: str | None = None
    form: str | None = None


async def start(service: Service, request: Request) -> Response:
    body = await requests.read_json(request, service.limits)
    service.check_readers()
    chat = requests.identifier(body, "id")
    named = request.path_params.get("program") or request.query_params.get("program")
    program = service.program(named or body.get("program"))
    form = VERCEL_NAMES[_version_in(request, body.get(AI_VERSION)) or service.ai_version]
    try:
        answers = wire.answers_in(body)
    except InvalidInputs as error:
        raise requests.InvalidRequest(error) from None
    if answers:
        given = await give_all(service, request.state.permit, answers)
        seq = wire.reached_in(body)
        position = given.before if seq is None else Position(given.before.run_id, seq)
        if not await service.runner.has_more(position):
            position = given.before
        options = _options(program, notices=given.late, answered=given.questions, continues=True)
        return _respond(service, request, position, form, options, chat or position.run_id)
    context = {} if chat is None else {"chat_id": chat}
    inputs = inputs_from(program, wire.messages_of, body, body.get("inputs"))
    about = {"program": program.name, "form": form}
    run_id = await service.start(
        request.state.permit, program, inputs, context=context, chat=chat, about=about
    )
    return _respond(service, request, Position(run_id), form, _options(program), chat or run_id)


async def resume(service: Service, request: Request) -> Response:
    found = await _run_of(service, request)
    service.check_readers()
    if found is None:
        return Response(status_code=204)
    position, (_, chat) = requests.position_in(request, found.run_id), _place(service, request)
    if requests.has_position(request):
        lacks = await service.runner.has_more(position)
    else:
        lacks = await _may_lack(service, request, found.run_id, chat)
    if not lacks:
        return Response(status_code=204)
    version = _version_in(request, None)
    form = found.form if version is None else VERCEL_NAMES[version]
    form = form if form in VERCEL_NAMES.values() else None  # of a later server
    name = request.query_params.get("program") or found.program
    program = service.programs.get(name or "") or service.only
    form = form or VERCEL_NAMES[service.ai_version]
    answered = await _answered(service, found.run_id) if VERCEL_APPROVES[form] else ()
    options = _options(program, answered=answered)
    return _respond(service, request, position, form, options, chat)


async def stop(service: Service, request: Request) -> Response:
    found = await _run_of(service, request)
    if found is None:
        raise HTTPRefusal(404, "this chat has no run")
    return await service.stop(request.state.permit, found.run_id)


def _place(service: Service, request: Request) -> tuple[str | None, str]:
    """The program, if the address names one, and the chat, whose id may have a ``/``."""
    program, chat = request.path_params.get("program"), request.path_params["chat"]
    if program is None or program in service.programs:
        return program, chat
    return None, f"{program}/{chat}"


async def _run_of(service: Service, request: Request) -> ChatRun | None:
    """The latest run of the chat that this person may see; of its chat with the program, if the
    address names one.
    """
    program, chat = _place(service, request)
    runs = reversed(await service.runner.runs_of(chat))
    fitting = [run for run in runs if program in {None, run.get("program") or program}]
    run = await service.rights.first_seen(request.state.permit, fitting)
    return None if run is None else ChatRun(str(run["run_id"]), run.get("program"), run.get("form"))


async def _may_lack(service: Service, request: Request, run_id: str, chat: str) -> bool:
    """Whether who comes back to a chat may lack something of its latest run."""
    ended_at = await service.runner.ended_at(run_id)
    if ended_at is None:
        return True
    return time.time() - ended_at < RESUMABLE_S and _sent(request, run_id, chat) not in service.sent


def _sent(request: Request, run_id: str, chat: str) -> Sent:
    return run_id, chat, request.state.permit.who


async def _answered(service: Service, run_id: str) -> set[str]:
    """The questions of a run that have had their end, at which no stream needs to."""
    history = service.run_log.history(Position(run_id))
    return {
        item.event.question_id
        async for items in history
        for item in items
        if isinstance(item.event, Answer)
    }


def _options(program: Served | None, **own: Any) -> RenderOptions:
    return RenderOptions(text=None if program is None else program.reply, interrupts=True, **own)


def _respond(
    service: Service,
    request: Request,
    position: Position,
    name: str,
    options: RenderOptions,
    chat: str,
) -> Response:
    form = make_format(name, options)
    assert isinstance(form, VercelFormat)

    def sent() -> None:
        if form.end is not None and form.end.seq is not None:  # not an end of this stream alone
            service.sent.add(_sent(request, position.run_id, chat))

    return service.respond(position, form, sent=sent)


def _version_in(request: Request, value: Any) -> int | None:
    """The major version of the ``ai`` package that a request is for, if it says so."""
    return ai_version(request.query_params.get(AI_VERSION, value))
