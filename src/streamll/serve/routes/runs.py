"""The routes of runs: start, read, look at, cancel."""

from __future__ import annotations

from typing import Any

import msgspec
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.websockets import WebSocket

from streamll.core.errors import ConfigurationError, NoSuchRun, RunUnavailable
from streamll.core.positions import AFTER_EVERYTHING, Position
from streamll.core.run_view import RunView
from streamll.serve.formats import RenderOptions, make_format
from streamll.serve.log.index import LISTED_RUNS, snapshot
from streamll.serve.log.streams import RunWriter, stream_of_log
from streamll.serve.routes.service import Service
from streamll.serve.web.requests import HTTPRefusal, authorize, position_in, read_json
from streamll.serve.web.sockets import POLICY_VIOLATION, TRY_AGAIN_LATER, send_messages

TOKEN_S = 24 * 3600.0
UNAVAILABLE = 503


class RunRoutes:
    def __init__(self, service: Service) -> None:
        self.service = service

    async def start(self, request: Request) -> Response:
        service = self.service
        body = await read_json(request, service.limits)
        inputs, context = body.get("inputs", {}), body.get("context")
        if not isinstance(inputs, dict) or not isinstance(context, (dict, type(None))):
            raise HTTPRefusal(400, "inputs and context are objects")
        run_id = await service.start(service.program(body.get("program")), inputs, context=context)
        path = f"{request.scope.get('root_path', '')}/runs/{run_id}"
        answer: dict[str, Any] = {
            "run_id": run_id,
            "url": path,
            "events": f"{path}/events",
            "websocket": f"{path}/ws",
            "token": service.access.token_for(run_id, TOKEN_S),
        }
        return JSONResponse(answer, 202, headers={"location": path})

    async def list(self, request: Request) -> Response:
        limit = request.query_params.get("limit", str(LISTED_RUNS))
        if not (limit.isdecimal() and 0 < int(limit[:9]) <= LISTED_RUNS):
            raise HTTPRefusal(400, f"limit is a number from 1 to {LISTED_RUNS}")
        runs = await self.service.run_log.latest_runs(int(limit))
        return JSONResponse({"runs": runs}, headers={"cache-control": "no-store"})

    async def programs(self, _: Request) -> Response:
        programs = [
            {"name": each.name, "reply": each.reply, "inputs": msgspec.to_builtins(each.inputs())}
            for each in self.service.programs.values()
        ]
        return JSONResponse({"programs": programs})

    async def look(self, request: Request) -> Response:
        run_id = request.path_params["run_id"]
        run_log = self.service.run_log
        view = await self._view(run_id)
        if view.started_at is None and run_id not in self.service.runner.running:
            if not await run_log.appears(run_id):
                run_log.index.forget(run_id)
                raise NoSuchRun
            view = await self._view(run_id)
        answer = snapshot(run_id, view, lost=run_log.index.is_lost(run_id))
        return JSONResponse(answer, headers={"cache-control": "no-store"})

    async def _view(self, run_id: str) -> RunView:
        """What the log has of a run."""
        view = RunView()
        async for items in self.service.run_log.history(Position(run_id)):
            for item in items:
                view.feed(item.event)
        return view

    async def cancel(self, request: Request) -> Response:
        run_id = request.path_params["run_id"]
        if not await self.service.runner.has_more(Position(run_id, AFTER_EVERYTHING)):
            return JSONResponse({"run_id": run_id, "status": "over"})
        self.service.runner.cancel(run_id)
        return JSONResponse({"run_id": run_id, "status": "cancelling"}, 202)

    async def events(self, request: Request) -> Response:
        service, query = self.service, request.query_params
        service.check_readers()
        position = position_in(request, request.path_params["run_id"])
        form = query.get("format", "native")
        try:
            make_format(form)
        except ConfigurationError as error:
            raise HTTPRefusal(400, str(error)) from None
        if not await service.runner.has_more(position):
            return Response(status_code=204)  # ends a browser's attempts to reconnect
        stop = query.get("stop_on_leave", "") not in {"", "0", "false"}
        options = RenderOptions(text=query.get("reply"))
        return service.respond(position, form, options, stop_on_leave=stop)

    async def socket(self, websocket: WebSocket) -> None:
        service, query = self.service, websocket.query_params
        run_id, runner = websocket.path_params["run_id"], service.runner
        try:
            authorize(websocket, service.access, run_id)
            service.check_readers()
            position = position_in(websocket, run_id)
            options = RenderOptions(text=query.get("reply"))
            form = make_format(query.get("format", "native"), options)
            more = await runner.has_more(position)
        except (HTTPRefusal, RunUnavailable, ConfigurationError) as error:
            if getattr(error, "status", None) == UNAVAILABLE:
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
            lambda: runner.cancel(run_id),
            stall_s=service.limits.stall_seconds,
            hold=lambda: service.connections.hold(can_return=True),
        )
