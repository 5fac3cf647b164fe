"""The viewer's page and what it loads: its scripts as one, and the files they are."""

from __future__ import annotations

import functools
import hashlib
import os

from starlette.datastructures import Headers
from starlette.responses import Response
from starlette.routing import BaseRoute, Mount
from starlette.staticfiles import NotModifiedResponse, StaticFiles
from starlette.types import Scope

from streamll.serve.page import STATIC, document, program

CONTENT_SECURITY_POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self' 'unsafe-inline'; img-src 'self' data:; "
    "font-src 'self'; connect-src 'self'; base-uri 'none'; form-action 'none'; "
    "frame-ancestors 'none'"
)
"""Nothing from other hosts, and no script but our files: what a model says is never executed."""

PROGRAM = "scripts.js"
"""The page's scripts as one: thirty requests would each wait for a distant server."""


class ViewerFiles(StaticFiles):
    def lookup_path(self, path: str) -> tuple[str, os.stat_result | None]:
        return ("", None) if "\0" in path else super().lookup_path(path)  # older ones raise

    async def get_response(self, path: str, scope: Scope) -> Response:
        if scope["method"] in {"GET", "HEAD"} and path in {".", "index.html", PROGRAM}:
            response = _made(path == PROGRAM)
            if self.is_not_modified(response.headers, Headers(scope=scope)):
                response = NotModifiedResponse(response.headers)
        else:
            response = await super().get_response(path, scope)
        response.headers["content-security-policy"] = CONTENT_SECURITY_POLICY
        response.headers["cache-control"] = "no-cache"
        return response


def _made(script: bool) -> Response:
    text, tag = _text(script)
    kind = "text/javascript" if script else "text/html"
    return Response(text, media_type=kind, headers={"etag": tag})


@functools.cache
def _text(script: bool) -> tuple[str, str]:
    """The program or the document, and its entity tag."""
    text = program() if script else document(f'<script src="{PROGRAM}" defer></script>\n')
    return text, f'"{hashlib.sha256(text.encode()).hexdigest()[:32]}"'


def viewer_route() -> BaseRoute:
    """The viewer at ``/``. It matches every path, so it must be the last route."""
    return Mount("/", ViewerFiles(directory=STATIC, html=True), name="viewer")
