"""The routes of other wires: OpenAI, Vercel, AG-UI. A chat in, a run out.

A client that leaves an OpenAI or AG-UI stream stops its run: those wires cannot resume. A Vercel
chat goes on and is resumed by ``GET /ai/{chat}/stream``; ``DELETE`` there stops it.
"""

from __future__ import annotations

import contextlib
from typing import Any

from starlette.requests import Request
from starlette.responses import JSONResponse, Response

from streamll.core.errors import LogAway, RunUnavailable
from streamll.core.positions import AFTER_EVERYTHING, Position
from streamll.serve.formats import RenderOptions, make_format
from streamll.serve.formats.openai import ChatCompletion, error_body
from streamll.serve.inputs.wires import agui as agui_wire
from streamll.serve.inputs.wires import openai as openai_wire
from streamll.serve.inputs.wires import vercel as vercel_wire
from streamll.serve.routes.inputs import inputs_from
from streamll.serve.routes.service import Service
from streamll.serve.web import requests
from streamll.serve.web.requests import HTTPRefusal
from streamll.serve.web.responses import disconnected, race

MAX_ID_CHARACTERS = 200
CLIENT_CLOSED_REQUEST = 499


async def openai_models(service: Service, _: Request) -> Response:
    models = [
        {"id": name, "object": "model", "created": 0, "owned_by": "streamll"}
        for name in service.programs
    ]
    return JSONResponse({"object": "list", "data": models})


async def openai(service: Service, request: Request) -> Response:
    """Authorizes by itself: a refusal, too, has the shape that OpenAI's clients read."""
    try:
        requests.authorize(request, service.access)
        return await _openai(service, request)
    except (HTTPRefusal, RunUnavailable) as error:
        body = error_body(str(error), "invalid_request_error", None)
        if isinstance(error, HTTPRefusal) and error.problems:
            body["error"]["param"] = error.problems[0].place
        return requests.refusal(error, body)


async def _openai(service: Service, request: Request) -> Response:
    body = await requests.read_json(request, service.limits)
    name, wanted = body.get("model"), body.get("stream_options") or {}
    streams = flag(body, "stream")
    program = service.only or service.program(name if isinstance(name, str) else "")
    options = RenderOptions(
        text=program.reply,
        model=str(name or program.name),
        include_usage=isinstance(wanted, dict) and flag(wanted, "include_usage"),
    )
    if streams:
        service.check_readers()
    inputs = inputs_from(program, openai_wire.messages_of, body, body.get("inputs"))
    run_id = await service.start(program, inputs)
    if not streams:
        return await _whole(service, request, run_id, ChatCompletion(options))
    return service.respond(
        Position(run_id), make_format("openai", options), stop_on_leave=True, can_return=False
    )


async def _whole(
    service: Service, request: Request, run_id: str, completion: ChatCompletion
) -> Response:
    """Wait for the run's end; a client that does not wait stops the run."""

    async def collect() -> None:
        items = service.run_log.read(Position(run_id))
        with service.reader(can_return=False):
            async with contextlib.aclosing(items) as batches:
                async for batch in batches:
                    for item in batch:
                        completion.feed(item.event)

    collected = await race(collect(), disconnected(request.receive))
    if collected.work.cancelled():
        service.runner.cancel(run_id)
        return Response(status_code=CLIENT_CLOSED_REQUEST)
    try:
        collected.raise_error()
    except LogAway:
        service.runner.cancel_here(run_id)
        raise
    return JSONResponse(completion.answer(), 500 if completion.failure else 200)


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


def flag(body: dict[str, Any], name: str) -> bool:
    value = body.get(name)
    if not isinstance(value, (bool, type(None))):
        raise HTTPRefusal(400, f"{name} is true or false, not {value!r}"[:MAX_ID_CHARACTERS])
    return bool(value)


def identifier(body: dict[str, Any], name: str) -> str | None:
    value = body.get(name)
    if value is not None and (not isinstance(value, str) or len(value) > MAX_ID_CHARACTERS):
        raise HTTPRefusal(400, f"{name} is a text of at most {MAX_ID_CHARACTERS} characters")
    return value or None
