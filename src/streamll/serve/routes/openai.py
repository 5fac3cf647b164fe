"""OpenAI's chat completions, and the programs as its models. Errors have that API's shape.

A client that leaves a chat stops its run: this wire cannot resume. ``openai_responses`` can.
"""

from __future__ import annotations

import contextlib
from collections.abc import Awaitable, Callable
from typing import Any

from starlette.requests import Request
from starlette.responses import JSONResponse, Response

from streamll.core.errors import LogAway, RunUnavailable
from streamll.core.positions import Position
from streamll.serve.formats import make_format
from streamll.serve.formats.message import ChatFormat
from streamll.serve.formats.openai import ChatCompletion, error_body
from streamll.serve.inputs.wires import openai as openai_wire
from streamll.serve.programs import Served
from streamll.serve.routes import openai_options as options_of
from streamll.serve.routes.inputs import inputs_from
from streamll.serve.routes.rendering import of_chat
from streamll.serve.routes.service import Service
from streamll.serve.web import requests
from streamll.serve.web.requests import HTTPRefusal
from streamll.serve.web.responses import disconnected, race

Endpoint = Callable[[Service, Request], Awaitable[Response]]

CLIENT_CLOSED_REQUEST = 499
UNAUTHORIZED, NOT_FOUND, TOO_MANY, SERVER_ERROR = 401, 404, 429, 500
MAX_NAME_CHARACTERS = 200


def endpoint(
    service: Service, answer: Endpoint, run_of: Callable[[str], str | None] | None = None
) -> Callable[[Request], Awaitable[Response]]:
    """A route of OpenAI's API: a refusal, too, has the shape that its clients read.

    Args:
        run_of: the run that the path's ``response_id`` names; a token for that run is enough.
    """

    async def answer_or_refuse(request: Request) -> Response:
        run_id = run_of(request.path_params["response_id"]) if run_of is not None else None
        try:
            await service.admit(request, run_id)
            return await answer(service, request)
        except (HTTPRefusal, RunUnavailable) as error:
            return requests.refusal(error, _body_of(error))

    return answer_or_refuse


def _body_of(error: HTTPRefusal | RunUnavailable) -> dict[str, Any]:
    kind, code = "invalid_request_error", getattr(error, "code", None)
    if error.status == UNAUTHORIZED:
        code = "invalid_api_key"
    elif error.status == TOO_MANY:
        kind, code = "rate_limit_error", "rate_limit_exceeded"
    elif error.status >= SERVER_ERROR:
        kind = "server_error"
    return error_body(str(error), kind, code, getattr(error, "param", None))


async def no_such_endpoint(_: Service, request: Request) -> Response:
    what = f"{request.method} {request.url.path}"[:MAX_NAME_CHARACTERS]
    there = "POST /v1/chat/completions, /v1/responses and GET /v1/models"
    raise HTTPRefusal(NOT_FOUND, f"{what} is not there; there are {there}", code="unknown_url")


async def models(service: Service, _: Request) -> Response:
    return JSONResponse({"object": "list", "data": [_model(name) for name in service.programs]})


async def model(service: Service, request: Request) -> Response:
    return JSONResponse(_model(program_of(service, request.path_params["model"]).name))


def _model(name: str) -> dict[str, Any]:
    return {"id": name, "object": "model", "created": 0, "owned_by": "streamll"}


def program_of(service: Service, name: Any) -> Served:
    """The program that a request's ``model`` names. Where there is only one, any name will do."""
    if name is not None and not isinstance(name, str):
        raise HTTPRefusal(400, "model is the name of a program", param="model")
    try:
        return service.only or service.program(name or "")
    except HTTPRefusal as error:
        error.param, error.code = "model", "model_not_found"
        raise


async def chat_completions(service: Service, request: Request) -> Response:
    body = await requests.read_json(request, service.limits)
    streams = options_of.flag(body, "stream")
    options_of.check(body, options_of.CHAT | service.ignored, options_of.CHAT_DEFAULTS)
    program = program_of(service, body.get("model"))
    options = of_chat(body, program.reply, program.name, streams=streams)
    if streams:
        service.check_readers()
    inputs = inputs_from(program, openai_wire.messages_of, body, body.get("inputs"))
    run_id = await service.start(request.state.permit, program, inputs, questions=False)
    if streams:
        form = make_format("openai", options)
        return service.respond(Position(run_id), form, stop_on_leave=True, can_return=False)
    completion = ChatCompletion(options)
    if not await collected(service, request, run_id, completion):
        return Response(status_code=CLIENT_CLOSED_REQUEST)
    return JSONResponse(completion.answer(), SERVER_ERROR if completion.failure else 200)


async def collected(service: Service, request: Request, run_id: str, form: ChatFormat) -> bool:
    """Feed the whole run to ``form``. A client that does not wait for its end stops it: ``False``.

    Raises:
        LogAway: the log could not be read; the run is stopped, since nobody will know of it.
    """

    async def collect() -> None:
        items = service.run_log.read(Position(run_id))
        with service.reader(can_return=False):
            async with contextlib.aclosing(items) as batches:
                async for batch in batches:
                    for item in batch:
                        form.feed(item.event)

    raced = await race(collect(), disconnected(request.receive))
    if raced.work.cancelled():
        service.runner.cancel(run_id)
        return False
    try:
        raced.raise_error()
    except LogAway:
        service.runner.cancel_here(run_id)
        raise
    return True
