"""A real browser, a real server, and the page between them."""

from __future__ import annotations

import contextlib

import dspy
import pytest
from chromium import launched

from serve.serving import Server, wait_until
from streamll.serve import create_app

MEDIA = {"color_scheme", "reduced_motion"}


@pytest.fixture(scope="module")
def browser():
    with launched() as browser:
        yield browser


@pytest.fixture
def open_page(browser):
    """``open_page(url, **context)``: a page of its own; an error in its scripts fails the test."""
    errors = []

    def heard(message):
        refused = "Failed to load resource" in message.text and "/runs" in message.location["url"]
        asked = "status of 401" in message.text
        framed = "Blocked autofocusing" in message.text  # of a dialog that is not open
        if message.type == "error" and not (
            refused or asked or framed
        ):  # which the page deals with
            errors.append(message.text)

    def open_(url, **options):
        media = {name: options.pop(name) for name in MEDIA & options.keys()}
        files = (url or "").startswith("file:")
        page = pages.enter_context(browser.page(files=files, media=media, **options))
        page.on("pageerror", lambda error: errors.append(str(error)))
        page.on("dialog", lambda dialog: errors.append(f"dialog: {dialog.message}"))
        page.on("console", heard)
        if url:
            page.goto(url)
        return page

    with contextlib.ExitStack() as pages:
        yield open_
    assert errors == []


@pytest.fixture
def site(practice, tmp_path):
    """``site(program, …)``: the programs on a server of their own; its address."""
    servers = []
    dspy.configure(lm=practice.lm(), adapter=dspy.ChatAdapter())

    def start(programs, **options):
        log = f"sqlite:///{tmp_path}/log{len(servers)}.db"
        servers.append(Server(create_app(programs, log=log, **options)))
        return servers[-1]

    yield start
    practice.release()
    for server in servers:
        server.stop()


def shown_text(page, field, last=True):
    """What the page shows of a field."""
    texts = page.locator(f'.field[data-field="{field}"] .text')
    return (texts.last if last else texts.first).text_content() if texts.count() else ""


def wait_text(page, field, text):
    page.wait_for_function(
        """([field, text]) => [...document.querySelectorAll(
            `.field[data-field="${field}"] .text`)].some((box) => box.textContent.includes(text))""",
        arg=[field, text],
    )


def hear_said(page):
    """Keep what the page says in passing: it takes that back before a late test looks."""
    page.evaluate(
        """() => { window.heardSaid = []; const said = document.querySelector("#said");
        new MutationObserver(() => heardSaid.push(said.textContent))
            .observe(said, { childList: true }); }"""
    )


def wait_said(page, text):
    page.wait_for_function("(text) => heardSaid.some((said) => said.startsWith(text))", arg=text)


def wait_read(page):
    """Until the run that was chosen is read to its end and drawn. Until its first picture the page
    shows the one before, and that one's state.
    """
    page.wait_for_function("() => streamll.page.player()?.over")
    page.evaluate("new Promise((done) => requestAnimationFrame(() => requestAnimationFrame(done)))")


__all__ = ["hear_said", "shown_text", "wait_read", "wait_said", "wait_text", "wait_until"]
