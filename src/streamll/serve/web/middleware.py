"""What every request passes before any route: host, origin and CORS checks, counting, access log.

Plain ASGI. A record of the access log has method, path, status, bytes and time as fields, and never
a query string, header or body: these contain tokens and questions.
"""

from __future__ import annotations

import logging
import re
import time
from collections import Counter
from typing import Any

from starlette.datastructures import Headers, MutableHeaders
from starlette.responses import Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from streamll.serve.web.access import Access, is_loopback
from streamll.serve.web.requests import HTTPRefusal, refusal
from streamll.serve.web.responses import POLICY_VIOLATION

access_log = logging.getLogger("streamll.access")

PREFLIGHT = {
    "access-control-allow-methods": "GET, POST, DELETE",
    "access-control-allow-headers": "authorization, content-type, last-event-id",
    "access-control-max-age": "600",
}
KEY_IN_PATH = re.compile(r"(resp_[0-9a-f]{32})[0-9a-f]+")
"""A response's id, and in it the key to its conversation."""
METHODS = frozenset({"GET", "POST", "DELETE", "OPTIONS", "HEAD", "WEBSOCKET"})
FORBIDDEN = 403
SECURITY_HEADERS = {
    "x-content-type-options": "nosniff",
    "referrer-policy": "no-referrer",
    "x-frame-options": "DENY",
}


class Middleware:
    def __init__(self, app: ASGIApp, access: Access) -> None:
        self.app = app
        self.access = access
        self.requests: Counter[tuple[str, int]] = Counter()
        self.bytes_sent = 0

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] not in {"http", "websocket"}:
            await self.app(scope, receive, send)
            return
        started = time.monotonic()
        status, size = 0, 0
        headers = Headers(scope=scope)
        origin = headers.get("origin")

        async def send_marked(message: Message) -> None:
            nonlocal status, size
            if message["type"] == "http.response.start":
                status = message["status"]
                self._mark(message, origin)
            elif message["type"] == "http.response.body":
                size += len(message.get("body", b""))
            elif message["type"] in {"websocket.accept", "websocket.close"} and not status:
                status = 101 if message["type"] == "websocket.accept" else FORBIDDEN
            elif message["type"] == "websocket.send":
                size += len(message.get("text") or message.get("bytes") or "")
            await send(message)

        try:
            answer: ASGIApp = self._refusal(scope, headers, origin) or self.app
            if scope["type"] == "websocket" and answer is not self.app:
                close = {"type": "websocket.close", "code": POLICY_VIOLATION, "reason": ""}
                await send_marked(close)
            else:
                await answer(scope, receive, send_marked)
        except BaseException:
            status = status or 500
            raise
        finally:
            self._count(scope, status, size, time.monotonic() - started)

    def _refusal(self, scope: Scope, headers: Headers, origin: str | None) -> Response | None:
        """The response to a request that no route may answer."""
        server, host = scope.get("server"), headers.get("host")
        if self.access.is_open and server and not is_loopback(server[0] or "localhost"):
            status = FORBIDDEN
            reason = "without tokens this server only answers requests from its own machine"
        elif not self.access.is_host(host):
            status, reason = 421, "this server does not have that name"
        elif not self.access.is_origin(origin, host):
            status, reason = FORBIDDEN, "pages of this origin may not call"
        elif scope.get("method") == "OPTIONS" and "access-control-request-method" in headers:
            return Response(status_code=204, headers=PREFLIGHT)
        else:
            return None
        return refusal(HTTPRefusal(status, reason))

    def _mark(self, message: Message, origin: str | None) -> None:
        headers = MutableHeaders(scope=message)
        for name, value in SECURITY_HEADERS.items():
            headers.setdefault(name, value)
        if origin is not None:
            headers.add_vary_header("origin")
            if message["status"] != FORBIDDEN:
                headers["access-control-allow-origin"] = origin

    def _count(self, scope: Scope, status: int, size: int, seconds: float) -> None:
        method = scope.get("method", "WEBSOCKET")
        self.requests[method if method in METHODS else "OTHER", status] += 1
        self.bytes_sent += size
        path = KEY_IN_PATH.sub(r"\1…", scope["path"][:200])
        seen = {"method": method, "path": path, "status": status, "bytes": size}
        record: dict[str, Any] = {**seen, "seconds": round(seconds, 6)}
        access_log.info("%(method)s %(path)s %(status)s", record, extra={"request": record})
