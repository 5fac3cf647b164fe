"""The page in 30 lines, in a real browser: tokens while they come, reload, stop; and the guarded one."""

from __future__ import annotations

import importlib.util
import sys
from pathlib import Path

import pytest
from chromium import launched

from streamll.testing import Reply

EXAMPLES = Path(__file__).parents[3] / "examples"
WORDS = " ".join(f"word{n}" for n in range(80))


@pytest.fixture(scope="module")
def browser():
    with launched() as browser:
        yield browser


@pytest.fixture
def page(browser):
    errors = []
    with browser.page() as page:
        page.on("pageerror", lambda error: errors.append(error))
        yield page
    assert errors == []


@pytest.fixture
def example(monkeypatch):
    """``example(name)``: an example as a module."""
    monkeypatch.syspath_prepend(str(EXAMPLES))

    def load(name):
        spec = importlib.util.spec_from_file_location(name, EXAMPLES / f"{name}.py")
        module = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(module)
        return module

    yield load
    for name in ("_model", "fastapi_app"):
        sys.modules.pop(name, None)


@pytest.fixture
def server(serve, lm, log, example):
    return serve(example("fastapi_app").make_app(log))


def answer_of(page):
    shown = page.locator("dt", has_text="answer").locator("xpath=following-sibling::dd[1]")
    return shown.text_content() if shown.count() else ""


def wait_for(page, text):
    page.wait_for_function("t => document.body.innerText.includes(t)", arg=text, timeout=60_000)


def test_it_is_thirty_lines():
    assert len((EXAMPLES / "plain_page.html").read_text("utf-8").splitlines()) <= 40


def test_tokens_appear_while_the_model_talks(page, server, practice):
    practice.script(Reply({"reasoning": "Because.", "answer": WORDS}, hold_after=40))
    page.goto(server.url)
    page.click("button")
    wait_for(page, "word3")
    assert practice.requests[0].finished_at is None
    practice.release()
    wait_for(page, "run.end")
    assert answer_of(page) == WORDS


def test_a_reload_in_mid_field_shows_no_gap_and_no_double(page, server, practice):
    """X10"""
    practice.pace = 0.02
    practice.script({"reasoning": "Because.", "answer": WORDS})
    page.goto(server.url)
    page.click("button")
    for word in ("word5", "word20", "word40"):
        wait_for(page, word)
        page.reload()
    wait_for(page, "run.end")
    assert answer_of(page) == WORDS
    assert len(practice.requests) == 1


def test_the_stop_button_closes_the_provider(page, server, practice):
    """X7"""
    # It does not end by itself before it is stopped.
    practice.script(Reply({"reasoning": "Because.", "answer": WORDS}, hold_after=40))
    page.goto(server.url)
    page.click("button")
    wait_for(page, "word3")
    page.click("#stop")
    practice.wait_for(lambda: practice.requests[0].client_closed_at is not None)
    wait_for(page, "run.cancelled")


def test_markup_in_an_answer_is_text(page, server, practice):
    practice.script(
        {"reasoning": "r", "answer": "<img src=x onerror=alert(1)><script>alert(2)</script>"}
    )
    dialogs = []
    page.on("dialog", lambda dialog: (dialogs.append(dialog.message), dialog.dismiss()))
    page.goto(server.url)
    page.click("button")
    wait_for(page, "run.end")
    assert answer_of(page).startswith("<img src=x")
    assert dialogs == []


def test_the_guarded_page_shows_what_leaves_beside_what_the_model_writes(
    page, serve, lm, practice, example
):
    guarded = example("guarded_page")
    practice.respond(lambda _: guarded.REPLY)
    page.goto(serve(guarded.make_app()).url)
    page.click("button")
    wait_for(page, "kept back: card_numbers, emails, project")
    page.wait_for_function("() => !document.querySelector('p.now')")
    written = guarded.REPLY.text["answer"]
    assert page.text_content("#open") == written
    masks = {"4111 1111 1111 1111": "card", "ada@example.org": "address", "Bluebird": "project"}
    for secret, mask in masks.items():
        written = written.replace(secret, mask)
    assert page.text_content("#guarded") == written
    assert page.locator("mark").all_text_contents() == [*masks.values()]
