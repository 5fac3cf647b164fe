"""The example page with ``@streamll/client``: as text and a list grow, cut, reloaded, stopped.

In Chromium, and in Firefox.
"""

from __future__ import annotations

import importlib.util
import sys
from pathlib import Path

import build_clients
import dspy
import pytest
from chromium import launched

from serve.serving import Server
from serve.viewer.line import Line
from streamll.testing import Reply

EXAMPLES = Path(__file__).parents[2] / "examples"
WORDS = "<img src=x onerror=alert(1)> " + " ".join(f"wörd{number}🎉" for number in range(120))
NEXT = ["And the sunset?", "<script>alert(2)</script>"]
REPLY = {"answer": WORDS, "next_questions": str(NEXT).replace("'", '"')}


TWENTY = """async () => {
  const { startRun } = await import("/client.js");
  const runs = Array.from({ length: 20 }, (_, n) =>
    startRun("llm", { inputs: { question: `number ${n}` }, transport: n % 2 ? "websocket" : "sse" }));
  return Promise.all(runs.map(async (run) => [(await run.result()).values.answer, run.value("next_questions")]));
}"""


@pytest.fixture
def line(practice, tmp_path, monkeypatch):
    """The page behind a line that can be cut."""
    monkeypatch.syspath_prepend(str(EXAMPLES))
    spec = importlib.util.spec_from_file_location("client_page", EXAMPLES / "client_page.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    client = build_clients.bundle(build_clients.CLIENTS / "client", tmp_path)
    dspy.configure(lm=practice.lm(), adapter=dspy.ChatAdapter())
    server = Server(module.make_app(f"sqlite:///{tmp_path}/log.db", client))
    line = Line(server.port)
    yield line
    practice.release()
    line.close()
    server.stop()
    for name in ("_model", "fastapi_app"):
        sys.modules.pop(name, None)


def wait(page, text, box="#answer"):
    page.wait_for_function(
        "([box, text]) => document.querySelector(box).textContent.includes(text)",
        arg=[box, text],
        timeout=60_000,
    )


def shown(page):
    items = page.locator("#next li").all_text_contents()
    return page.text_content("#answer"), items


def test_a_page_shows_a_run_through_cuts_and_reloads_and_stops_one(line, practice):
    practice.script(*[Reply(REPLY, hold_after=60)] * 2)
    problems = []
    with launched() as browser, browser.page() as page:
        page.on("pageerror", lambda error: problems.append(str(error)))
        page.on("dialog", lambda dialog: (problems.append(dialog.message), dialog.dismiss()))
        page.goto(line.url)
        page.click("button")
        wait(page, "wörd3🎉")
        line.cut()
        wait(page, "connecting again…", "#status")
        line.join()
        wait(page, "running", "#status")
        page.reload()
        wait(page, "wörd3🎉")
        practice.release()
        wait(page, "ended", "#status")
        assert shown(page) == (WORDS, NEXT)
        page.click("button")
        wait(page, "running", "#status")
        wait(page, "wörd3🎉")
        page.click("#stop")
        wait(page, "cancelled", "#status")
        assert page.is_disabled("#stop")
        assert len(practice.requests) == 2
        practice.respond(
            lambda request: {"answer": request.inputs["question"], "next_questions": '["🎉"]'}
        )
        assert page.evaluate(TWENTY) == [[f"number {number}", ["🎉"]] for number in range(20)]
    assert problems == []


def test_firefox_shows_a_run_through_cuts_and_stops_one(line, practice, firefox):
    practice.script(*[Reply(REPLY, hold_after=60)] * 2)
    page = firefox(line.url)
    page.click("button")
    page.wait_text("#answer", "wörd3🎉")
    line.cut()
    page.wait_text("#status", "connecting again…")
    line.join()
    page.wait_text("#status", "running")
    practice.requests[0].wait_held()
    practice.release()
    page.wait_text("#status", "ended")
    assert page.texts("#answer, #next li") == [WORDS, *NEXT]
    page.click("button")
    page.wait_text("#status", "running")
    page.wait_text("#answer", "wörd3🎉")
    page.click("#stop")
    page.wait_text("#status", "cancelled")
    assert page.evaluate("() => document.querySelector('#stop').disabled")
    practice.requests[1].wait_closed(timeout=60)


SOCKET = """async () => {
  const { startRun } = await import("/client.js");
  globalThis.socketRun = startRun("llm", { inputs: { question: "?" }, transport: "websocket" });
  socketRun.subscribe(() => {});
}"""


def test_firefox_reads_on_over_a_websocket_and_twenty_runs_at_once(line, practice, firefox):
    practice.script(Reply(REPLY, hold_after=60))
    page = firefox(line.url)
    page.evaluate(SOCKET)
    page.wait("() => socketRun.text('answer').includes('wörd3🎉')")
    line.cut()
    page.wait("() => socketRun.snapshot().connection.state === 'waiting'")
    line.join()
    practice.requests[0].wait_held()
    practice.release()
    page.wait("() => socketRun.status === 'ended'")
    assert page.evaluate("() => [socketRun.text('answer'), socketRun.value('next_questions')]") == [
        WORDS,
        NEXT,
    ]
    practice.respond(
        lambda request: {"answer": request.inputs["question"], "next_questions": '["🎉"]'}
    )
    assert page.evaluate(TWENTY) == [[f"number {number}", ["🎉"]] for number in range(20)]
