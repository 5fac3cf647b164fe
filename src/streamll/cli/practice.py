"""``streamll practice``: the practice server in the foreground."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Annotated

from typer import Option

from streamll.cli.command import FAILED, Pace, Problem
from streamll.cli.models import PACE_S

if TYPE_CHECKING:
    from streamll.testing import PracticeServer, RecordedRequest
    from streamll.testing.cutting import Chunk


def practice(
    port: Annotated[int, Option(min=0, max=65535, help="0 for a free port.")] = 8123,
    pace: Pace = PACE_S,
    chunk: Annotated[
        str, Option(help="How replies are cut: token, whole, or a number of characters.")
    ] = "token",
    packets: Annotated[
        bool, Option("--packets", help="Send every frame in a write of its own.")
    ] = False,
    dialect: Annotated[
        str | None,
        Option(help="Speak as this server does: groq, ollama, … (an unknown name lists them)."),
    ] = None,
) -> None:
    """Serve a practice model over HTTP; Ctrl-C ends it."""
    from streamll.testing import PracticeServer

    try:
        server = PracticeServer(
            pace=pace,
            chunk=chunk_of(chunk),
            packets=packets,
            dialect=dialect,
            port=port,
            log=print_request,
        )
    except ValueError as error:
        raise Problem(f"--dialect: {error}") from error
    try:
        server.serve_forever(lambda: print(welcome(server), flush=True))
    except OSError as error:
        raise Problem(f"port {port} cannot be used: {error.strerror}", FAILED) from error


def chunk_of(text: str) -> Chunk:
    if text == "token":
        return "token"
    if text == "whole":
        return "whole"
    if text.isdecimal() and int(text) > 0:
        return int(text)
    raise Problem(f"--chunk takes token, whole or a number of characters, not {text!r}")


def welcome(server: PracticeServer) -> str:
    """The server's addresses, and how a program uses them."""
    from streamll.testing.wires import WIRES

    lines = []
    for wire in WIRES:
        settings = wire.lm_settings(server.url)
        shown = ", ".join(f'{name}="{value}"' for name, value in settings.items())
        lines.append(f'{wire.label:17} dspy.LM("{wire.provider}/practice-model", {shown})')
    models = "\n".join(lines)
    how = f", speaking as {server.dialect} does" if server.dialect else ""
    return f"""\
Practice server on {server.url}{how}; Ctrl-C ends it.

{models}

streamll run module:Program --model openai/practice-model --base-url {server.openai_url} "…"
"""


def print_request(request: RecordedRequest) -> None:
    """One line per request, without its prompt."""
    how = f"{request.chunks_sent} chunks" if request.streaming else "not streamed"
    state = "" if request.finished_at is not None else ", closed by the client"
    duration = time.monotonic() - request.started_at
    line = (
        f"{request.method} {request.path} {request.status or '-'}  {how}, {duration:.1f} s{state}"
    )
    print(line, flush=True)
