"""The routes of runs: start, list, read, look at, cancel."""

from __future__ import annotations

import asyncio
import functools
from difflib import get_close_matches

from starlette.requests import HTTPConnection, Request
from starlette.responses import HTMLResponse, JSONResponse, Response
from starlette.websockets import WebSocket

from streamll.core.errors import ConfigurationError, RunUnavailable
from streamll.serve.formats import OutputFormat, RenderOptions, make_format
from streamll.serve.inputs.schemas import described
from streamll.serve.log.index import snapshot
from streamll.serve.log.streams import RunWriter, stream_of_log
from streamll.serve.programs import Served
from streamll.serve.report import report_html
from streamll.serve.routes.answers import give_message
from streamll.serve.routes.inputs import inputs_in
from streamll.serve.routes.run_filter import run_filter_in
from streamll.serve.routes.service import Service
from streamll.serve.web.requests import (
    HTTPRefusal,
    flag_in,
    position_in,
    read_json,
)
from streamll.serve.web.responses import POLICY_VIOLATION, TRY_AGAIN_LATER, send_messages

TOKEN_S = 24 * 3600.0
UNAVAILABLE = 503
KEYS = {"program", "inputs", "context"}
"""Of what is posted to start a run."""
NO_STORE = {"cache-control": "no-store"}


async def start(service: Service, request: Request) -> Response:
    body = await read_json(request, service.limits)
    inputs, context = body.get("inputs", {}), body.get("context")
    if not isinstance(inputs, dict) or not isinstance(context, (dict, type(None))):
        raise HTTPRefusal(400, "inputs and context are objects")
    program = service.program(body.get("program"))
    for name in sorted(body.keys() - KEYS):
        raise HTTPRefusal(400, _unknown(name, program), param=name)
    permit = request.state.permit
    run_id = await service.start(permit, program, inputs_in(program, inputs), context=context)
    path = f"{request.scope.get('root_path', '')}/runs/{run_id}"
    answer = {
        "run_id": run_id,
        "url": path,
        "events": f"{path}/events",
        "websocket": f"{path}/ws",
        "token": None,
        "answer_token": None,
    }
    if all([await service.rights.may(permit, run_id, right) for right in ("see", "stop")]):
        answer["token"] = service.access.token_for(run_id, TOKEN_S)  # which permits no more
        if await service.rights.may(permit, run_id, "answer"):
            answer["answer_token"] = service.access.token_for(run_id, TOKEN_S, answer=True)
    return JSONResponse(answer, 202, headers={"location": path})


async def list_runs(service: Service, request: Request) -> Response:
    wanted, limit = run_filter_in(request)
    permit, rights = request.state.permit, service.rights
    found = await service.search.find(wanted, limit, lambda run: rights.sees(permit, run["run_id"]))
    answer: dict[str, object] = {"runs": found.runs, "more": found.more}
    if wanted.words:
        answer["searched"] = {"runs": found.looked_at, "texts": found.read}
    return JSONResponse(answer, headers=NO_STORE)


async def report(service: Service, request: Request) -> Response:
    """The viewer with this run in it, as a file: never a page of this server's origin."""
    run_id = request.path_params["run_id"]
    events = await service.runner.events(run_id)
    html = await asyncio.to_thread(report_html, events)
    headers = {"content-disposition": 'attachment; filename="run.html"', **NO_STORE}
    return HTMLResponse(html, headers=headers)


async def list_programs(service: Service, _: Request) -> Response:
    programs = [
        {"name": each.name, "reply": each.reply, "inputs": described(each.takes.inputs)}
        for each in service.programs.values()
    ]
    return JSONResponse({"programs": programs})


async def look(service: Service, request: Request) -> Response:
    run_id, runner = request.path_params["run_id"], service.runner
    view = await runner.view(run_id)
    if view.started_at is None and run_id not in runner.running:
        await runner.expect(run_id)
        view = await runner.view(run_id)
    answer = snapshot(run_id, view, lost=service.run_log.index.is_lost(run_id))
    return JSONResponse(answer, headers=NO_STORE)


async def cancel(service: Service, request: Request) -> Response:
    return await service.stop(request.state.permit, request.path_params["run_id"])


async def events(service: Service, request: Request) -> Response:
    service.check_readers()
    position = position_in(request, request.path_params["run_id"])
    form = _form_in(request)
    stops = await service.stops_on_leave(request, position.run_id)
    if not await service.runner.has_more(position):
        return Response(status_code=204)  # ends a browser's attempts to reconnect
    return service.respond(position, form, stop_on_leave=stops)


async def socket(service: Service, websocket: WebSocket) -> None:
    run_id, runner = websocket.path_params["run_id"], service.runner
    try:
        permit = await service.admit(websocket, run_id)
        may_stop = await service.rights.may(permit, run_id, "stop")
        service.check_readers()
        position, form = position_in(websocket, run_id), _form_in(websocket)
        stops = await service.stops_on_leave(websocket, run_id)
        more = await runner.has_more(position)
    except (HTTPRefusal, RunUnavailable) as error:
        if error.status == UNAVAILABLE:
            await websocket.accept()  # before that no close code reaches a browser
            await websocket.close(TRY_AGAIN_LATER, "not now")
        else:
            await websocket.close(POLICY_VIOLATION)
        return
    await websocket.accept()
    if not more:
        await websocket.close()
        return
    await send_messages(
        websocket,
        stream_of_log(service.run_log, position, RunWriter(form, frames=False)),
        (lambda: runner.cancel(run_id)) if may_stop else (lambda: None),
        service.limits,
        service.reader(can_return=True, leave=service.leaving(run_id, form) if stops else None),
        answer=functools.partial(give_message, service, permit, run_id),
    )


def _unknown(name: str, program: Served) -> str:
    if any(name == field.name for field in program.takes.inputs):
        return f'{name!r} is an input: write {{"inputs": {{"{name}": …}}}}'
    close = get_close_matches(name, KEYS, n=1)
    meant = f": did you mean {close[0]}?" if close else f"; there are {', '.join(sorted(KEYS))}"
    return f"there is no {name[:100]!r} here{meant}"


def _form_in(connection: HTTPConnection) -> OutputFormat:
    """The format that a request asks for."""
    query = connection.query_params
    options = RenderOptions(text=query.get("reply"), compact=flag_in(connection, "compact"))
    try:
        return make_format(query.get("format", "native"), options)
    except ConfigurationError as error:
        raise HTTPRefusal(400, str(error)) from None
