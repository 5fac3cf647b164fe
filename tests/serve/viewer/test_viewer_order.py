"""Answers that come late, or in another order than they were asked for: what the page makes of them."""

from __future__ import annotations

import dspy
import pytest
from msgspec.structs import replace
from viewer.conftest import shown_text, wait_text, wait_until

from serve.runs import OTHER, ROOT, Scribe
from streamll.brokers.opening import open_sink
from streamll.core import events as ev
from streamll.serve.report import report_html

QA = "question -> answer"
SLOW = """
const ask = window.fetch;
Object.assign(window, { asked: [], held: [], holds: "%s", later: 0 }); // `later`: what the clock shows, in ms
performance.now = () => later;
window.fetch = async (path, options = {}) => {
  if (!options.method) asked.push(path);
  const answer = await ask(path, options);
  if (path === holds && !options.method) await new Promise((pass) => held.push(pass));
  return answer;
};
"""
"""A slow network: the server's answer for the path ``holds`` is kept until its turn in ``held``. The page's
clock stands: however long a busy machine takes for a test, the page does not run out of patience.
"""


@pytest.fixture
def slow_page(open_page):
    def open_(url, holds="none"):
        page = open_page(None, locale="en")  # one of its own: the script stays in it
        page.add_init_script(SLOW % holds)
        page.goto(url)
        return page

    return open_


@pytest.fixture
def served(site, tmp_path):
    """The address of a server whose log has the runs ``aaa…`` and ``bbb…``."""
    server = site(dspy.Predict(QA))
    sink = open_sink(f"sqlite:///{tmp_path}/log0.db")
    for at, name in enumerate("ab"):
        scribe = Scribe().add(ev.RunStart, ROOT, program="QA").text("answer", f"said by {name}")
        for event in scribe.add(ev.RunEnd, ROOT).events:
            identity = replace(event.identity, run_id=name * 32)
            sink.put(replace(event, identity=identity, timestamp=event.timestamp + 100 * at))
    assert sink.stop(60)
    with server.client() as client:
        wait_until(lambda: len(client.get("/runs").json()["runs"]) == 2)
    return server.url


def pause(page, milliseconds):
    page.evaluate("(ms) => new Promise((done) => setTimeout(done, ms))", milliseconds)


def looks(page):
    return page.evaluate("asked.filter((path) => path === 'runs').length")


def test_a_list_that_was_asked_for_earlier_does_not_take_the_place_of_a_later_one(
    served, slow_page, practice
):
    practice.script({"answer": "third"})
    page = slow_page(served)
    page.wait_for_function("() => document.querySelectorAll('#runs li').length === 2")
    page.evaluate("holds = 'runs'")
    page.wait_for_function("() => held.length === 1")
    page.fill("#form textarea", "?")
    page.keyboard.press("Control+Enter")
    page.wait_for_function("() => held.length === 2")
    page.evaluate("held[1]()")
    page.wait_for_function("() => document.querySelectorAll('#runs li').length === 3")
    page.evaluate("held[0]()")
    pause(page, 50)
    assert page.locator("#runs li").count() == 3


def test_a_server_that_does_not_answer_is_asked_again_when_enough_was_waited(served, slow_page):
    page = slow_page(served, holds="runs")
    page.wait_for_function("() => held.length === 1")
    pause(page, 3200)  # longer than two looks at the list
    assert looks(page) == 1
    page.evaluate("later = 8000")
    page.wait_for_function("() => held.length === 2")
    page.evaluate("held[1]()")
    page.wait_for_function("() => document.querySelectorAll('#runs li').length === 2")


def test_while_a_token_is_asked_for_nothing_else_is(site, slow_page):
    page = slow_page(site(dspy.Predict(QA), tokens=["a-token-of-the-server"]).url)
    page.wait_for_selector("#ask-token[open]")
    page.evaluate("later = 3600_000")
    pause(page, 1800)  # longer than a look at the list
    assert looks(page) == 1


def test_the_run_of_the_address_does_not_take_the_place_of_one_that_was_chosen(served, slow_page):
    page = slow_page(f"{served}/#run={'a' * 32}", holds="programs")
    page.wait_for_function("() => held.length === 1")
    page.click("#runs button >> nth=0")
    wait_text(page, "answer", "said by b")
    page.evaluate("held[0]()")
    page.wait_for_selector("#form textarea")
    pause(page, 50)
    assert shown_text(page, "answer") == "said by b"


def test_tokens_that_were_merged_past_events_of_another_call_hide_none_of_them(tmp_path, open_page):
    """As a backlog makes them: between the parts of the first call's token came events of the second."""
    scribe = Scribe().add(ev.RunStart, ROOT, program="QA").text("answer", "one two", end=False)
    scribe.text("verdict", "yes", identity=OTHER).add(ev.FieldEnd, field="answer", length=7)
    events = scribe.add(ev.RunEnd, ROOT).events
    events[2] = replace(events[2], count=4)
    path = tmp_path / "report.html"
    path.write_text(report_html(events), "utf-8")
    page = open_page(path.as_uri())
    wait_text(page, "verdict", "yes")
    read = page.evaluate("streamll.page.player().events.map((event) => event.seq)")
    assert read == [event.seq for event in events]
