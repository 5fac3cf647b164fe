"""A page that shows a reply as the model writes it, and beside it what guards let out.

python examples/guarded_page.py           # then open http://127.0.0.1:8000
STREAMLL_MODEL=openai/gpt-4o-mini python examples/guarded_page.py
"""

import json
import sys
import urllib.request
from pathlib import Path
from typing import Annotated

import dspy
from _model import language_model
from fastapi import Body, FastAPI
from fastapi.responses import FileResponse
from fastapi_app import running

import streamll
from streamll.guards import Words, card_numbers, emails
from streamll.testing import Reply

PAGE = Path(__file__).parent / "guarded_page.html"
REPLY = Reply(
    {
        "answer": "Ada pays with the card 4111 1111 1111 1111, and the bill goes to "
        "ada@example.org. She works on Bluebird. The parcel 4111 1111 1111 1112 is on its way: "
        "that is no card, as its last digit says."
    },
    chunk=3,
)


GUARDS = [
    card_numbers(mask="[card]"),
    emails(mask="[address]"),
    Words(["Bluebird"], name="project", mask="[project]"),
]


def make_app() -> FastAPI:
    app = FastAPI()
    qa = dspy.Predict("question -> answer")

    @app.get("/")
    async def page():
        return FileResponse(PAGE)

    @app.post("/ask")
    async def ask(
        question: Annotated[str, Body()],
        guards: Annotated[bool, Body()] = True,
    ):
        return streamll.sse_response(qa, question=question, guards=GUARDS if guards else ())

    return app


def main() -> None:
    stay = sys.stdin.isatty()
    with language_model(respond=lambda _: REPLY, pace=0.07) as lm:
        dspy.configure(lm=lm)
        with running(make_app(), 8000 if stay else 0) as port:
            if stay:
                print(f"Open http://127.0.0.1:{port}; Enter ends it")
                input()
                return
            question = urllib.request.Request(
                f"http://127.0.0.1:{port}/ask",
                data=json.dumps({"question": "What do you have on file for Ada?"}).encode(),
                headers={"Content-Type": "application/json"},
            )
            with urllib.request.urlopen(question) as answer:
                lines = answer.read().decode().splitlines()
            events = [json.loads(line[6:]) for line in lines if line.startswith("data: ")]
            print("".join(event.get("token", "") for event in events))
            print(", ".join(e["name"] for e in events if e["event_type"] == "guarded"))


if __name__ == "__main__":
    main()
