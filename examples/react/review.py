"""A page in React, built with Vite, over a program with typed fields.

python scripts/build_clients.py                   # once: the packages, into dist/
(cd examples/react && npm install && npm run build)
python examples/react/review.py                   # then open http://127.0.0.1:8000

While you change the page: leave this running, and open what ``npm run dev`` says instead. After a change of
``Review`` below, ``npm run types`` writes the page's types anew.
"""

import sys
from pathlib import Path
from typing import Literal

import dspy
import uvicorn
from fastapi import FastAPI
from fastapi.staticfiles import StaticFiles
from pydantic import BaseModel

from streamll.serve import create_app

HERE = Path(__file__).parent


class Finding(BaseModel):
    title: str
    severity: Literal["low", "high"]
    line: int


class Review(dspy.Signature):
    """Review the code."""

    code: str = dspy.InputField()
    findings: list[Finding] = dspy.OutputField(desc="What is wrong, the worst first")
    summary: str = dspy.OutputField()


review = dspy.Predict(Review)


def make_app(log: str, built: Path = HERE / "dist") -> FastAPI:
    app = FastAPI()
    app.mount("/llm", create_app({"review": review}, log=log))
    app.mount("/", StaticFiles(directory=built, html=True))
    return app


REPLY = {
    "findings": [
        {"title": "SQL is put together from what a user gives", "severity": "high", "line": 4},
        {"title": "The module os is not used", "severity": "low", "line": 1},
    ],
    "summary": "Pass the name as a parameter of the query, and drop the import.",
}

if __name__ == "__main__":
    sys.path.insert(0, str(HERE.parent))
    from _model import language_model

    with language_model(respond=lambda request: REPLY) as lm:
        dspy.configure(lm=lm)
        uvicorn.run(make_app("sqlite:///review.db"), port=8000)
