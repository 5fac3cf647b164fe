"""The routes of runs: start, read, look at, cancel."""

from __future__ import annotations

from typing import Any

import msgspec
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import WebSocketRoute
from starlette.websockets import WebSocket

from streamll.core.errors import ConfigurationError
from streamll.serve.formats import RenderOptions, make_format
from streamll.serve.log.frames import LATE, Position
from streamll.serve.log.index import LISTED
from streamll.serve.log.snapshot import Snapshot
from streamll.serve.log.streams import read_up_to
from streamll.serve.routes.service import Service
from streamll.serve.web.requests import HTTPRefusal, authorize, read_json, refuse
from streamll.serve.web.sockets import BAD, LATER, catch_up, send_items

TOKEN_SECONDS = 24 * 3600.0
SERVICE_UNAVAILABLE = 503


def add_routes(app: Starlette, service: Service) -> None:
    routes = RunRoutes(service)
    app.add_route("/runs", routes.start, methods=["POST"])
    app.add_route("/runs", routes.list, methods=["GET"])
    app.add_route("/runs/{run_id}", routes.look, methods=["GET"])
    app.add_route("/runs/{run_id}", routes.cancel, methods=["DELETE"])
    app.add_route("/runs/{run_id}/events", routes.events, methods=["GET"])
    app.add_route("/programs", routes.programs, methods=["GET"])
    app.router.routes.append(WebSocketRoute("/runs/{run_id}/ws", routes.socket))


class RunRoutes:
    def __init__(self, service: Service) -> None:
        self.service = service

    async def start(self, request: Request) -> Response:
        service = self.service
        authorize(request, service.access)
        body = await read_json(request, service.limits)
        inputs, context = body.get("inputs", {}), body.get("context")
        if not isinstance(inputs, dict) or not isinstance(context, (dict, type(None))):
            raise refuse(400, "inputs and context are objects")
        run_id = await service.start(service.program(body.get("program")), inputs, context=context)
        path = f"{request.scope.get('root_path', '')}/runs/{run_id}"
        answer: dict[str, Any] = {
            "run_id": run_id,
            "url": path,
            "events": f"{path}/events",
            "websocket": f"{path}/ws",
            "token": service.access.token_for(run_id, TOKEN_SECONDS),
        }
        return JSONResponse(answer, 202, headers={"location": path})

    async def list(self, request: Request) -> Response:
        authorize(request, self.service.access)
        wanted = request.query_params.get("limit", str(LISTED))
        if not (wanted.isdecimal() and 0 < int(wanted[:9]) <= LISTED):
            raise refuse(400, f"limit is a number from 1 to {LISTED}")
        runs = await self.service.latest(int(wanted))
        return JSONResponse({"runs": runs}, headers={"cache-control": "no-store"})

    async def programs(self, request: Request) -> Response:
        authorize(request, self.service.access)
        told = [
            {"name": each.name, "reply": each.reply, "inputs": msgspec.to_builtins(each.inputs())}
            for each in self.service.programs.values()
        ]
        return JSONResponse({"programs": told})

    async def look(self, request: Request) -> Response:
        run_id = request.path_params["run_id"]
        authorize(request, self.service.access, run_id)
        snapshot, runner = Snapshot(run_id), self.service.runner
        known = await self._tell(snapshot) or run_id in runner.running
        if not known:
            if not await runner.run_log.appears(run_id):
                raise self.service.no_such_run(run_id)
            await self._tell(snapshot)
        lost = self.service.runner.index.is_lost(run_id)
        return JSONResponse(snapshot.answer(lost=lost), headers={"cache-control": "no-store"})

    async def _tell(self, snapshot: Snapshot) -> bool:
        """Tell it what the log has of its run; False: nothing."""
        known = False
        async for events in self.service.runner.run_log.history(Position(snapshot.run_id)):
            known = True
            snapshot.feed(events)
        return known

    async def cancel(self, request: Request) -> Response:
        run_id = request.path_params["run_id"]
        authorize(request, self.service.access, run_id)
        if not await self.service.has_more(Position(run_id, LATE)):
            return JSONResponse({"run_id": run_id, "status": "over"})
        self.service.runner.cancel(run_id)
        return JSONResponse({"run_id": run_id, "status": "cancelling"}, 202)

    async def events(self, request: Request) -> Response:
        service, run_id = self.service, request.path_params["run_id"]
        authorize(request, service.access, run_id)
        service.check_readers()
        position = service.position(request, run_id)
        form = request.query_params.get("format", "native")
        try:
            make_format(form)
        except ConfigurationError as error:
            raise refuse(400, str(error)) from None
        if not await service.has_more(position):
            return Response(status_code=204)  # a browser stops coming back
        stop = request.query_params.get("stop_on_leave", "") not in {"", "0", "false"}
        reply = request.query_params.get("reply")
        return service.respond(position, form, RenderOptions(text=reply), stop_on_leave=stop)

    async def socket(self, websocket: WebSocket) -> None:
        service, run_id = self.service, websocket.path_params["run_id"]
        try:
            authorize(websocket, service.access, run_id)
            service.check_readers()
            position = service.position(websocket, run_id)
            form = make_format(
                websocket.query_params.get("format", "native"),
                RenderOptions(text=websocket.query_params.get("reply")),
            )
            more = await service.has_more(position)
        except (HTTPRefusal, ConfigurationError) as error:
            if isinstance(error, HTTPRefusal) and error.response.status_code == SERVICE_UNAVAILABLE:
                await websocket.accept()  # only so can a browser see the code
                await websocket.close(LATER, "not now")
            else:
                await websocket.close(BAD)
            return
        await websocket.accept()
        if not more:
            await websocket.close()
            return
        runner = service.runner
        with service.connections.present(can_return=True):
            if position.seq >= 0:
                had = read_up_to(runner.run_log, position)
                if not await catch_up(websocket, form, had, run_id):
                    return
            await send_items(
                websocket,
                form,
                runner.run_log.read(position),
                lambda: runner.cancel(run_id),
                run_id=run_id,
                stall_seconds=service.limits.stall_seconds,
            )
