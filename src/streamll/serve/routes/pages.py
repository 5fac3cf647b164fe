"""The viewer's page and scripts, served as the files they are."""

from __future__ import annotations

import os
from pathlib import Path

from starlette.responses import Response
from starlette.routing import BaseRoute, Mount
from starlette.staticfiles import StaticFiles
from starlette.types import Scope

VIEWER = Path(__file__).parent.parent / "viewer" / "static"

CONTENT_SECURITY_POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self' 'unsafe-inline'; img-src 'self' data:; "
    "font-src 'self'; connect-src 'self'; base-uri 'none'; form-action 'none'; "
    "frame-ancestors 'none'"
)
"""Nothing from other hosts, and no script but our files: what a model says is never executed."""


class ViewerFiles(StaticFiles):
    def lookup_path(self, path: str) -> tuple[str, os.stat_result | None]:
        return ("", None) if "\0" in path else super().lookup_path(path)  # older ones raise

    async def get_response(self, path: str, scope: Scope) -> Response:
        response = await super().get_response(path, scope)
        response.headers["content-security-policy"] = CONTENT_SECURITY_POLICY
        response.headers["cache-control"] = "no-cache"
        return response


def viewer_route() -> BaseRoute:
    """The viewer at ``/``. It matches every path, so it must be the last route."""
    return Mount("/", ViewerFiles(directory=VIEWER, html=True), name="viewer")
