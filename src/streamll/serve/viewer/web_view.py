"""A viewer for this process: a server on this machine, in a thread, with a log of its own.

What ``watch(web=True)`` and ``streamll replay --web`` show goes into ``sink``. The address has a
token, so that no other user of this machine can read it.
"""

from __future__ import annotations

import atexit
import math
import os
import secrets
import shutil
import socket
import sys
import tempfile
import threading

from starlette.datastructures import MutableHeaders
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from streamll.brokers.opening import open_sink
from streamll.core.errors import needs_extra
from streamll.serve.app import create_app
from streamll.serve.web.limits import Limits
from streamll.sinks.base import BaseSink

NOTEBOOKS = "http://localhost:* http://127.0.0.1:* https://localhost:* https://127.0.0.1:* vscode-webview: vscode-file:"
"""The pages of notebooks on this machine, or forwarded to it. Whoever frames the view sees nothing without its token."""


class WebView:
    """Runs until ``stop()`` or the end of the process."""

    def __init__(self) -> None:
        try:
            import uvicorn
        except ImportError:
            raise needs_extra("a page to watch", "serve") from None
        self._folder = tempfile.mkdtemp(prefix="streamll-watch-")
        log = f"sqlite:///{self._folder}/runs.db"
        token = secrets.token_urlsafe(24)
        # The programs do not run in the server, so it must not declare their runs lost.
        app = create_app(None, log=log, tokens=token, limits=Limits(lost_seconds=math.inf))
        self.watched = threading.Event()
        """Set when a page was opened, which asks for the list of runs."""
        self.sink: BaseSink = open_sink(log)
        self.sink.local = True  # written when a call returns: the process may end then
        self._socket = socket.socket()
        self._socket.bind(("127.0.0.1", 0))
        self.url = f"http://127.0.0.1:{self._socket.getsockname()[1]}/#token={token}"
        self._socket.listen()  # whoever comes before the server is ready waits
        config = uvicorn.Config(
            self._noticing(app), log_level="warning", timeout_graceful_shutdown=1
        )
        self._server = uvicorn.Server(config)
        self._thread = threading.Thread(
            target=self._server.run,
            kwargs={"sockets": [self._socket]},
            name="streamll viewer",
            daemon=True,
        )
        self._thread.start()
        # At exit the server's thread is gone and cannot close the log itself.
        atexit.register(shutil.rmtree, self._folder, ignore_errors=True)

    def _noticing(self, app: ASGIApp) -> ASGIApp:
        """``app``, whose pages may stand in a notebook's; notices when somebody looks."""

        async def noticing(scope: Scope, receive: Receive, send: Send) -> None:
            if scope["type"] == "http" and scope["path"] == "/runs":
                self.watched.set()

            async def send_framed(message: Message) -> None:
                if message["type"] == "http.response.start":
                    _let_notebooks_frame(MutableHeaders(scope=message))
                await send(message)

            await app(scope, receive, send_framed)

        return noticing

    @property
    def stopped(self) -> bool:
        return self._server.should_exit

    def stop(self) -> None:
        """Stop the server and delete what was shown. Idempotent."""
        self._server.should_exit = True
        self._thread.join(5.0)
        self.sink.stop()
        self._socket.close()
        shutil.rmtree(self._folder, ignore_errors=True)


def _let_notebooks_frame(headers: MutableHeaders) -> None:
    """What keeps a page out of others' frames: for this one, out of all but those of ``NOTEBOOKS``."""
    if policy := headers.get("content-security-policy"):
        del headers["x-frame-options"]
        headers["content-security-policy"] = policy.replace(
            "frame-ancestors 'none'", f"frame-ancestors 'self' {NOTEBOOKS}"
        )


_shared: WebView | None = None
_lock = threading.Lock()


def shared_web_view() -> WebView:
    """The one view of this process. The first call prints its address and opens it."""
    global _shared  # noqa: PLW0603
    with _lock:
        if _shared is None or _shared.stopped:
            _shared = WebView()
            announce(_shared.url)
        return _shared


def announce(url: str) -> None:
    """Print the page's address; open it in a browser if this is an interactive terminal."""
    print(f"streamll: watch at {url}", file=sys.stderr, flush=True)  # noqa: T201
    screen = sys.platform in {"darwin", "win32"} or any(
        os.environ.get(name) for name in ("DISPLAY", "WAYLAND_DISPLAY")
    )
    if screen and sys.stderr.isatty():
        import webbrowser

        webbrowser.open(url)
