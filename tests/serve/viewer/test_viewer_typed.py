"""X5, X12: typed fields in the viewer: grown in place, at every moment as they were."""

from __future__ import annotations

import json

import dspy
import pytest
from msgspec.structs import replace
from viewer.conftest import wait_until

from serve.runs import PLAN, RUNS, Scribe
from streamll.core import events as ev
from streamll.serve.report import report_html
from streamll.testing import Reply

FINDINGS = [
    {"title": "Unused import", "severity": "low", "line": 3},
    {"title": "SQL from <b>user</b> input", "severity": "high", "line": 41},
]


class Review(dspy.Signature):
    """Review the code."""

    code: str = dspy.InputField()
    findings: list[dict[str, str | int]] = dspy.OutputField()
    tags: list[str] = dspy.OutputField()
    score: int = dspy.OutputField()
    summary: str = dspy.OutputField()


REPLY = {"findings": FINDINGS, "tags": ["a", "b"], "score": 4, "summary": "Fix it."}


@pytest.fixture
def report(tmp_path, open_page):
    """``report(events)``: a report of these events, open in the browser."""

    def open_(events, **options):
        path = tmp_path / "report.html"
        path.write_text(report_html(events), "utf-8")
        page = open_page(path.as_uri(), **options)
        page.wait_for_selector("#status[data-status]")
        return page

    return open_


def table(page, field):
    """The rows of a field that is shown as a table."""
    return page.evaluate(
        """(field) => [...document.querySelectorAll(`.field[data-field="${field}"] tr`)]
            .map((row) => [...row.cells].map((cell) => cell.textContent))""",
        field,
    )


def seek(page, seconds):
    page.evaluate("(at) => streamll.page.player().seek(at)", seconds)
    page.evaluate("new Promise((done) => requestAnimationFrame(() => setTimeout(done)))")


def text(page, field):
    return page.text_content(f'.field[data-field="{field}"] .text')


def test_a_list_of_objects_is_a_table_that_grows(site, practice, open_page):
    practice.script(Reply(REPLY, hold_after=32))
    page = open_page(site(dspy.Predict(Review)).url)
    page.fill("textarea[name=code]", "x = 1")
    page.keyboard.press("Control+Enter")
    practice.wait_for_requests(1)[0].wait_held()
    page.wait_for_selector(".field[data-field=findings] td.now, .field[data-field=findings] .now")
    wait_until(lambda: len(table(page, "findings")) == 3, what="the second row")
    rows = table(page, "findings")
    assert rows[0] == ["title", "severity", "line"]
    assert rows[1] == ["Unused import", "low", "3"]
    assert "·" in rows[-1]  # what has not come yet
    practice.release()
    page.wait_for_selector("#status[data-status=ended]")
    assert table(page, "findings")[1:] == [[*map(str, row.values())] for row in FINDINGS]
    assert page.locator(".field[data-field=tags] li").all_text_contents() == ["a", "b"]
    assert text(page, "score") == "4"
    assert page.locator(".now").count() == 0
    assert page.locator("#output b").count() == 0


def test_the_value_can_be_seen_as_json(report):
    page = report(RUNS["typed"]())
    page.click(".field[data-field=plan] .json")
    assert json.loads(text(page, "plan")) == json.loads(PLAN)
    page.click(".field[data-field=plan] .json")
    assert page.locator(".field[data-field=plan] ol, .field[data-field=plan] table").count() > 0


def test_scrubbing_shows_each_value_as_it_was(report):
    """What a later change did to a value is not in an earlier moment."""
    page = report(RUNS["typed"]())
    seen = {}
    for at in (0.9, 0.3, 0.6, 0.05, 0.6, 0.3, 0.9):
        seek(page, at)
        shown = text(page, "plan") if page.locator(".field[data-field=plan]").count() else ""
        assert seen.setdefault(at, shown) == shown
    assert len(seen[0.05]) < len(seen[0.3]) < len(seen[0.6]) <= len(seen[0.9])


def test_a_retry_in_the_middle_of_a_value_shows_the_value_of_the_last_attempt(report):
    page = report(RUNS["typed_superseded"]())
    assert page.locator(
        ".attempt:not(.superseded) .field[data-field=plan] li"
    ).all_text_contents() == ["right"]
    assert page.locator("details.superseded:not([open])").count() == 1


def test_a_value_that_was_repaired_is_the_right_one(report):
    page = report(RUNS["typed_repaired"]())
    assert page.locator(".field[data-field=plan] li").all_text_contents() == ["a"]
    assert page.locator(".field.corrected[data-field=plan]").count() == 1


def grown(value, chunk=5):
    """A run whose field ``plan`` is this, and what the page made of it."""
    written = json.dumps(value)
    pieces = [written[at : at + chunk] for at in range(0, len(written), chunk)]
    return Scribe(0.01).start().value("plan", written, pieces=pieces).end().events


def as_run(number, events):
    return [replace(e, identity=replace(e.identity, run_id=f"{number:032x}")) for e in events]


ANY_VALUES = [
    [],
    {},
    [[], {}, None],
    [[1, [2, [3]]], "x"],
    {"a": {"b": {"c": [{"d": 1}, {"d": 2, "e": "f"}]}}},
    [{"a": 1}, {"b": 2}, "no table any more"],
    {"__proto__": {"polluted": 1}, "constructor": [1]},
    [{"__proto__": 1, "x": 2}],
    ["<img src=x onerror=alert(1)>", "javascript:alert(1)"],
]


def test_any_value_is_the_same_grown_and_whole(report):
    """A run of each value as it grew, and one of each as it came at once, in one page."""
    events = []
    for number, value in enumerate(ANY_VALUES):
        whole = [e for e in grown(value) if e.event_type != "field.partial" or not e.pointer]
        events += [*as_run(2 * number, grown(value)), *as_run(2 * number + 1, whole)]
    page = report(events)

    def html(number):
        run_id = f"{number:032x}"
        page.evaluate("(id) => { location.hash = `run=${id}`; }", run_id)
        page.wait_for_function("(id) => streamll.page.player()?.run.id === id", arg=run_id)
        page.evaluate("new Promise((done) => requestAnimationFrame(() => setTimeout(done)))")
        return page.inner_html(".field[data-field=plan] .text")

    for number, value in enumerate(ANY_VALUES):
        grown_html = html(2 * number)
        shown = page.evaluate(
            "JSON.stringify([...streamll.page.player().run.nodes.values()][0].attempts.of({}).field('plan').value)"
        )
        assert json.loads(shown) == value
        assert page.locator("#output img").count() == 0
        assert html(2 * number + 1) == grown_html
    assert page.evaluate("({}).polluted === undefined")


def test_a_long_list_stays_quick(report):
    """Its last elements are drawn; the others are in the JSON."""
    page = report(grown([{"n": n, "name": f"element {n}"} for n in range(3000)], chunk=400))
    rows = table(page, "plan")
    assert len(rows) == 501
    assert (rows[1], rows[-1]) == (["2500", "element 2500"], ["2999", "element 2999"])
    for at in (0.9, 0.5, 0.1, 0.95, 0.2, 1.0):  # forth and back
        page.evaluate("(at) => { const p = streamll.page.player(); p.seek(at * p.length); }", at)
        page.evaluate("new Promise((done) => requestAnimationFrame(() => setTimeout(done)))")
        numbers = [int(row[0]) for row in table(page, "plan")[1:] if row[0].isdecimal()]
        assert numbers == list(range(numbers[0], numbers[-1] + 1))
        assert len(numbers) >= min(499, numbers[-1])
    assert (
        page.text_content(".field[data-field=plan] .earlier") == "2500 earlier elements: see JSON"
    )
    page.click(".field[data-field=plan] .json")
    assert len(json.loads(text(page, "plan"))) == 3000


def test_a_change_that_cannot_be_placed_does_no_harm(report):
    """After a loss, or from a log that somebody else wrote."""
    events = (
        Scribe(0.01)
        .start()
        .add(ev.FieldStart, field="plan")
        .add(ev.FieldPartial, field="plan", value=["a"])
    )
    events.add(ev.FieldPartial, field="plan", value="z", pointer=(4_000_000_000,), state="complete")
    events.add(ev.FieldPartial, field="plan", value="b", pointer=(1,), state="complete")
    page = report(events.end().events)
    assert page.locator(".field[data-field=plan] li").all_text_contents() == ["a", "b"]


def test_a_table_is_rows_of_names_on_a_phone(report):
    page = report(grown(FINDINGS), viewport={"width": 390, "height": 844})
    page.wait_for_selector(".field[data-field=plan] td")
    assert page.evaluate("getComputedStyle(document.querySelector('thead')).display") == "none"
    assert (
        page.evaluate("getComputedStyle(document.querySelector('td'), '::before').content")
        == '"title"'
    )
    assert page.evaluate("document.documentElement.scrollWidth <= innerWidth")


def test_the_thinking_of_a_retry_is_folded_away(report):
    page = report(RUNS["superseded_thinking"]())
    assert page.locator(".attempt:not(.superseded) .field").count() == 1


def test_nothing_is_told_from_an_empty_text(report):
    scribe = Scribe().start()
    for field, value, said in (("age", None, "null"), ("name", "", '""')):
        scribe.text(field, said).add(ev.FieldPartial, field=field, value=value, state="complete")
    page = report(scribe.end().events)
    assert [text(page, field) for field in ("age", "name")] == ["null", ""]


def test_a_time_is_rounded_before_it_is_cut_into_minutes(report):
    page = report(RUNS["plain"]())
    times = [9.994, 9.996, 59.94, 59.97, 119.7, 3599.6, 7200]
    shown = ["9.99 s", "10.0 s", "59.9 s", "1 min 0 s", "2 min 0 s", "60 min 0 s", "120 min 0 s"]
    assert page.evaluate("(times) => times.map(streamll.seconds)", times) == shown
