"""A FastAPI application with a page in 30 lines of JavaScript: ask, watch, reload, stop.

python examples/fastapi_app.py            # then open http://127.0.0.1:8000
STREAMLL_MODEL=openai/gpt-4o-mini python examples/fastapi_app.py
"""

import json
import sys
import tempfile
import threading
import time
import urllib.request
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated

import dspy
import uvicorn
from _model import language_model
from fastapi import Body, FastAPI
from fastapi.responses import FileResponse

import streamll
from streamll.serve import cancel_run

PAGE = Path(__file__).parent / "plain_page.html"


def make_app(log: str) -> FastAPI:
    app = FastAPI()
    qa = dspy.ChainOfThought("question -> answer")

    @app.get("/")
    async def page():
        return FileResponse(PAGE)

    @app.post("/ask")
    async def ask(question: Annotated[str, Body(embed=True)]):  # an address would be logged
        return streamll.sse_response(qa, question=question, log=log)

    @app.get("/ask")
    async def come_back(lastEventId: str):  # noqa: N803 - starts nothing: reads a run
        return streamll.sse_response(qa, log=log)

    @app.delete("/ask/{run_id}")
    async def stop(run_id: str):
        await cancel_run(log, run_id)

    return app


@contextmanager
def running(app: FastAPI, port: int):
    server = uvicorn.Server(uvicorn.Config(app, port=port, log_level="warning"))
    thread = threading.Thread(target=server.run)
    thread.start()
    while not server.started:
        time.sleep(0.01)
    try:
        yield server.servers[0].sockets[0].getsockname()[1]
    finally:
        server.should_exit = True
        thread.join()


def main() -> None:
    stay = sys.stdin.isatty()
    with tempfile.TemporaryDirectory() as place, language_model() as lm:
        dspy.configure(lm=lm)
        with running(make_app(f"sqlite:///{place}/runs.db"), 8000 if stay else 0) as port:
            if stay:
                print(f"Open http://127.0.0.1:{port}; Enter ends it")
                input()
                return
            question = urllib.request.Request(
                f"http://127.0.0.1:{port}/ask",
                data=json.dumps({"question": "Why is the sky blue?"}).encode(),
                headers={"Content-Type": "application/json"},
            )
            with urllib.request.urlopen(question) as answer:
                lines = answer.read().decode().splitlines()
            events = [json.loads(line[6:]) for line in lines if line.startswith("data: ")]
            tokens = [e["token"] for e in events if e["event_type"] == "token"]
            print(f"{len(tokens)} tokens came over HTTP, then {events[-1]['event_type']}")


if __name__ == "__main__":
    main()
