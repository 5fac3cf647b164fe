"""The routes of other wires: Vercel, AG-UI (``openai`` has its own). A chat in, a run out.

A client that leaves an AG-UI stream stops its run: that wire cannot resume. A Vercel
chat goes on and is resumed by ``GET /ai/{chat}/stream``; ``DELETE`` there stops it.
"""

from __future__ import annotations

from typing import Any

from starlette.requests import Request
from starlette.responses import Response

from streamll.core.positions import AFTER_EVERYTHING, Position
from streamll.serve.formats import RenderOptions, make_format
from streamll.serve.inputs.wires import agui as agui_wire
from streamll.serve.inputs.wires import vercel as vercel_wire
from streamll.serve.routes.inputs import inputs_from
from streamll.serve.routes.service import Service
from streamll.serve.web import requests
from streamll.serve.web.requests import HTTPRefusal

MAX_ID_CHARACTERS = 200


async def vercel(service: Service, request: Request) -> Response:
    body = await requests.read_json(request, service.limits)
    service.check_readers()
    chat = identifier(body, "id")
    program = service.program(body.get("program", request.query_params.get("program")))
    context = {} if chat is None else {"chat_id": chat}
    inputs = inputs_from(program, vercel_wire.messages_of, body, body.get("inputs"))
    run_id = await service.start(program, inputs, context=context, chat=chat)
    return service.respond(
        Position(run_id), make_format("vercel", RenderOptions(text=program.reply))
    )


async def vercel_resume(service: Service, request: Request) -> Response:
    run_id = await service.runner.run_of(request.path_params["chat"])
    service.check_readers()
    if run_id is None or not await service.runner.has_more(Position(run_id, AFTER_EVERYTHING)):
        return Response(status_code=204)  # nothing is under way
    program = service.programs.get(request.query_params.get("program", "")) or service.only
    options = RenderOptions(text=None if program is None else program.reply)
    return service.respond(requests.position_in(request, run_id), make_format("vercel", options))


async def vercel_stop(service: Service, request: Request) -> Response:
    run_id = await service.runner.run_of(request.path_params["chat"])
    if run_id is None:
        raise HTTPRefusal(404, "this chat has no run")
    return service.cancel(run_id)


async def agui(service: Service, request: Request) -> Response:
    body = await requests.read_json(request, service.limits)
    service.check_readers()
    thread, run = identifier(body, "threadId"), identifier(body, "runId")
    program = service.program(request.query_params.get("program"))
    context = {} if thread is None else {"thread_id": thread}
    props = body.get("forwardedProps")
    given = props.get("inputs") if isinstance(props, dict) else None
    inputs = inputs_from(program, agui_wire.messages_of, body, given)
    run_id = await service.start(program, inputs, context=context)
    options = RenderOptions(
        text=program.reply,
        thread_id=thread,
        run_id=run,
        messages=body["messages"],
        state=body.get("state"),
    )
    return service.respond(
        Position(run_id), make_format("agui", options), stop_on_leave=True, can_return=False
    )


def identifier(body: dict[str, Any], name: str) -> str | None:
    value = body.get(name)
    if value is not None and (not isinstance(value, str) or len(value) > MAX_ID_CHARACTERS):
        raise HTTPRefusal(400, f"{name} is a text of at most {MAX_ID_CHARACTERS} characters")
    return value or None
