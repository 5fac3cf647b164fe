"""X10, X12: the viewer when the line breaks, the server goes, or a token is no good any more."""

from __future__ import annotations

import dspy
import httpx
import pytest
from viewer.conftest import shown_text, wait_text
from viewer.line import Line

from serve.serving import Server
from streamll.serve import create_app
from streamll.testing import Reply

WORDS = " ".join(f"word{number}" for number in range(120))
FIRST, SECOND = "0123456789abcdef0123", "another-token-of-another-server"


@pytest.fixture
def servers(practice, tmp_path):
    """``servers(tokens)``: one more server of the same log."""
    started = []
    dspy.configure(lm=practice.lm(), adapter=dspy.ChatAdapter())

    def start(tokens=()):
        program = dspy.Predict("question -> answer")
        app = create_app(program, log=f"sqlite:///{tmp_path}/log.db", tokens=tokens)
        started.append(Server(app))
        return started[-1]

    yield start
    practice.release()
    for server in started:
        server.stop()


@pytest.fixture
def line():
    lines = []

    def lead(server):
        lines.append(Line(server.port))
        return lines[-1]

    yield lead
    for each in lines:
        each.close()


def start(server, token=None):
    answer = httpx.post(
        f"{server.url}/runs",
        json={"inputs": {"question": "?"}},
        headers={"authorization": f"Bearer {token}"} if token else {},
        trust_env=False,
        timeout=60,
    )
    assert answer.status_code == 202, answer.text
    return answer.json()


def held(practice, server, token=None):
    """A run that has said the first half, and waits."""
    practice.script(Reply({"answer": WORDS}, hold_after=60))
    run = start(server, token)
    practice.wait_for_requests(1)[0].wait_held()
    return run


def status(page, name):
    page.wait_for_selector(f"#status[data-status={name}]")


def give(page, token):
    page.wait_for_selector("#ask-token[open]")
    page.fill("#token", token)
    page.keyboard.press("Enter")


def ends_whole(page, practice):
    practice.release()
    status(page, "ended")
    assert shown_text(page, "answer") == WORDS


def test_a_broken_connection_is_shown_and_the_run_resumes_where_it_was(
    servers, practice, line, open_page
):
    server = servers()
    way = line(server)
    held(practice, server)
    page = open_page(way.url)
    wait_text(page, "answer", "word3")
    way.cut()
    status(page, "away")
    assert page.text_content("#connection") != ""
    stood = page.evaluate("document.querySelector('#stats dd').textContent")
    page.evaluate("new Promise((done) => setTimeout(done, 300))")
    assert page.evaluate("document.querySelector('#stats dd').textContent") == stood
    way.join()
    status(page, "running")
    page.wait_for_function("() => document.querySelector('#connection').textContent === ''")
    ends_whole(page, practice)


def test_a_server_that_was_exchanged_is_found_again(servers, practice, line, open_page):
    """A rolling restart: the reader goes to another process of the same log."""
    server = servers()
    way = line(server)
    held(practice, server)
    page = open_page(way.url)
    wait_text(page, "answer", "word3")
    way.cut()
    status(page, "away")
    way.join(servers().port)
    status(page, "running")
    ends_whole(page, practice)


def test_a_token_that_is_no_good_any_more_is_asked_for_and_the_run_goes_on(
    servers, practice, line, open_page
):
    server = servers(FIRST)
    way = line(server)
    held(practice, server, FIRST)
    page = open_page(f"{way.url}/#token={FIRST}")
    wait_text(page, "answer", "word3")
    way.cut()
    status(page, "away")
    way.join(servers(SECOND).port)
    page.wait_for_selector("#ask-token[open]")
    assert "does not accept" in page.text_content("#token-refused")
    give(page, SECOND)
    status(page, "running")
    ends_whole(page, practice)


def test_a_wrong_token_is_called_wrong_and_the_question_can_be_left(servers, open_page):
    page = open_page(servers(FIRST).url)
    page.wait_for_selector("#ask-token[open]")
    assert not page.is_visible("#token-refused")
    give(page, "a wrong one")
    page.wait_for_selector("#token-refused:not([hidden])")
    assert page.input_value("#token") == ""
    page.keyboard.press("Escape")
    page.wait_for_selector("#enter-token:not([hidden])")
    assert page.text_content("#connection") == "a token is needed"
    page.evaluate("new Promise((done) => setTimeout(done, 1800))")  # longer than a look at the list
    assert not page.is_visible("#ask-token")
    page.click("#enter-token")
    give(page, FIRST)
    page.wait_for_selector("#form textarea")
    assert page.text_content("#connection") == ""
    assert not page.is_visible("#enter-token")


def test_a_link_to_one_run_shows_that_run_and_asks_for_nothing(servers, practice, open_page):
    server = servers(FIRST)
    run = held(practice, server, FIRST)
    start(server, FIRST)
    page = open_page(f"{server.url}/#run={run['run_id']}&token={run['token']}")
    wait_text(page, "answer", "word3")
    assert run["token"] not in page.url
    assert not page.is_visible("#ask-token")
    assert not page.is_visible("#form")
    assert page.locator("#runs li").count() == 1
    ends_whole(page, practice)


def test_an_unknown_run_is_reported(servers, open_page):
    page = open_page(f"{servers().url}/#run=0123456789abcdef")
    page.wait_for_function(
        "() => document.querySelector('#connection').textContent === 'this run is not on the server'"
    )
