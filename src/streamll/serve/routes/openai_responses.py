"""OpenAI's Responses API: a response is a run, which goes on without its reader and can be resumed.

``POST /v1/responses``, ``GET /v1/responses/{id}`` (``?stream=true&starting_after=``) and ``POST
/v1/responses/{id}/cancel``, at any process that shares the log. What a response was asked for (its
program, what it repeats, the conversation so far) is kept in the log for the next process and the
next turn: sealed, so that it cannot be read without the response's id. With ``store: false``
nothing is kept: such a response cannot be looked up or continued, and leaving it stops it.
"""

from __future__ import annotations

import asyncio
import contextlib
import re
from collections.abc import AsyncGenerator
from typing import Any, NamedTuple

import msgspec
from starlette.requests import Request
from starlette.responses import JSONResponse, Response

from streamll.core.errors import NoSuchRun
from streamll.core.events import RunStart
from streamll.core.positions import Position
from streamll.serve.formats import RenderOptions
from streamll.serve.formats.openai_responses import ResponsesFormat
from streamll.serve.inputs.wires import openai_responses as wire
from streamll.serve.log.frames import Item
from streamll.serve.permits import Permit
from streamll.serve.routes import openai_options as options_of
from streamll.serve.routes.inputs import inputs_from
from streamll.serve.routes.openai import CLIENT_CLOSED_REQUEST, collected, program_of
from streamll.serve.routes.service import Service
from streamll.serve.web import requests, sealing
from streamll.serve.web.requests import HTTPRefusal, flag_in

KEPT = "server.response"
APPEARS_S = 0.5
"""How long a response may take to be known at another process."""
ENDS_S = 5.0
"""How long a request that cancels waits for the run's end."""
MAX_DIGITS = 15
"""Of ``starting_after``."""

_ID = re.compile(r"resp_(?P<run>[0-9a-f]{32})(?P<key>[0-9a-f]{32})")


class Kept(NamedTuple):
    """What is kept of a response.

    ``reply`` is the field that is its text, ``echo`` what it repeats of its request; ``items`` are
    the conversation, with its own input at the end.
    """

    run_id: str
    reply: str | None
    model: str
    echo: dict[str, Any]
    items: list[Any]


def run_of(response_id: str) -> str | None:
    """The run of a response; ``None`` if that is no response's id."""
    found = _ID.fullmatch(response_id)
    return found["run"] if found else None


async def create(service: Service, request: Request) -> Response:
    body = await requests.read_json(request, service.limits)
    streams, background = options_of.flag(body, "stream"), options_of.flag(body, "background")
    store = options_of.flag(body, "store", default=True)
    wanted = options_of.stream_options(body, {"include_obfuscation"}, streams=streams)
    honoured = options_of.RESPONSES | service.ignored
    options_of.check(body, honoured, options_of.RESPONSES_DEFAULTS)
    echo = {"background": background, "store": store, **options_of.echoed(body)}
    if background and not store:
        raise HTTPRefusal(
            400, "who comes back needs it: leave out store: false", param="background"
        )
    program = program_of(service, body.get("model"))
    permit = request.state.permit
    before = await _conversation(service, permit, body.get("previous_response_id"))
    _check_size(service, [before, body.get("input")])
    earlier = wire.messages_of({"input": before})
    try:
        inputs = inputs_from(
            program, lambda asked: [*earlier, *wire.messages_of(asked)], body, body.get("inputs")
        )
    except HTTPRefusal as error:
        error.param = "input" if error.param == "messages" else error.param
        raise
    if streams:
        service.check_readers()
    run_id = await service.start(permit, program, inputs, questions=False)
    key = sealing.new_key()
    echo["id"] = f"resp_{run_id}{key}"
    model = str(body.get("model") or program.name)
    kept = Kept(run_id, program.reply, model, echo, [*before, *wire.items_of(body)])
    if store:
        sealed = sealing.seal(kept, key)
        await service.runner.keep(_place_of(run_id), KEPT, sealed=sealed)
    form = _form(kept, obfuscation=bool(wanted.get("include_obfuscation")))
    if streams:
        return service.respond(Position(run_id), form, stop_on_leave=not store, can_return=store)
    if background:
        form = await _look(service, kept)
    elif not await collected(service, request, run_id, form):
        return Response(status_code=CLIENT_CLOSED_REQUEST)
    return JSONResponse(form.response())


async def retrieve(service: Service, request: Request) -> Response:
    kept, query = await _kept(service, request.path_params["response_id"]), request.query_params
    for name in ("include", "include[]"):
        if query.get(name):
            raise HTTPRefusal(400, f"{name} is not supported: leave it out", param="include")
    streams = flag_in(request, "stream")
    after = query.get("starting_after")
    if after is not None and not (after.isdecimal() and len(after) <= MAX_DIGITS):
        raise HTTPRefusal(400, "starting_after is the number of an event", param="starting_after")
    if after is not None and not streams:
        raise HTTPRefusal(400, "starting_after needs stream=true", param="starting_after")
    obfuscation = flag_in(request, "include_obfuscation")
    if not streams:
        return JSONResponse((await _look(service, kept)).response())
    service.check_readers()
    async with contextlib.aclosing(_history(service, kept.run_id)) as batches:
        await anext(batches, None)
    form = _form(kept, obfuscation=obfuscation, after=-1 if after is None else int(after))
    return service.respond(Position(kept.run_id), form)


async def cancel(service: Service, request: Request) -> Response:
    kept = await _kept(service, request.path_params["response_id"])
    form = await _look(service, kept)
    if form.end is None:
        await service.stop(request.state.permit, kept.run_id)
        form = await _ended(service, kept)
    return JSONResponse(form.response())


def _form(kept: Kept, *, obfuscation: bool = False, after: int = -1) -> ResponsesFormat:
    return ResponsesFormat(
        RenderOptions(
            text=kept.reply,
            model=kept.model,
            echo=kept.echo,
            include_obfuscation=obfuscation,
            starting_after=after,
        )
    )


# --- what the log has -----------------------------------------------------------------------------


def _place_of(run_id: str) -> str:
    """Where the log keeps what a response was asked for."""
    return f"response-{run_id}"


async def _kept(service: Service, response_id: str) -> Kept:
    """What is kept of a response; ``HTTPRefusal`` (404) if nothing is."""
    found = _ID.fullmatch(response_id)
    data = None
    if found:
        data = await service.runner.kept(_place_of(found["run"]), APPEARS_S)
    try:
        if found and data is not None:
            return Kept(*sealing.unseal(data.get("sealed"), found["key"]))
    except (ValueError, TypeError):  # it is another id's, or another version's
        pass
    shown = response_id[: options_of.MAX_SHOWN]
    raise HTTPRefusal(404, f"there is no response with the id {shown!r} here")


async def _look(service: Service, kept: Kept) -> ResponsesFormat:
    """The response as far as the log has it. One whose process is gone comes to its end."""
    form = _form(kept)
    async with contextlib.aclosing(_history(service, kept.run_id)) as batches:
        async for items in batches:
            for item in items:
                form.feed(item.event)
    if form.end is None and service.run_log.index.is_lost(kept.run_id):
        await service.runner.close_lost(kept.run_id)
        form = await _ended(service, kept)
    return form


async def _history(service: Service, run_id: str) -> AsyncGenerator[list[Item], None]:
    """What the log has of the run, from its beginning: the numbers of events begin there.

    Raises:
        HTTPRefusal: 404, the log has lost the run or its beginning.
    """
    found = False
    async with contextlib.aclosing(service.run_log.history(Position(run_id))) as batches:
        async for items in batches:
            if not (found or isinstance(items[0].event, RunStart)):
                what = "the log does not have the beginning of this response any more"
                raise HTTPRefusal(404, what)
            found = True
            yield items
    if not found:
        try:
            await service.runner.expect(run_id)
        except NoSuchRun:
            raise HTTPRefusal(404, "the log does not have this response any more") from None


async def _ended(service: Service, kept: Kept) -> ResponsesFormat:
    """The response at its end, for which this waits ``ENDS_S`` at most."""
    form = _form(kept)

    async def follow() -> None:
        async with contextlib.aclosing(service.run_log.read(Position(kept.run_id))) as batches:
            async for items in batches:
                for item in items:
                    form.feed(item.event)

    with contextlib.suppress(asyncio.TimeoutError):
        await asyncio.wait_for(follow(), ENDS_S)
    return form


async def _conversation(service: Service, permit: Permit, previous: Any) -> list[Any]:
    """The conversation that a response belongs to, with what it answered."""
    if previous is None:
        return []
    wrong = {"param": "previous_response_id", "code": "previous_response_not_found"}
    if not isinstance(previous, str):
        raise HTTPRefusal(400, "previous_response_id is the id of a response", **wrong)
    try:
        if (run_id := run_of(previous)) is not None:
            await service.rights.check(permit, run_id)
        kept = await _kept(service, previous)
        form = await _look(service, kept)
    except (HTTPRefusal, NoSuchRun) as error:
        raise HTTPRefusal(400, f"previous_response_id: {error}", **wrong) from None
    if form.end is None:
        wrong["code"] = "previous_response_in_progress"
        raise HTTPRefusal(400, "the previous response is still in progress", **wrong)
    return [*kept.items, *wire.as_input(form.response()["output"], form.other_fields())]


def _check_size(service: Service, conversation: list[Any]) -> None:
    most = service.limits.body_bytes
    if len(msgspec.json.encode(conversation)) > most:
        raise HTTPRefusal(
            400,
            f"with its earlier turns the conversation has more than the {most} bytes of a body",
            param="previous_response_id",
            code="context_length_exceeded",
        )
