"""The routes of AG-UI: start a run, come back to it, stop it.

``POST /agui`` starts a run. It goes on when its client leaves, since the protocol's own client
cannot say whether it was cut off or aborted; ``?stop_on_leave=1`` stops it then. ``POST
/agui/connect`` is for ``connectAgent()`` of a client: the same run, found by its thread and run id
in any process, as far as it has come and on. ``DELETE /agui?threadId=…`` stops it.

A question ends the stream of a 1.0 client and not the run: ``POST /agui`` with ``resume`` answers at
any process, and its stream goes on with the run.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import msgspec
from starlette.requests import Request
from starlette.responses import Response

from streamll.core.errors import InvalidInputs, logger
from streamll.core.positions import AFTER_EVERYTHING, Position
from streamll.serve.formats import RenderOptions, make_format
from streamll.serve.formats.questions import approval
from streamll.serve.inputs.wires.agui_run import ResumeEntry, RunAgentInput, without_unusable
from streamll.serve.programs import Served
from streamll.serve.routes.answers import DECLINED, give_all
from streamll.serve.routes.rendering import of_agui, read_agui
from streamll.serve.routes.service import Service
from streamll.serve.web import requests
from streamll.serve.web.requests import HTTPRefusal, InvalidRequest


async def run(service: Service, request: Request) -> Response:
    asked = await _asked(service, request)
    program, stops = _program(service, request), requests.flag_in(request, "stop_on_leave")
    if asked.resume:
        return await _go_on(service, request, asked, asked.resume, program)
    inputs, unused = _inputs(program, asked)
    options = of_agui(asked, program.reply, unused)
    about = {"agui_run": asked.run_id, "program": program.name}
    run_id = await service.start(
        request.state.permit,
        program,
        inputs,
        context={} if asked.thread_id is None else {"thread_id": asked.thread_id},
        chat=_chat(asked.thread_id),
        about={key: value for key, value in about.items() if value is not None},
    )
    return service.respond(
        Position(run_id),
        make_format("agui", _interrupting(options)),
        stop_on_leave=stops,
        can_return=False,
    )


async def _go_on(
    service: Service,
    request: Request,
    asked: RunAgentInput,
    entries: list[ResumeEntry],
    program: Served,
) -> Response:
    """Give the answers, and go on with the run that has asked."""
    answers = {
        each.interrupt_id: DECLINED if each.status == "cancelled" else each.payload
        for each in entries
    }
    given = await give_all(service, request.state.permit, answers, approval=approval)
    options = of_agui(asked, program.reply, given.late)
    return service.respond(
        given.before,
        make_format("agui", _interrupting(options, answered=given.questions, continues=True)),
        stop_on_leave=await service.stops_on_leave(request, given.before.run_id),
        can_return=False,
    )


def _interrupting(options: RenderOptions, **changes: Any) -> RenderOptions:
    """A question ends the stream, unless the client is of a version that takes this for success."""
    return msgspec.structs.replace(options, interrupts=not options.predates_versions, **changes)


async def connect(service: Service, request: Request) -> Response:
    asked = await _asked(service, request)
    kept = await _run_of(service, request, asked.thread_id, asked.run_id)
    run_id = str(kept["run_id"])
    await service.runner.has_more(Position(run_id))  # which raises if the log has it no more
    program = service.programs.get(str(kept.get("program"))) or service.only
    options = of_agui(asked, None if program is None else program.reply)
    return service.respond(
        Position(run_id, AFTER_EVERYTHING),
        make_format("agui", _interrupting(options, run_id=kept.get("agui_run"))),
        stop_on_leave=await service.stops_on_leave(request, run_id),
    )


async def stop(service: Service, request: Request) -> Response:
    query = request.query_params
    kept = await _run_of(service, request, query.get("threadId"), query.get("runId"))
    return await service.stop(request.state.permit, str(kept["run_id"]))


async def _asked(service: Service, request: Request) -> RunAgentInput:
    body = await requests.read_json(request, service.limits)
    service.check_readers()
    return read_agui(body)


def _program(service: Service, request: Request) -> Served:
    name = request.path_params.get("program", request.query_params.get("program"))
    return service.program(name)


def _inputs(program: Served, asked: RunAgentInput) -> tuple[dict[str, Any], list[dict[str, str]]]:
    """The program's inputs, and the parts of messages that it cannot take."""
    declared, unused = program.takes.inputs, []
    given = asked.given(declared)
    if not isinstance(given, dict):
        raise HTTPRefusal(400, "forwardedProps.inputs must be an object: other inputs, by name")
    while True:
        try:
            inputs = program.inputs_from(asked.said(declared), given)
        except InvalidInputs as error:
            try:
                asked = without_unusable(asked, error)
            except InvalidInputs:
                raise InvalidRequest(error) from None
            unused += [{"place": each.place, "reason": each.message} for each in error.problems]
        except ValueError as error:  # of ``from_messages``
            raise HTTPRefusal(400, str(error)) from None
        else:
            break
    if unused:
        logger.warning("%s cannot take %d parts of a client's messages", program.name, len(unused))
    return inputs, unused


def _chat(thread_id: str | None) -> str | None:
    """The name under which the log keeps the runs of a thread."""
    return None if thread_id is None else f"agui\0{thread_id}"


async def _run_of(
    service: Service, request: Request, thread_id: str | None, run_id: str | None
) -> Mapping[str, Any]:
    """What the log keeps of the run with this id, else of the thread's latest, of those that this
    person may see.
    """
    chat = _chat(thread_id)
    runs = [] if chat is None else await service.runner.runs_of(chat)
    named = [each for each in runs if each.get("agui_run") == run_id]
    found = await service.rights.first_seen(request.state.permit, reversed([*runs, *named]))
    if found is None:
        raise HTTPRefusal(404, "this thread has no run")
    return found
