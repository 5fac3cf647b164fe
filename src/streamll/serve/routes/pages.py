"""The viewer: files of this package, served as they are, and nothing else."""

from __future__ import annotations

from pathlib import Path

from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response
from starlette.staticfiles import StaticFiles
from starlette.types import Scope

VIEWER = Path(__file__).parent.parent / "viewer" / "static"

POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self' 'unsafe-inline'; img-src 'self' data:; "
    "font-src 'self'; connect-src 'self'; base-uri 'none'; form-action 'none'; "
    "frame-ancestors 'none'"
)
"""Nothing from elsewhere, no script that is not a file of ours: what a model says never runs."""


class ViewerFiles(StaticFiles):
    async def get_response(self, path: str, scope: Scope) -> Response:
        response = await super().get_response(path, scope)
        response.headers["content-security-policy"] = POLICY
        response.headers["cache-control"] = "no-cache"
        return response


def add_routes(app: Starlette) -> None:
    """Serve the viewer at ``/``; last of all routes, since it answers to every path."""
    if (VIEWER / "index.html").is_file():
        app.mount("/", ViewerFiles(directory=VIEWER, html=True), name="viewer")
    else:
        app.add_route("/", _no_viewer)


async def _no_viewer(_: Request) -> Response:
    return PlainTextResponse("streamll serves runs here; POST /runs starts one.\n")
