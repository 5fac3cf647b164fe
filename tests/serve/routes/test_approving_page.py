"""The page of ``docs/asking.md``, with React in a real browser: a person allows a tool's call, and refuses one."""

from __future__ import annotations

import re
import subprocess

import dspy
from chromium import launched
from fastapi import FastAPI
from fastapi.responses import HTMLResponse, Response

import streamll
from serve.npm import REACT, ROOT, packages
from serve.routes.test_use_chat_questions import send_mail
from streamll.serve import create_app

COMPONENT = re.search(
    r"```jsx\n(.*?)```", (ROOT / "docs" / "asking.md").read_text("utf-8"), re.DOTALL
)[1]
PAGE = """
import { createRoot } from "react-dom/client";
createRoot(document.getElementById("root")).render(<Approving id={location.hash} />);
"""
CALL = {"next_thought": "I write.", "next_tool_name": "send_mail", "next_tool_args": {"to": "ada"}}
DONE = {"next_thought": "Done.", "next_tool_name": "finish", "next_tool_args": {}}


def bundle(folder):
    """The page's script, as an application builds it."""
    place = packages(REACT, "npm-react")
    source = folder / "page.jsx"
    source.write_text(COMPONENT + PAGE, "utf-8")
    command = [place / "node_modules" / ".bin" / "esbuild", source, "--bundle"]
    command += ["--jsx=automatic", "--format=esm", '--define:process.env.NODE_ENV="test"']
    paths = {"NODE_PATH": str(place / "node_modules"), "PATH": "/usr/bin:/bin:/usr/local/bin"}
    done = subprocess.run(command, env=paths, capture_output=True, check=False)
    assert done.returncode == 0, done.stderr.decode()
    return done.stdout


def test_a_person_allows_a_call_and_refuses_one(practice, lm, serve, log, tmp_path):
    agent = dspy.ReAct("question -> answer", tools=[streamll.approve(send_mail)])
    app, script, errors = FastAPI(), bundle(tmp_path), []
    html = '<div id="root"></div><script type="module" src="/page.js"></script>'
    app.get("/page.js")(lambda: Response(script, media_type="text/javascript"))
    app.get("/page")(lambda: HTMLResponse(html))
    streamll.configure(include=["tools"])
    app.mount("/", create_app(agent, log=log, ai_version=6))
    url = serve(app).url
    try:
        with launched() as browser, browser.page() as page:
            page.on("pageerror", lambda error: errors.append(str(error)))
            for button, shown, said in (
                ("Allow", "sent to ada", "I wrote to her."),
                ("Refuse", "refused", "I did not write to her."),
            ):
                practice.script(CALL, DONE, {"reasoning": "r", "answer": said})
                page.goto(f"{url}/page?{button}#{button}")
                page.get_by_role("button", name="Write to Ada").click()
                page.get_by_text('send_mail: {"to":"ada"}').wait_for()
                assert page.get_by_text(said).count() == 0
                page.get_by_role("button", name=button).click()
                page.get_by_text(said).wait_for()
                page.get_by_text(shown).wait_for()
                assert page.get_by_role("alert").count() == 0
    finally:
        streamll.configure(include=[])
    assert errors == []
