"""``@streamll/react`` with React 18 and 19, in StrictMode, in Node and in Chromium, on a real server."""

from __future__ import annotations

import subprocess
from pathlib import Path

import build_clients
import dspy
import httpx
import pytest
from chromium import launched
from fastapi import FastAPI
from fastapi.responses import HTMLResponse, Response

import streamll
from serve.npm import packages
from serve.serving import Server, wait_until
from streamll.serve import create_app
from streamll.testing import Fault, Reply

CASES = Path(__file__).parent / "react_cases.jsx"
REACT = {"18": "18.3.1", "19": "19.3.1"}
PIECES = [f"{number}\N{PARTY POPPER} " for number in range(40)]
ANSWER = "".join(PIECES) + "end"
CHUNKS = [
    "[[ ## score ## ]]\n7\n\n[[ ## answer ## ]]\n",
    *PIECES,
    "end\n\n[[ ## completed ## ]]",
]


def bundle(react: Path, *options: str) -> str:
    """The cases with this React, whose own warnings are on."""
    names = "react", "react-dom"
    aliases = {name: react / "node_modules" / name for name in names}
    for name in ("client", "react"):
        aliases[f"@streamll/{name}"] = build_clients.CLIENTS / name / "src" / "index.ts"
    command = [
        build_clients.tools() / "esbuild",
        CASES,
        "--bundle",
        "--format=esm",
        "--jsx=automatic",
    ]
    command += ['--define:process.env.NODE_ENV="development"', *options]
    command += [f"--alias:{name}={place}" for name, place in aliases.items()]
    done = subprocess.run(command, capture_output=True, encoding="utf-8", check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.fixture(scope="module")
def browser():
    with launched() as browser:
        yield browser


@pytest.fixture(scope="module", params=REACT)
def page_of_cases(request):
    """The page's HTML, as React writes it in Node, and its script."""
    version = REACT[request.param]
    react = packages({"react": version, "react-dom": version}, f"npm-react-{request.param}")
    script = bundle(react)
    drawing = f"{script}\nprocess.stdout.write(html(), () => process.exit());"
    drawn = subprocess.run(
        ["node", "--input-type=module"],
        input=drawing,
        capture_output=True,
        encoding="utf-8",
        check=False,
    )
    assert drawn.returncode == 0, drawn.stderr
    html = drawn.stdout
    head = '<!doctype html><meta charset="utf-8"><link rel="icon" href="data:,"><script type="module" src="cases.js"></script>'
    return f'{head}<div id="root">{html}</div>', script


class Asks(dspy.Module):
    async def aforward(self):
        return dspy.Prediction(answer=await streamll.ask_async("Sure?", schema=bool))


@pytest.fixture
def site(page_of_cases, practice, tmp_path):
    """The server of the page and of the program ``QA``; it counts its readers."""
    html, script = page_of_cases
    dspy.configure(lm=practice.lm(), adapter=dspy.ChatAdapter())
    app, log = FastAPI(), f"sqlite:///{tmp_path}/log.db"
    served = {"QA": dspy.Predict("question -> score: int, answer"), "Asks": Asks()}
    programs = create_app(served, log=log)
    app.mount("/llm", programs)
    app.get("/cases.js")(lambda: Response(script, media_type="text/javascript"))
    app.get("/")(lambda: HTMLResponse(html))
    server = Server(app)
    server.service = programs.service
    yield server
    practice.release()
    server.stop()


@pytest.fixture
def page(site, browser):
    said = []
    with browser.page() as page:
        page.on("pageerror", lambda error: said.append(str(error)))
        page.on(
            "console",
            lambda message: (
                said.append(message.text) if message.type in ("error", "warning") else None
            ),
        )
        page.goto(site.url)
        page.wait_for_function("globalThis.run")
        yield page
        assert [each for each in said if "400 (Bad Request)" not in each] == []
        assert page.evaluate("errors") == []


def ask(page, question="?"):
    page.evaluate(
        "(question) => { globalThis.before = run.run; run.start({ question }); }", question
    )
    page.wait_for_function("run.run !== before")


def wait_text(page, selector, text):
    page.wait_for_function(
        "([selector, text]) => document.querySelector(selector)?.textContent.includes(text)",
        arg=[selector, text],
    )


def readers(site, number):
    wait_until(lambda: len(site.service.readers) == number, what=f"{number} readers")


# --- the page is drawn on a server --------------------------------------------------------------------


def test_what_a_server_has_drawn_is_taken_over(page_of_cases, page):
    assert 'data-status="idle"' in page_of_cases[0]
    assert page.locator(".streamll-run").get_attribute("data-status") == "idle"


# --- useRun and useField ------------------------------------------------------------------------------


def test_a_field_that_grows_renders_its_own_component_alone(practice, page):
    practice.script(Reply(chunks=CHUNKS, hold_after=(10, 20)))
    ask(page)
    wait_text(page, "#answer", PIECES[7])
    before = page.evaluate("({ ...counts })")
    practice.release()
    wait_text(page, "#answer", PIECES[17])
    after = page.evaluate("({ ...counts })")
    assert after.pop("answer") > before.pop("answer")
    assert after == before
    practice.release()
    page.locator("#answer[data-done]").wait_for()
    wait_text(page, ".streamll-status", "Done")
    assert page.locator("#answer").text_content() == ANSWER
    heard = page.evaluate("heard")
    assert heard[0] == 0
    assert heard == sorted(set(heard))


def test_an_error_of_a_listener_is_the_pages_and_the_run_is_heard_to_its_end(practice, page):
    practice.script({"answer": "one", "score": 1})
    page.evaluate("""() => {
        globalThis.raises = "field.start";
        globalThis.raised = [];
        addEventListener("error", (event) => { raised.push(event.message); event.preventDefault(); });
    }""")
    ask(page)
    wait_text(page, ".streamll-status", "Done")
    page.wait_for_function("heard.length === 1 + run.run.position.split(':')[1] * 1")
    assert set(page.evaluate("raised")) == {"Uncaught Error: the page's own, at field.start"}


def test_a_page_without_components_reads_nothing_and_one_that_comes_back_reads_on(
    practice, site, page
):
    practice.script(Reply(chunks=CHUNKS, hold_after=(10, 20)))
    ask(page)
    wait_text(page, "#answer", PIECES[7])
    readers(site, 1)
    page.evaluate("leave()")
    readers(site, 0)
    practice.release()
    page.evaluate("again(run.run)")
    wait_text(page, "[data-field=answer] dd", PIECES[17])
    readers(site, 1)
    practice.release()
    wait_text(page, ".streamll-status", "Done")
    assert page.locator("dd.streamll-value").all_text_contents() == ["7", ANSWER]
    readers(site, 0)
    assert site.service.readers_seen == 2


def test_another_start_stops_the_first_run(practice, site, page):
    practice.script(Reply(chunks=CHUNKS, hold_after=10), {"answer": "second", "score": 2})
    ask(page)
    wait_text(page, "#answer", PIECES[7])
    first = page.evaluate("run.id")
    ask(page)
    wait_text(page, "#answer", "second")
    with site.client() as client:
        wait_until(lambda: client.get(f"/llm/runs/{first}").json()["status"] == "cancelled")


def test_a_joined_run_is_shown_from_its_beginning_and_not_stopped_by_a_start(practice, site, page):
    practice.script(Reply(chunks=CHUNKS, hold_after=10), {"answer": "second", "score": 2})
    with site.client() as client:
        run_id = client.post(
            "/llm/runs", json={"program": "QA", "inputs": {"question": "?"}}
        ).json()["run_id"]
        page.evaluate("(runId) => { run.join({ runId }); }", run_id)
        wait_text(page, "#answer", PIECES[7])
        assert "nothing to start again" in page.evaluate(
            "(() => { try { run.restart(); } catch (error) { return error.message; } })()"
        )
        ask(page)
        wait_text(page, "#answer", "second")
        practice.release()
        wait_until(lambda: client.get(f"/llm/runs/{run_id}").json()["status"] == "ended")


def test_a_run_that_was_started_here_and_is_joined_goes_on_and_is_stopped_by_a_start(
    practice, site, page
):
    """A page goes to the address of the run it has started, and joins it there."""
    practice.script(Reply(chunks=CHUNKS, hold_after=(10, 20)), {"answer": "second", "score": 2})
    ask(page)
    wait_text(page, "#answer", PIECES[7])
    run_id = page.evaluate("run.id")
    page.evaluate("(runId) => { run.join({ runId, token: run.run.token }); }", run_id)
    practice.release()
    wait_text(page, "#answer", PIECES[17])
    with site.client() as client:
        assert client.get(f"/llm/runs/{run_id}").json()["status"] == "running"
        ask(page)
        wait_text(page, "#answer", "second")
        wait_until(lambda: client.get(f"/llm/runs/{run_id}").json()["status"] == "cancelled")


def test_a_run_that_was_forgotten_goes_on(practice, site, page):
    practice.script(Reply(chunks=CHUNKS, hold_after=10), {"answer": "second", "score": 2})
    ask(page)
    wait_text(page, "#answer", PIECES[7])
    run_id = page.evaluate("run.id")
    page.evaluate("run.reset()")
    ask(page)
    wait_text(page, "#answer", "second")
    practice.release()
    with site.client() as client:
        wait_until(lambda: client.get(f"/llm/runs/{run_id}").json()["status"] != "running")
        assert client.get(f"/llm/runs/{run_id}").json()["status"] == "ended"


TOKENS = """async ([token, own]) => {
  const sent = [];
  const fetch = async (url, { headers }) => {
    sent.push(headers.authorization);
    return new Response(null, { status: headers.authorization === "Bearer good" ? 404 : 401 });
  };
  hook.options = { token: token === null ? undefined : token === "asked" ? (refused) => `good${refused ? "" : " once"}` : token, fetch };
  hook.render();
  const run = hook.run.join({ runId: "r", token: own ?? undefined });
  await run.result().catch(() => {});
  return sent;
}"""


@pytest.mark.parametrize(
    ("token", "own", "sent"),
    [
        (None, "good", ["good"]),
        ("other", "good", ["good"]),
        ("good", None, ["good"]),
        ("good", "old", ["old", "good"]),
        ("asked", "old", ["old", "good"]),
        ("asked", None, ["good once", "good"]),
    ],
)
def test_a_run_is_joined_with_its_own_token_and_with_the_hooks_if_that_is_old(
    page, token, own, sent
):
    page.evaluate("leave()")
    page.evaluate("tokens()")
    page.wait_for_function("globalThis.hook")
    assert page.evaluate(TOKENS, [token, own]) == [f"Bearer {each}" for each in sent]


def test_twenty_runs_at_once_each_show_their_own(practice, site, page):
    """Half of them over WebSockets."""
    said = [f"number {number} has its own words" for number in range(20)]
    practice.respond(
        lambda request: Reply(
            {"score": 1, "answer": f"{request.inputs['question']} has its own words"}
        )
    )
    page.evaluate("leave()")
    page.evaluate("many(20)")
    page.wait_for_function("document.querySelectorAll('li[data-status=ended]').length === 20")
    assert page.locator("li").all_text_contents() == said
    readers(site, 0)
    assert site.service.readers_seen == 20


# --- Run ----------------------------------------------------------------------------------------------


WATCH = """() => {
  globalThis.blocks = [...document.querySelectorAll(".streamll-block")];
  globalThis.touched = 0;
  const watcher = new MutationObserver((seen) => { touched += seen.length; });
  for (const block of blocks) watcher.observe(block, { characterData: true, childList: true, subtree: true });
  return blocks.length;
}"""


def test_of_a_long_text_only_the_last_block_changes(practice, page):
    """A browser lays out all of a block anew: 100,000 emoji in one would take it seconds for each picture."""
    text = "🎉🎉🎉 line\n" * 700 + "🎉 " * 4000 + "-" + "🎉" * 5000 + "end"
    pieces = [text[at : at + 500] for at in range(0, len(text), 500)]
    chunks = ["[[ ## score ## ]]\n7\n\n[[ ## answer ## ]]\n", *pieces, "\n\n[[ ## completed ## ]]"]
    practice.script(Reply(chunks=chunks, hold_after=len(pieces) - 8))
    ask(page)
    page.wait_for_function("document.querySelectorAll('.streamll-block').length >= 5")
    before = page.evaluate(WATCH)
    practice.requests[0].wait_held()
    practice.release()
    wait_text(page, ".streamll-status", "Done")
    assert page.locator("[data-field=answer] dd").text_content() == text
    sizes = page.evaluate(
        "[...document.querySelectorAll('.streamll-block')].map((b) => b.textContent.length)"
    )
    assert len(sizes) > before
    assert max(sizes) <= 6001
    assert page.evaluate("[touched, blocks.every((block) => block.isConnected)]") == [0, True]


def test_the_component_says_what_is_going_on(practice, page):
    practice.script(Reply(chunks=CHUNKS, hold_after=10), {"answer": "second", "score": 2})
    ask(page)
    wait_text(page, ".streamll-status", "Writing…")
    wait_text(page, "#answer", PIECES[7])  # from here on nothing moves the button
    assert page.locator("dl[aria-live=polite]").get_attribute("aria-busy") == "true"
    page.get_by_role("button", name="Stop").click()
    wait_text(page, "[role=status]", "Ended by you")
    assert page.get_by_role("alert").count() == 0
    page.evaluate("run.restart() && undefined")
    wait_text(page, ".streamll-status", "Done")
    assert page.locator("dl[aria-live=polite]").get_attribute("aria-busy") == "false"
    shown = page.locator(".streamll-field.mine[data-done] > *").all_text_contents()
    assert shown == ["Points", "2", "answer", "second"]


def test_a_question_is_shown_while_it_waits(site, page):
    asked = {"json": {"program": "Asks"}, "trust_env": False, "timeout": 60}
    run_id = httpx.post(f"{site.url}/llm/runs", **asked).json()["run_id"]
    page.evaluate("(runId) => { run.join({ base: 'llm/', runId }); }", run_id)
    wait_text(page, ".streamll-status", "Waits for an answer")
    page.wait_for_function("run.questions.length === 1")
    page.locator(".streamll-questions").get_by_role("button", name="Sure? (1)").click()
    wait_text(page, ".streamll-status", "Done")
    assert page.locator(".streamll-questions").count() == 0


def test_the_component_says_what_went_wrong(practice, page):
    page.evaluate("run.start({ quest: 1 }) && undefined")
    page.get_by_role("alert").wait_for()
    assert "quest" in page.get_by_role("alert").text_content()
    wait_text(page, ".streamll-status", "Cannot be read on")
    practice.script(Fault(status=400))
    ask(page)
    wait_text(page, ".streamll-status", "Failed")
    page.evaluate("run.reset()")
    wait_text(page, ".streamll-status", "")
    page.wait_for_function("document.querySelectorAll('[role=alert]').length === 0")
