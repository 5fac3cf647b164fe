"""X20: the inside of a run: what each step was given, what it cost, where its time went, what went wrong."""

from __future__ import annotations

import dspy
import pytest
from msgspec.structs import replace

import streamll
from serve.runs import CALL, ROOT, SECOND, TOOL, Scribe
from streamll.core import events as ev
from streamll.guards import Words
from streamll.serve.report import report_html
from streamll.testing import Fault, Reply

LM = ev.Identity(run_id="r1", path=("QA", "predict"), call_id="l1", parent_call_id="c1")


@pytest.fixture
def report(tmp_path, open_page):
    """``report(events)``: a report of these events, open in the browser."""

    def open_(events, **options):
        path = tmp_path / "report.html"
        path.write_text(report_html(events), "utf-8")
        page = open_page(path.as_uri(), **options)
        page.wait_for_selector("#status[data-status]:not(:empty)")
        return page

    return open_


def lookup(item: str) -> str:
    """What an item costs."""
    return "7.90, **today**"


def agent_run(practice):
    practice.script(
        Reply("[[ ## next_thought ## ]]\nHalf a thou", fault=Fault(error_after=8)),
        {"next_thought": "Look.", "next_tool_name": "lookup", "next_tool_args": {"item": "pen"}},
        {"next_thought": "Done.", "next_tool_name": "finish", "next_tool_args": {}},
        {"reasoning": "It says so.", "answer": "About eight."},
    )
    asked = ["inputs", "outputs", "prompts", "tools", "errors"]
    agent = dspy.ReAct("question -> answer", tools=[lookup])
    with (
        streamll.configure(include=asked),
        dspy.context(lm=practice.lm(cache=False), adapter=dspy.ChatAdapter()),
        streamll.stream(agent)(question="What does a pen cost, and why is it so dear?") as stream,
    ):
        return list(stream)


def opened(page, selector):
    """Open every ``<details>`` there, by the keyboard, and those in it."""
    while (box := page.locator(f"{selector}:not([open]) > summary")).count():
        box.first.focus()
        page.keyboard.press("Enter")
        page.wait_for_function(
            "(all) => [...document.querySelectorAll(all)].every((box) => box.children.length > 1)",
            arg=f"{selector}[open]",
        )


def test_no_text_of_a_run_is_there_three_times(practice, report):
    """Inputs, prompts and outputs are folded; what the call before was given is folded once more."""
    page = report(agent_run(practice))
    page.wait_for_selector("#status[data-status=ended]")
    system = "You are an Agent. In each episode"
    text = page.text_content("#output")
    assert system not in text
    assert text.count("What does a pen cost") == 1
    assert text.count("About eight.") == 1, "as a field, and not as an output of three calls"
    assert [*page.locator("summary").all_text_contents()].count("Outputs · trajectory") == 1
    told = page.locator(".prompt > summary").all_text_contents()
    assert [each.partition(" · ")[0] for each in told] == ["Prompt"] * 3
    assert "2 messages" in told[0]
    assert told[1].endswith("1 as before")
    assert "as before" not in told[2], "another predictor"
    opened(page, ".prompt")
    assert page.text_content("#output").count(system) == 1
    assert page.text_content("#output").count("## thought_0 ##") == 2, "of two predictors"
    opened(page, ".same")
    assert page.text_content("#output").count(system) == 2
    whole = [message.text_content() for message in page.locator(".message .text").all()]
    assert sum(len(each) for each in whole) > 6000


def test_what_guards_kept_back_stands_in_the_card_of_its_call_and_is_counted(practice, report):
    practice.script({"answer": "Ask Ada, or Bob, or Ada's sister.", "note": "A secret."})
    names = Words(["ada", "bob"], name="<names>", mask="▒▒▒")
    guards = [names, Words(["secret"], action="drop")]
    qa = dspy.Predict("question -> answer, note")
    with (
        streamll.configure(include=["inputs"]),
        dspy.context(lm=practice.lm(cache=False)),
        streamll.stream(qa, guards=guards)(question="Whom does Ada know?") as stream,
    ):
        page = report([*stream])
    page.wait_for_selector("#status[data-status=ended]")
    assert page.locator(".card > .guarded").all_text_contents() == [
        "masked: <names> ×4 · dropped: words"
    ]
    assert page.locator(".remark.guarded").all_text_contents() == ["masked: <names>"]
    assert "Kept back6" in page.text_content("#stats")
    shown = {
        name: page.text_content(f'.field[data-field="{name}"] .text') for name in ("answer", "note")
    }
    assert shown == {"answer": "Ask ▒▒▒, or ▒▒▒, or ▒▒▒'s sister.", "note": ""}


def test_attempts_can_be_seen_side_by_side_and_a_result_is_a_text(practice, report):
    page = report(agent_run(practice))
    page.wait_for_selector(".card details.superseded")
    page.focus(".side-by-side")
    page.keyboard.press("Enter")
    first, second = page.locator(".tries.besides > .attempt").all()
    assert first.text_content().endswith("Half a")
    assert "Look." in second.text_content()
    boxes = [first.bounding_box(), second.bounding_box()]
    assert boxes[0]["y"] == pytest.approx(boxes[1]["y"], abs=16)
    assert boxes[0]["x"] + boxes[0]["width"] <= boxes[1]["x"]
    page.keyboard.press("Enter")
    assert not page.is_visible("details.superseded .text")
    assert page.locator(".card.tool .md strong").text_content() == "today"


def timed(*steps):
    """A run of events at these seconds: ``(second, kind, identity, fields)``."""
    scribe = Scribe()
    for _, kind, identity, own in steps:
        scribe.add(kind, identity, **own)
    return [replace(e, timestamp=1.7e9 + at) for e, (at, *_) in zip(scribe.events, steps, strict=True)]  # fmt: skip


KEPT = ev.Identity(run_id="r1", path=("QA", "kept"), predictor="kept", call_id="c2")


def token(at, text, offset, identity=CALL):
    own = {"field": "answer", "token": text, "token_index": offset, "offset": offset}
    return (at, ev.TokenEvent, identity, own)


TIMED = timed(
    (0, ev.RunStart, ROOT, {"program": "QA"}),
    (0, ev.ModuleStart, CALL, {"name": "predict"}),
    (1, ev.LMStart, LM, {"model": "practice/one"}),
    (3, ev.FieldStart, CALL, {"field": "answer"}),
    token(3, "a", 0),
    token(3.2, "b", 1),
    (4, ev.LMSuperseded, CALL, {"reason": "ServerError"}),
    (4, ev.LMWaiting, CALL, {"reason": "retry", "delay": 1.0}),
    (6, ev.FieldStart, SECOND, {"field": "answer"}),
    *(token(6 + n / 10, "c", n, SECOND) for n in range(11)),
    *(token(8 + n / 10, "d", 11 + n, SECOND) for n in range(20)),
    (10, ev.FieldEnd, SECOND, {"field": "answer", "length": 31}),
    (
        10,
        ev.LMEnd,
        LM,
        {
            "model": "practice/one",
            "duration": 9.0,
            "prompt_tokens": 1200,
            "completion_tokens": 40,
            "cost": 0.0123,
            "time_to_first_token": 1.0,
            "finish_reason": "stop",
        },
    ),
    (10, ev.ModuleEnd, CALL, {"name": "predict", "duration": 10.0}),
    (11, ev.ToolStart, TOOL, {"name": "search"}),
    (11.5, ev.Question, TOOL, {"question_id": "q", "text": "Search?", "schema": {}}),
    (12.5, ev.Answer, TOOL, {"question_id": "q", "outcome": "answered", "value": True}),
    (13, ev.ToolEnd, TOOL, {"name": "search", "duration": 2.0}),
    # An answer from the cache, of which a typed field is told when the call is over.
    (13, ev.ModuleStart, KEPT, {"name": "kept"}),
    (13, ev.LMStart, replace(LM, call_id="l2", parent_call_id="c2"), {"model": "practice/one"}),
    (
        13,
        ev.LMEnd,
        replace(LM, call_id="l2", parent_call_id="c2"),
        {"model": "practice/one", "duration": 0.0, "cached": True},
    ),
    (13.5, ev.FieldPartial, KEPT, {"field": "plan", "value": ["a"], "state": "complete"}),
    (14, ev.ModuleEnd, KEPT, {"name": "kept", "duration": 1.0}),
    (14, ev.RunEnd, ROOT, {"duration": 14.0, "lm_calls": 1, "cost": 0.0123}),
)


def test_where_the_time_went_is_a_picture_of_the_run_and_of_each_step(report):
    page = report(TIMED, color_scheme="dark")
    page.wait_for_selector("#status[data-status=ended]")
    # Of 14 s: 1 before it asks; 2 until its first token; 0.2; silent until it waits, and a second; another
    # second until its first token; 1, a pause of 1, 2; 1 before the tool, 2 in it, of which 1 asks, 1 after it.
    assert page.locator(".shares li").all_text_contents() == [
        "model speaking3.20 s",
        "waiting for its first token3.00 s",
        "pauses between tokens1.00 s",
        "waiting to ask1.80 s",
        "waiting for an answer1.00 s",
        "tools1.00 s",
        "the program itself3.00 s",
    ]
    widths = page.locator(".shares .bar i").evaluate_all(
        "(all) => all.map((one) => parseFloat(one.style.width))"
    )
    assert sum(widths) == pytest.approx(100, abs=0.1)
    pieces = page.locator(".card:first-child .strip .pieces i").evaluate_all(
        "(all) => all.map((one) => [one.className, Math.round(parseFloat(one.style.left))])"
    )
    assert [what for what, _ in pieces] == [
        "wait",
        "speak",
        "queue",
        "queue",
        "wait",
        "speak",
        "pause",
        "speak",
    ]
    assert [left for _, left in pieces] == [10, 30, 32, 40, 50, 60, 70, 80]
    words = page.text_content(".card .strip .words")
    assert "first token 1.00 s" in words
    assert "10 tokens a second" in words
    assert "longest pause 1.00 s" in words
    assert page.evaluate("document.querySelector('.rhythm').style.clipPath").count("%") > 40
    row = page.locator("#timeline .row").first
    assert row.locator(".tokens").text_content() == "1.2k→40"
    assert row.locator(".cost").text_content() == "$0.012"
    facts = page.text_content(".card .facts")
    assert "1\u202f200 → 40 tokens · $0.012 · 10.0 s" in facts
    page.evaluate("streamll.page.player().seek(7)")
    page.wait_for_function("() => document.querySelector('.shares li').textContent === 'model speaking1.20 s'")  # fmt: skip


def test_an_error_can_be_read_and_is_told_where_it_happened(report):
    message = "Error code: 400\n  To fix:\n   - less\n" + "and more of it, " * 80 + "<b>END</b>"
    outer = ev.Identity(run_id="r1", path=("QA",), call_id="c0")
    inner = replace(CALL, parent_call_id="c0")
    failed = {"duration": 0.1, "error_type": "LMError", "message": message}
    scribe = Scribe(0.1).add(ev.RunStart, ROOT, program="QA")
    scribe.add(ev.ModuleStart, outer, name="QA", inputs={"question": "?"})
    scribe.add(ev.ModuleStart, inner, name="predict").add(ev.LMStart, LM, model="m")
    scribe.add(ev.LMEnd, LM, model="m", duration=0.1, error_type="LMError")
    scribe.add(ev.ModuleError, inner, name="predict", **failed)
    scribe.add(ev.ModuleError, outer, name="QA", **failed)
    scribe.add(ev.RunError, ROOT, error_type="LMError", message=message)
    page = report(scribe.events, viewport={"width": 390, "height": 844})
    page.wait_for_selector("#status[data-status=failed]")
    [error] = page.locator(".field.error").all()
    assert error.locator(".type").text_content() == "LMError"
    assert "To fix:\n   - less" in error.locator(".text").inner_text()
    assert "END" not in error.text_content()
    opened(page, ".field.error .same")
    assert error.text_content().endswith("<b>END</b>")
    assert page.locator("#output b").count() == 0
    assert page.evaluate("document.documentElement.scrollWidth <= innerWidth")
