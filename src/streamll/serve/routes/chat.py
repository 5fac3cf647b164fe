"""The routes of other people's wires: OpenAI, Vercel, AG-UI. A chat in, a run out.

Who leaves an OpenAI or AG-UI stream stops its run: those wires have no way back. A Vercel chat
goes on and is resumed by ``GET /ai/{chat}/stream``; ``DELETE`` there stops it.
"""

from __future__ import annotations

import contextlib
from typing import Any

import msgspec
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, Response

from streamll.serve.formats import RenderOptions
from streamll.serve.formats.openai import ChatCompletion
from streamll.serve.log.frames import LATE, Position
from streamll.serve.log.run_log import LogAway
from streamll.serve.programs import Served
from streamll.serve.routes.service import Service, log_away
from streamll.serve.web.requests import HTTPRefusal, authorize, read_json, refuse, text_of
from streamll.serve.web.responses import until_left

LONGEST_ID = 200


def add_routes(app: Starlette, service: Service) -> None:
    routes = ChatRoutes(service)
    app.add_route("/v1/chat/completions", routes.openai, methods=["POST"])
    app.add_route("/v1/models", routes.models, methods=["GET"])
    app.add_route("/ai", routes.vercel, methods=["POST"])
    app.add_route("/ai/{chat}/stream", routes.resume, methods=["GET"])
    app.add_route("/ai/{chat}/stream", routes.stop, methods=["DELETE"])
    app.add_route("/agui", routes.agui, methods=["POST"])


class ChatRoutes:
    def __init__(self, service: Service) -> None:
        self.service = service

    # --- OpenAI ---------------------------------------------------------------------------------

    async def models(self, request: Request) -> Response:
        authorize(request, self.service.access)
        told = [
            {"id": name, "object": "model", "created": 0, "owned_by": "streamll"}
            for name in self.service.programs
        ]
        return JSONResponse({"object": "list", "data": told})

    async def openai(self, request: Request) -> Response:
        try:
            return await self._openai(request)
        except HTTPRefusal as refused:
            return openai_problem(refused.response)

    async def _openai(self, request: Request) -> Response:
        service = self.service
        authorize(request, service.access)
        body = await read_json(request, service.limits)
        name = body.get("model")
        program = service.only or service.program(name if isinstance(name, str) else "")
        wanted = body.get("stream_options") or {}
        usage = bool(wanted.get("include_usage")) if isinstance(wanted, dict) else False
        options = RenderOptions(
            text=program.reply, model=str(name or program.name), include_usage=usage
        )
        if body.get("stream"):
            service.check_readers()
        run_id = await service.start(program, inputs_from(program, body))
        if body.get("stream"):
            position = Position(run_id)
            return service.respond(
                position, "openai", options, stop_on_leave=True, can_return=False
            )
        return await self._whole(request, run_id, ChatCompletion(options))

    async def _whole(self, request: Request, run_id: str, completion: ChatCompletion) -> Response:
        """Wait for the run's end; who does not wait stops it."""

        async def collect() -> None:
            items = self.service.runner.run_log.read(Position(run_id))
            with self.service.connections.present(can_return=False):
                async with contextlib.aclosing(items) as batches:
                    async for batch in batches:
                        for item in batch:
                            completion.feed(item.event)

        try:
            stayed = await until_left(request.receive, collect())
        except LogAway as error:
            self.service.runner.cancel_if_running(run_id)
            raise log_away(error) from None
        if not stayed:
            self.service.runner.cancel(run_id)
            return Response(status_code=499)
        if completion.failure is not None:
            return JSONResponse(completion.failure, 500)
        return JSONResponse(completion.answer())

    # --- Vercel ---------------------------------------------------------------------------------

    async def vercel(self, request: Request) -> Response:
        service = self.service
        authorize(request, service.access)
        body = await read_json(request, service.limits)
        service.check_readers()
        chat = identifier(body.get("id"), "id")
        program = service.program(body.get("program", request.query_params.get("program")))
        context = {} if chat is None else {"chat_id": chat}
        inputs = inputs_from(program, body)
        run_id = await service.start(program, inputs, context=context, chat=chat)
        return service.respond(Position(run_id), "vercel", RenderOptions(text=program.reply))

    async def resume(self, request: Request) -> Response:
        service = self.service
        run_id = await self._run_of(request)
        service.check_readers()
        if run_id is None or not await service.has_more(Position(run_id, LATE)):
            return Response(status_code=204)  # nothing is active
        program = service.programs.get(request.query_params.get("program", "")) or service.only
        options = RenderOptions(text=None if program is None else program.reply)
        return service.respond(service.position(request, run_id), "vercel", options)

    async def stop(self, request: Request) -> Response:
        run_id = await self._run_of(request)
        if run_id is None:
            raise refuse(404, "this chat has no run")
        self.service.runner.cancel(run_id)
        return JSONResponse({"run_id": run_id, "status": "cancelling"}, 202)

    async def _run_of(self, request: Request) -> str | None:
        authorize(request, self.service.access)
        return await self.service.runner.run_of(request.path_params["chat"])

    # --- AG-UI ----------------------------------------------------------------------------------

    async def agui(self, request: Request) -> Response:
        service = self.service
        authorize(request, service.access)
        body = await read_json(request, service.limits)
        service.check_readers()
        thread, asked = (
            identifier(body.get("threadId"), "threadId"),
            identifier(body.get("runId"), "runId"),
        )
        program = service.program(request.query_params.get("program"))
        context = {} if thread is None else {"thread_id": thread}
        run_id = await service.start(program, inputs_from(program, body), context=context)
        options = RenderOptions(
            text=program.reply,
            thread_id=thread,
            run_id=asked,
            messages=body["messages"],
            state=body.get("state"),
        )
        return service.respond(
            Position(run_id), "agui", options, stop_on_leave=True, can_return=False
        )


def inputs_from(program: Served, body: dict[str, Any]) -> dict[str, Any]:
    """The program's inputs from a request's messages.

    Raises:
        Refused: 400.
    """
    messages = body.get("messages")
    if not isinstance(messages, list):
        raise refuse(400, "messages must be a list")
    try:
        return program.inputs_from([text_of(message) for message in messages])
    except ValueError as error:
        raise refuse(400, str(error)) from None


def identifier(value: Any, name: str) -> str | None:
    if value is not None and (not isinstance(value, str) or len(value) > LONGEST_ID):
        raise refuse(400, f"{name} is a text of at most {LONGEST_ID} characters")
    return value or None


def openai_problem(response: Response) -> Response:
    """A refusal in the shape that OpenAI's clients read."""
    message = msgspec.json.decode(bytes(response.body))["error"]
    told = {"message": message, "type": "invalid_request_error", "param": None, "code": None}
    headers = {
        k: v for k, v in response.headers.items() if k in {"retry-after", "www-authenticate"}
    }
    return JSONResponse({"error": told}, response.status_code, headers=headers)
