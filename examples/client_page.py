"""A page that uses @streamll/client: fields as they grow, stop, reload, lost connections.

python scripts/build_clients.py           # builds the client, once
python examples/client_page.py            # then open http://127.0.0.1:8000
STREAMLL_MODEL=openai/gpt-4o-mini python examples/client_page.py
"""

import json
import sys
import tempfile
import urllib.request
from pathlib import Path

import dspy
from _model import language_model
from fastapi import FastAPI
from fastapi.responses import FileResponse
from fastapi_app import running

from streamll.serve import create_app

HERE = Path(__file__).parent
CLIENT = HERE.parent / "clients" / "js" / "client" / "dist" / "index.js"
REPLY = {
    "answer": "Air scatters blue light more than red light.",
    "next_questions": '["And the sunset?", "And on Mars?"]',
}


class Answer(dspy.Signature):
    """Answer, and suggest what to ask next."""

    question: str = dspy.InputField()
    answer: str = dspy.OutputField()
    next_questions: list[str] = dspy.OutputField()


def make_app(log: str, client: Path = CLIENT) -> FastAPI:
    app = FastAPI()

    @app.get("/")
    async def page():
        return FileResponse(HERE / "client_page.html")

    @app.get("/client.js")
    async def script():
        return FileResponse(client, media_type="text/javascript")

    app.mount("/llm", create_app({"qa": dspy.Predict(Answer)}, log=log))
    return app


def main() -> None:
    stay = sys.stdin.isatty()
    with tempfile.TemporaryDirectory() as place, language_model(respond=lambda _: REPLY) as lm:
        dspy.configure(lm=lm)
        with running(make_app(f"sqlite:///{place}/runs.db"), 8000 if stay else 0) as port:
            if stay:
                print(f"Open http://127.0.0.1:{port}; Enter ends it")
                input()
                return
            start = urllib.request.Request(
                f"http://127.0.0.1:{port}/llm/runs",
                data=json.dumps({"inputs": {"question": "Why is the sky blue?"}}).encode(),
                headers={"Content-Type": "application/json"},
            )
            with urllib.request.urlopen(start) as answer:
                events = json.load(answer)["events"]
            with urllib.request.urlopen(f"http://127.0.0.1:{port}{events}") as answer:
                lines = answer.read().decode().splitlines()
            kinds = [json.loads(line[6:])["event_type"] for line in lines if line[:6] == "data: "]
            print(f"{kinds.count('field.partial')} changes of a list, then {kinds[-1]}")


if __name__ == "__main__":
    main()
