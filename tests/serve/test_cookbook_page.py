"""The cookbook's pages, with real servers: in Node, and in Chromium with React and the ``ai`` package."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
from pathlib import Path
from typing import Annotated

import dspy
import pytest
from chromium import launched
from fastapi import Body, FastAPI
from fastapi.responses import HTMLResponse, Response

import streamll
from serve.npm import REACT, packages
from serve.serving import Server
from streamll.serve import create_app

DOCS = Path(__file__).parents[2] / "docs"
COOKBOOK = (DOCS / "cookbook.md").read_text("utf-8")
READER = re.search(r"```javascript\n(.*?)```", COOKBOOK, re.DOTALL)[1]


@pytest.fixture
def ask_route(practice, lm):
    app = FastAPI()

    @app.post("/ask")
    async def ask(question: Annotated[str, Body(embed=True)]):
        with dspy.context(lm=lm):
            return streamll.sse_response(
                dspy.Predict("question -> answer, score"), question=question
            )

    return app


@pytest.fixture
def serve():
    servers = []

    def start(app):
        servers.append(Server(app))
        return servers[-1].url

    yield start
    for server in servers:
        server.stop()


# --- without a library ----------------------------------------------------------------------------

ASK = """
const response = await fetch(process.argv[1] + "/ask", {
  method: "POST", headers: {"Content-Type": "application/json"}, body: JSON.stringify({question: "?"}),
});
let shown = {};
for await (const event of eventsOf(response)) shown = withEvent(shown, event);
console.log(JSON.stringify(Object.values(shown).map(({field, text}) => [field, text])));
"""


@pytest.fixture
def asked(ask_route, serve):
    """Ask the route in Node; returns the fields' texts that a page would show."""
    node = shutil.which("node")
    if node is None:
        pytest.skip("needs node")
    url = serve(ask_route)

    def ask_in_node():
        command = [node, "--input-type=module", "-e", READER + ASK, url]
        done = subprocess.run(command, capture_output=True, text=True, check=True)
        return json.loads(done.stdout)

    return ask_in_node


def test_fields_are_shown_as_they_are_returned(practice, asked):
    practice.script({"answer": 'Grüße\n\n"quoted" 🎉', "score": "1"})
    assert asked() == [["answer", 'Grüße\n\n"quoted" 🎉'], ["score", "1"]]


SUPERSEDED = "[[ ## answer ## ]]\nfirst try, no score", {"answer": "second", "score": "2"}


def test_the_text_of_a_superseded_attempt_is_not_shown(practice, asked):
    practice.script(*SUPERSEDED)
    assert asked() == [["answer", "second"], ["score", "2"]]


# --- React ----------------------------------------------------------------------------------------

SHOWN_PARTS = re.search(
    r"```javascript\n(export function shownParts.*?)```",
    (DOCS / "fastapi.md").read_text("utf-8"),
    re.DOTALL,
)[1]
PAGE = """
import { createRoot } from "react-dom/client";
const Shown = location.pathname === "/chat" ? <Conversation id="c1" /> : <Ask />;
createRoot(document.getElementById("root")).render(Shown);
"""


@pytest.fixture(scope="module")
def bundle(tmp_path_factory):
    """The cookbook's components and what they import, as one script."""
    components = re.findall(r"```jsx\n(.*?)```", COOKBOOK, re.DOTALL)
    assert len(components) == 2
    place = packages(REACT, "npm-react")
    source = tmp_path_factory.mktemp("page") / "page.jsx"
    source.write_text("\n".join([READER, SHOWN_PARTS, *components, PAGE]), "utf-8")
    options = [
        "--bundle",
        "--jsx=automatic",
        "--format=esm",
        '--define:process.env.NODE_ENV="test"',
    ]
    command = [place / "node_modules" / ".bin" / "esbuild", source, *options]
    done = subprocess.run(
        command,
        env={"NODE_PATH": str(place / "node_modules"), "PATH": "/usr/bin:/bin:/usr/local/bin"},
        capture_output=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr.decode()
    return done.stdout


@pytest.fixture
def open_page(ask_route, bundle, serve, practice, lm, tmp_path):
    """``open_page(path)``: the page in a browser, on the server of the cookbook's routes."""
    dspy.configure(lm=lm)
    namespace = {}
    served = re.search(r"^class Chat\(.*?^chats = ", COOKBOOK, re.DOTALL | re.MULTILINE)[0]
    code = compile(served.rpartition("\n")[0], "cookbook.md", "exec", dont_inherit=True)
    exec(code, {"dspy": dspy}, namespace)
    programs = {"chat": dspy.Predict(namespace["Chat"])}  # as the cookbook has it, in another log
    ask_route.mount("/llm", create_app(programs, log=f"sqlite:///{tmp_path}/chats.db"))
    html = '<div id="root"></div><script type="module" src="/page.js"></script>'
    ask_route.get("/page.js")(lambda: Response(bundle, media_type="text/javascript"))
    ask_route.get("/{path}")(lambda: HTMLResponse(html))
    url, errors = serve(ask_route), []
    with launched() as browser, browser.page() as page:

        def open_(path):
            page.on("pageerror", lambda error: errors.append(str(error)))
            page.goto(url + path)
            return page

        yield open_
    assert errors == []


def ask(page, question):
    page.locator("input[name=question]").fill(question)
    # Enabled still, or again: a page that has just been loaded looks for a run to go on with.
    page.locator("input[name=question]:enabled").press("Enter")


def test_the_react_component_shows_what_counts(practice, open_page):
    practice.script(*SUPERSEDED, {"answer": "third", "score": "3"})
    page = open_page("/ask")
    ask(page, "Why?")
    page.get_by_text("answer second").wait_for()
    page.get_by_text("score 2").wait_for()
    ask(page, "And why?")
    page.get_by_text("answer third").wait_for()
    page.get_by_text("score 3").wait_for()
    assert page.locator("p").count() == 2
    assert page.get_by_role("alert").count() == 0


def test_use_chat_sends_the_history_and_shows_both_sides(practice, open_page):
    practice.script({"answer": "It is blue."}, {"answer": "Because of the air."})
    page = open_page("/chat")
    ask(page, "Which colour is the sky?")
    page.get_by_text("It is blue.").wait_for()
    ask(page, "Why is that?")
    page.get_by_text("Because of the air.").wait_for()
    assert page.locator("p").count() == 4
    first, second = practice.requests
    assert "It is blue." not in json.dumps(first.body)
    assert "It is blue." in json.dumps(second.body)
