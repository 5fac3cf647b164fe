"""X12: runs as a whole in the page: told apart, found, linked to, run again, taken along, compared."""

from __future__ import annotations

import json
import re
from typing import Literal

import dspy
import pytest
from msgspec.structs import replace
from profiles import THOROUGH
from viewer.conftest import hear_said, shown_text, wait_read, wait_said, wait_text, wait_until

import streamll
from serve.runs import CALL, ROOT, Scribe
from streamll.brokers.opening import open_sink
from streamll.core import events as ev
from streamll.serve.report import report_html
from streamll.testing import Reply
from streamll.testing.record_file import recorded_events

QA = "question -> answer"
PHONE = {"viewport": {"width": 390, "height": 844}, "has_touch": True, "is_mobile": True}
WORDS = " ".join(f"word{number}" for number in range(40))
EVIL = "<img src=x onerror=alert(1)>\u202e[x](javascript:alert(1))"


def made(name, question=None, *words, context=None, at=0.0, program="QA"):
    """A run whose answer comes word by word, ten words a second."""
    inputs = None if question is None else {"question": question}
    scribe = Scribe(0.1).add(ev.RunStart, ROOT, program=program, inputs=inputs)
    scribe.add(ev.ModuleStart, CALL, name="predict")
    scribe.text("answer", *(f"{word} " for word in words), identity=CALL)
    scribe.add(ev.ModuleEnd, CALL, name="predict", duration=0.1 * len(words))
    scribe.add(ev.RunEnd, ROOT, duration=0.1 * len(scribe.events), lm_calls=1,
               completion_tokens=len(words))  # fmt: skip
    return [
        replace(each, identity=replace(each.identity, run_id=name), context=context or {}, timestamp=each.timestamp + at)
        for each in scribe.events
    ]  # fmt: skip


RUNS = [
    made("a" * 32, "How far is it?\nBy train.", "Thirty", "kilometres", "or", "so"),
    made("b" * 32, EVIL, "no", at=100),
    made("c" * 32, "Which hotels?", "Two", "of", "them", context={"conversation_id": "c-17", "user": "anna"}, at=200),
    made("d" * 32, None, "no", "inputs", at=300, program="Other"),
    made("e" * 32, "And gardens?", "Two", "with", "them", context={"conversation_id": "c-17", "user": "ben"}, at=400),
]  # fmt: skip


@pytest.fixture
def served(site, tmp_path):
    """A server whose log has ``RUNS``; its address."""
    server = site(dspy.Predict(QA))
    sink = open_sink(f"sqlite:///{tmp_path}/log0.db")
    for events in RUNS:
        for event in events:
            sink.put(event)
    assert sink.stop(60)
    with server.client() as client:
        wait_until(lambda: len(client.get("/runs").json()["runs"]) == len(RUNS))
    return server.url


def titles(page):
    return page.locator("#runs .asked").all_text_contents()


def wait_titles(page, *expected):
    page.wait_for_function(
        """(expected) => JSON.stringify([...document.querySelectorAll('#runs .asked')]
            .map((each) => each.textContent)) === JSON.stringify(expected)""",
        arg=list(expected),
    )


ALL = ("And gardens?", "Which hotels?", "", EVIL, "How far is it?")


def test_runs_are_told_apart_and_found_by_keyboard_on_a_server(served, open_page):
    page = open_page(served)
    wait_titles(page, *ALL)
    assert page.locator("#runs img, #runs a").count() == 0
    assert page.locator("#runs .conversation").all_text_contents() == ["c-172 runs"]
    page.keyboard.press("/")
    page.keyboard.type("TWO them")
    wait_titles(page, "And gardens?", "Which hotels?")
    assert page.text_content("#found") == "2 runs."
    page.focus("#filters summary")
    page.keyboard.press("Enter")
    page.fill("#by-context", "anna")
    page.wait_for_function("() => document.querySelector('#found').textContent.includes('key=')")
    page.fill("#by-context", "user=anna")
    wait_titles(page, "Which hotels?")
    assert page.text_content("#filtered") == " · 1"
    page.fill("#q", "nowhere")
    wait_titles(page)
    assert page.text_content("#found") == "No such run."
    page.focus("#clear")
    page.keyboard.press("Enter")
    wait_titles(page, *ALL)
    page.select_option("#by-program", "Other")
    wait_titles(page, "")
    page.select_option("#by-program", "")
    page.select_option("#by-status", "failed")
    wait_titles(page)
    page.select_option("#by-status", "")
    page.fill("#until", "2023-11-14T22:15")  # runs were made at 22:13:20 and each 100 s later
    page.evaluate("document.querySelector('#until').dispatchEvent(new Event('input'))")
    expected = page.evaluate(
        """(starts) => { const end = new Date('2023-11-14T22:15').getTime() / 1000 + 60;
            return starts.filter((start) => start < end).length; }""",
        [events[0].timestamp for events in RUNS],
    )
    page.wait_for_function(
        "(count) => document.querySelectorAll('#runs button').length === count", arg=expected
    )


def test_a_report_finds_and_compares_its_runs_without_a_server(tmp_path, open_page):
    path = tmp_path / "report.html"
    path.write_text(report_html([each for events in RUNS for each in events]), "utf-8")
    page = open_page(path.as_uri())
    page.wait_for_selector("#search:visible")
    page.fill("#q", "two WITH")
    wait_titles(page, "And gardens?")
    page.fill("#q", "train")
    wait_titles(page, "How far is it?")
    page.fill("#q", "")
    page.click("#filters summary")
    page.fill("#by-context", "user=anna")
    wait_titles(page, "Which hotels?")
    page.click("#clear")
    page.wait_for_function(  # else the list may still have but one, and none to compare with
        "(count) => document.querySelectorAll('#runs button').length === count", arg=len(RUNS)
    )
    page.click("#runs button >> nth=0")
    page.keyboard.press("c")
    page.keyboard.press("j")
    page.wait_for_selector("#compare:visible")
    with page.expect_download() as download:
        page.keyboard.press("Escape")
        page.click("#more summary")
        assert not page.is_visible("#save-report")
        page.click("#save-events")
    assert download.value.suggested_filename.endswith(".jsonl")


def test_a_link_leads_to_a_run_at_a_moment_and_back(served, open_page):
    page = open_page(None, permissions=["clipboard-read", "clipboard-write"])
    page.goto(f"{served}/#run={'a' * 32}&at=0.35")
    wait_text(page, "answer", "Thirty ")
    page.wait_for_function("() => document.querySelector('#moment').textContent.startsWith('350')")
    assert shown_text(page, "answer") == "Thirty "
    hear_said(page)
    page.keyboard.press("y")
    wait_said(page, "The link")
    link = page.evaluate("navigator.clipboard.readText()")
    assert link == f"{served}/#run={'a' * 32}&at=0.35"
    page.keyboard.press("l")
    wait_text(page, "answer", "or so ")
    page.wait_for_function("() => !location.hash.includes('at=')")
    page.keyboard.press("ArrowLeft")
    page.wait_for_function("() => location.hash.includes('at=')")
    page.keyboard.press("k")
    wait_text(page, "answer", "no ")
    page.keyboard.press("Escape")
    assert page.is_visible("#nothing")
    page.go_back()
    wait_text(page, "answer", "no ")
    page.go_back()
    wait_text(page, "answer", "Thirty")
    page.wait_for_function("() => document.querySelector('#live').ariaPressed === 'false'")
    page.go_forward()
    wait_text(page, "answer", "no ")
    page.click("#more summary")
    page.click("#copy-id")
    wait_said(page, "The run")
    assert page.evaluate("navigator.clipboard.readText()") == "b" * 32


def test_a_moment_that_has_not_come_is_waited_for(site, practice, open_page):
    practice.script(Reply({"answer": WORDS}, hold_after=20))
    server = site(dspy.Predict(QA))
    with server.client() as client:
        run = client.post("/runs", json={"inputs": {"question": "?"}}).json()["run_id"]
    page = open_page(f"{server.url}/#run={run}&at=100000")
    practice.wait_for_requests(1)[0].wait_held()
    wait_text(page, "answer", "word1 ")
    assert page.text_content("#live") == "Live"
    practice.release()
    wait_text(page, "answer", "word39")


def test_a_run_is_run_again_with_its_inputs(site, practice, open_page):
    """Also on a phone, where the form is on another page; and text that events have in part is told."""
    practice.respond(lambda request: {"answer": f"to {request.inputs['question']}"})
    server = site({"other": dspy.Predict("topic -> answer"), "qa": dspy.Predict(QA)})
    with streamll.configure(include=["inputs"], include_limit=20), server.client() as client:
        for question in ("one", "a question of more than twenty characters"):
            run = client.post("/runs", json={"program": "qa", "inputs": {"question": question}})
            client.get(run.json()["events"])
    page = open_page(server.url, **PHONE)
    page.wait_for_selector("#form select")  # which moves the list
    page.tap("#runs button >> nth=1")
    wait_read(page)  # until then there is a button to stop it, and "Run again" moves when that goes
    page.tap("#again")  # a browser makes a click of a tap a moment later
    page.wait_for_function("() => document.activeElement.name === 'question'")
    assert page.input_value("#form select") == "qa"
    assert page.input_value("[name=question]") == "one"
    page.fill("[name=question]", "one more")
    page.keyboard.press("Control+Enter")
    wait_text(page, "answer", "to one more")
    page.keyboard.press("r")  # this page has started it: its inputs are known
    assert page.input_value("[name=question]") == "one more"
    page.keyboard.press("Escape")
    page.locator("#runs button").nth(1).tap()
    wait_read(page)
    page.tap("#again")
    page.locator("[id='problem-question']", has_text="only the beginning").wait_for()


def test_every_kind_of_input_is_filled_in_again(site, practice, open_page):
    from viewer.test_viewer_form import Letter

    practice.respond(lambda _: {"letter": "Dear you"})
    server = site(dspy.Predict(Letter))
    given = {
        "to": {"street": "Am Hof", "number": 4, "town": "Köln"}, "back": None, "tags": ["a", "b"],
        "tone": "cold", "size": 1, "urgent": True, "hint": "5", "history": {"messages": [{"hint": "h"}]},
    }  # fmt: skip
    page = open_page(server.url)
    page.wait_for_selector("#form select[name=tone]")
    page.evaluate("(given) => streamll.page.form.fill('Predict', given)", given)
    sent = page.evaluate(
        "() => Promise.all(streamll.page.form.inputs.map((field) => field.value()))"
    )
    names = ["to", "back", "tags", "tone", "size", "urgent", "photo", "hint", "history"]
    filled = dict(zip(names, sent, strict=True))
    assert {name: filled[name] for name in given} == given
    page.evaluate("streamll.page.form.fill('Predict', {photo: '<image>', tone: 'odd', tags: 'x'})")
    told = page.locator("#form .problem:visible").all_text_contents()
    assert len(told) == 3
    assert all("Give this once more" in each for each in told)


class Gives(dspy.Module):
    """Keeps what it was given."""

    def __init__(self):
        super().__init__()
        self.given = []

    def forward(
        self,
        big: int,
        limit: int | None = 10,
        names: list[str] = ["a"],  # noqa: B006 - a default that a form shows
        flag: bool | None = True,
        prefix: str = "Dear",
        tone: Literal["warm", "cold"] | None = "warm",
        others: list[str] | None = None,
    ):
        self.given.append([big, limit, names, flag, prefix, tone, others])
        return dspy.Prediction(answer="done")


@pytest.mark.parametrize("empty", [True, False])
def test_what_was_given_empty_is_so_again_and_long_numbers_are_marked_and_sent_as_typed(
    site, open_page, empty
):
    program, big = Gives(), 2**60 + 1
    given = {
        "big": big, "limit": None, "names": [], "flag": None, "prefix": "", "tone": None, "others": None
    }  # fmt: skip
    server = site(program)
    with streamll.configure(include=["inputs"]), server.client() as client:
        run = client.post("/runs", json={"inputs": given if empty else {"big": big}}).json()
        client.get(run["events"])
    page = open_page(f"{server.url}/#run={run['run_id']}")
    wait_read(page)  # from then on nothing moves the button
    page.click("#again")
    assert "15 digits" in page.text_content("#problem-big")
    assert page.locator("#form .problem:visible").count() == 1
    page.fill("[name=big]", str(big + 1))
    page.click("#form button.primary")
    wait_until(lambda: len(program.given) == 2)
    first, second = program.given
    assert first == (
        list(given.values()) if empty else [big, 10, ["a"], True, "Dear", "warm", None]
    )
    assert second == [big + 1, *first[1:]]


def test_a_run_is_taken_along_as_events_and_as_a_report(served, open_page, tmp_path):
    page = open_page(f"{served}/#run={'c' * 32}")
    wait_text(page, "answer", "them")
    page.wait_for_selector("#status[data-status=ended]")  # all its events are there
    page.focus("#more summary")
    page.keyboard.press("Enter")
    with page.expect_download() as lines:
        page.click("#save-events")
    lines.value.save_as(tmp_path / "run.jsonl")
    assert list(recorded_events(tmp_path / "run.jsonl")) == RUNS[2]
    page.click("#more summary")
    with page.expect_download() as report:
        page.click("#save-report")
    report.value.save_as(tmp_path / "run.html")
    assert re.fullmatch(r"run-c{8}\.html", report.value.suggested_filename)
    page.goto((tmp_path / "run.html").as_uri())
    wait_text(page, "answer", "Two of them")
    assert json.loads(page.text_content("#events"))[0]["run_id"] == "c" * 32


SCREENS = {"phone": PHONE | {"color_scheme": "dark"}, **({"wide": {}} if THOROUGH else {})}


@pytest.mark.parametrize("screen", SCREENS)
def test_two_runs_are_compared_by_keyboard(served, open_page, screen):
    page = open_page(f"{served}/#run={'e' * 32}", **SCREENS[screen])
    wait_text(page, "answer", "them")
    page.keyboard.press("c")
    assert page.is_visible("#picking")
    page.keyboard.press("Escape")
    assert not page.is_visible("#picking")
    page.keyboard.press("c")
    page.keyboard.press("j")
    page.wait_for_function(  # both runs are there to their ends
        """() => [...document.querySelectorAll('#compared-facts tr')]
            .some((row) => row.textContent === 'Time800 ms800 ms')"""
    )
    assert page.locator("#compare mark").all_text_contents() == ["with ", "of "]
    heads = page.locator("#compared-heads th").all_text_contents()
    assert "And gardens?" in heads[1]
    assert "Which hotels?" in heads[2]
    facts = page.locator("#compared-facts tr").all_text_contents()
    assert "userbenanna" in facts
    assert page.evaluate("document.documentElement.scrollWidth <= innerWidth")
    assert page.evaluate("location.hash") == f"#run={'e' * 32}&with={'c' * 32}"
    page.reload()
    page.wait_for_function("() => document.querySelectorAll('#compare mark').length === 2")
    page.keyboard.press("j")  # the next one takes the second place
    page.wait_for_function(
        "() => document.querySelector('#compared-heads').textContent.includes('Other')"
    )
    page.keyboard.press("j")
    page.wait_for_function(
        "(evil) => document.querySelector('#compared-heads').textContent.includes(evil)", arg=EVIL
    )
    assert page.locator("#compare img, #compare a").count() == 0
    page.keyboard.press("Escape")
    wait_text(page, "answer", "with them")
    assert page.is_visible("#shown")
