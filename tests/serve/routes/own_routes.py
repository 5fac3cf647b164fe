"""Routes of one's own, in a process: ``python own_routes.py LOG MODEL_URL SIGNALS``.

``SIGNALS``: ``python`` as uvicorn hears of them, ``loop`` as granian and hypercorn do.
"""

from __future__ import annotations

import asyncio
import contextlib
import signal
import socket
import sys
import time

import dspy
import uvicorn
from fastapi import FastAPI, WebSocket

import streamll
from streamll.serve import runner
from streamll.serve.log import run_log

run_log.START_S = runner.LOGGED_S = 60.0  # on a busy machine a log is there, or has a run, late


class LoopSignals(uvicorn.Server):
    @contextlib.contextmanager
    def capture_signals(self):
        loop = asyncio.get_running_loop()
        for number in (signal.SIGINT, signal.SIGTERM):
            loop.add_signal_handler(number, self.handle_exit, number, None)
        yield


class Blocking(dspy.Module):
    """Asks, and then does not come back."""

    def __init__(self):
        super().__init__()
        self.qa = dspy.Predict("question -> answer")

    def forward(self, question):
        self.qa(question=question)
        time.sleep(600)


def app_of(log):
    app = FastAPI()
    programs = {"qa": dspy.Predict("question -> answer"), "blocking": Blocking()}

    @app.get("/{name}/{form}")
    async def ask(name: str, form: str, kept: bool = False):
        where = log if kept else None
        return streamll.sse_response(programs[name], format=form, log=where, question="q")

    @app.websocket("/ws")
    async def talk(websocket: WebSocket):
        await streamll.websocket_stream(websocket, programs["qa"], question="q")

    return app


def use_model(url):
    lm = dspy.LM("openai/practice", api_base=url, api_key="practice", cache=False)
    dspy.configure(lm=lm, adapter=dspy.ChatAdapter())


def main(log, model_url, signals):
    use_model(model_url)
    with socket.socket() as listening:
        listening.bind(("127.0.0.1", 0))
        print(listening.getsockname()[1])
        server = {"python": uvicorn.Server, "loop": LoopSignals}[signals]
        # No bound on the wait for readers, as by default.
        server(uvicorn.Config(app_of(log), log_level="warning")).run(sockets=[listening])


if __name__ == "__main__":
    main(*sys.argv[1:])
