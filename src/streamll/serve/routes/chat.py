"""The route of AG-UI. A chat in, a run out.

A client that leaves an AG-UI stream stops its run: that wire cannot resume.
"""

from __future__ import annotations

from starlette.requests import Request
from starlette.responses import Response

from streamll.core.positions import Position
from streamll.serve.formats import RenderOptions, make_format
from streamll.serve.inputs.wires import agui as agui_wire
from streamll.serve.routes.inputs import inputs_from
from streamll.serve.routes.service import Service
from streamll.serve.web import requests


async def agui(service: Service, request: Request) -> Response:
    body = await requests.read_json(request, service.limits)
    service.check_readers()
    thread, run = requests.identifier(body, "threadId"), requests.identifier(body, "runId")
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
