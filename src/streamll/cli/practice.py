"""``streamll practice``: the practice server in the foreground."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

from streamll.cli.problem import FAILED, Problem

if TYPE_CHECKING:
    from streamll.testing import PracticeServer, RecordedRequest
    from streamll.testing.cutting import Chunk


def serve(port: int, pace: float, chunk: str, *, packets: bool) -> None:
    """Serve until Ctrl-C."""
    from streamll.testing import PracticeServer

    server = PracticeServer(
        pace=pace, chunk=chunk_of(chunk), packets=packets, port=port, log=print_request
    )
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
    """Where the server is and how a program reaches it."""
    openai = f'api_base="{server.openai_url}", api_key="practice"'
    anthropic = f'api_base="{server.anthropic_url}", api_key="practice"'
    return f"""\
Practice server on {server.url}; Ctrl-C ends it.

OpenAI chat       dspy.LM("openai/practice-model", {openai})
OpenAI Responses  dspy.LM("openai/practice-model", {openai}, model_type="responses")
Anthropic         dspy.LM("anthropic/practice-model", {anthropic})

streamll run module:Program --model openai/practice-model --base-url {server.openai_url} "…"
"""


def print_request(request: RecordedRequest) -> None:
    """One line per request: what was asked, what became of it. No prompts."""
    how = f"{request.chunks_sent} chunks" if request.streaming else "not streamed"
    state = "" if request.finished_at is not None else ", closed by the client"
    duration = time.monotonic() - request.started_at
    line = (
        f"{request.method} {request.path} {request.status or '-'}  {how}, {duration:.1f} s{state}"
    )
    print(line, flush=True)
