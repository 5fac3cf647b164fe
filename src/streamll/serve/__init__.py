"""To the browser: responses for your own routes, and a server of runs.

``sse_response`` and ``websocket_stream`` stream one program from a Starlette or FastAPI route.
``create_app`` serves programs: runs live in a log, and any process serves any run.
Needs the extra ``streamll[serve]``. Reaches programs only through ``streamll.stream``.
"""

from streamll.exports import names_in, resolver

PUBLIC = {
    "serve.app": "create_app",
    "serve.permits": "Permit RunFacts",
    "serve.programs": "Served",
    "serve.routes.embedded": "cancel_run sse_response websocket_stream",
    "serve.routes.open_streams": "shutdown",
    "serve.web.access": "run_token",
    "serve.web.limits": "Limits",
    "serve.web.requests": "bearer_token",
}

__getattr__ = resolver(__name__, PUBLIC)
__all__ = names_in(PUBLIC)  # noqa: PLE0605
