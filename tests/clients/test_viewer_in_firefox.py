"""The viewer in Firefox: a form, a run as it is written, Markdown, search; by keyboard alone."""

from __future__ import annotations

import dspy
import pytest

from serve.serving import Server
from streamll.serve import create_app
from streamll.testing import Reply

TEXT = "**Bold** " + " ".join(f"word{number}" for number in range(120))
ANSWER = ".field[data-field=answer] .text"


@pytest.fixture
def server(practice, tmp_path, monkeypatch):
    # On a busy machine, too, a new run is in the list at once, and a search reads all texts.
    monkeypatch.setattr("streamll.serve.runner.LOGGED_S", 60.0)
    for name in ("SEARCH_S", "RUN_S"):
        monkeypatch.setattr(f"streamll.serve.log.search.{name}", 60.0)
    dspy.configure(lm=practice.lm(), adapter=dspy.ChatAdapter())
    program = dspy.Predict("question, limit: int -> answer")
    server = Server(create_app(program, log=f"sqlite:///{tmp_path}/log.db"))
    yield server
    practice.release()
    server.stop()


def ask(page, question):
    page.wait("() => document.querySelector('#form textarea[name=question]')")
    page.press("n")
    page.wait("() => document.activeElement.name === 'question'")
    page.press("Control+a", *question, "Tab", "3", "Control+Enter")


def test_firefox_asks_reads_and_finds_by_keyboard(server, practice, firefox):
    practice.script(Reply({"answer": TEXT}, hold_after=40), {"answer": "second"})
    page = firefox(server.url)
    ask(page, "one")
    page.wait_text(ANSWER, "word3")
    assert "word119" not in page.texts(ANSWER)[-1]
    [request] = practice.wait_for_requests(1)
    assert "3" in request.inputs["limit"]
    request.wait_held()
    request.release()
    page.wait_text("#status[data-status=ended]", "done")
    page.wait_text(f"{ANSWER}.md strong", "Bold")
    page.press("Escape", "m")
    page.wait_text(f"{ANSWER}:not(.md)", "**Bold** word0")
    assert page.texts(ANSWER)[-1] == TEXT
    ask(page, "two")
    page.wait_text(ANSWER, "second")
    page.wait_text("#status[data-status=ended]", "done")
    page.press("Escape", "/", *"WORD119")  # what has been written is looked through
    page.wait_text("#found", "1 run.")
    assert page.texts("#runs .asked") == ["one"]
    page.press("Escape", "Escape", "j")
    page.wait_text(ANSWER, "word119")
