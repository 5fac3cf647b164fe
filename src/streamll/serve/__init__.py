"""To the browser: responses for your own routes, and a server of runs.

``sse_response`` and ``websocket_stream`` stream one program from a Starlette or FastAPI route.
``create_app`` serves programs: runs live in a log, and any process serves any run.
Needs the extra ``streamll[serve]``. Reaches programs only through ``streamll.stream``.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from streamll.serve.app import create_app
    from streamll.serve.routes.embedded import cancel_run, sse_response
    from streamll.serve.web.access import run_token
    from streamll.serve.web.limits import ServerLimits
    from streamll.serve.web.sockets import websocket_stream

_HOMES = {
    "cancel_run": "routes.embedded",
    "create_app": "app",
    "ServerLimits": "web.limits",
    "run_token": "web.access",
    "sse_response": "routes.embedded",
    "websocket_stream": "web.sockets",
}

__all__ = [
    "ServerLimits",
    "cancel_run",
    "create_app",
    "run_token",
    "sse_response",
    "websocket_stream",
]


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module 'streamll.serve' has no attribute {name!r}")
    return getattr(importlib.import_module(f"streamll.serve.{_HOMES[name]}"), name)
