"""The cookbook's JavaScript reads a real route: what a page shows is what the program returned."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
from pathlib import Path
from typing import Annotated

import dspy
import pytest
from fastapi import Body, FastAPI
from serving import Server

import streamll

COOKBOOK = (Path(__file__).parents[2] / "docs" / "cookbook.md").read_text("utf-8")
READER = re.search(r"```javascript\n(.*?)```", COOKBOOK, re.DOTALL)[1]
ASK = """
const response = await fetch(process.argv[1] + "/ask", {
  method: "POST", headers: {"Content-Type": "application/json"}, body: JSON.stringify({question: "?"}),
});
let shown = {};
for await (const event of eventsOf(response)) shown = withEvent(shown, event);
console.log(JSON.stringify(Object.values(shown).map(({field, text}) => [field, text])));
"""


@pytest.fixture
def asked(practice, lm):
    """Ask a route in Node; returns the fields' texts that a page would show."""
    app = FastAPI()

    @app.post("/ask")
    async def ask(question: Annotated[str, Body(embed=True)]):
        with dspy.context(lm=lm):
            return streamll.sse_response(
                dspy.Predict("question -> answer, score"), question=question
            )

    node = shutil.which("node")
    if node is None:
        pytest.skip("needs node")
    server = Server(app)

    def ask_in_node():
        command = [node, "--input-type=module", "-e", READER + ASK, server.url]
        done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=True)
        return json.loads(done.stdout)

    yield ask_in_node
    server.stop()


def test_fields_are_shown_as_they_are_returned(practice, asked):
    practice.script({"answer": 'Grüße\n\n"quoted" 🎉', "score": "1"})
    assert asked() == [["answer", 'Grüße\n\n"quoted" 🎉'], ["score", "1"]]


def test_the_text_of_a_superseded_attempt_is_not_shown(practice, asked):
    practice.script("[[ ## answer ## ]]\nfirst try, no score", {"answer": "second", "score": "2"})
    assert asked() == [["answer", "second"], ["score", "2"]]
