"""Whatever is in a run, wherever it stands: the page shows it as text, and nothing of it runs."""

from __future__ import annotations

import pytest
from msgspec.structs import replace

import streamll
from serve.runs import ROOT, TOOL, Scribe
from streamll.core import events as ev
from streamll.serve.report import report_html

EVIL = [
    "<img src=x onerror=\"document.title='owned'\">",
    "</script><script>document.title='owned'</script>",
    "<svg/onload=document.title='owned'>",
    "javascript:document.title='owned'",
    "\"'><iframe srcdoc=\"<script>parent.document.title='owned'</script>\">",
    "</style><style>*{display:none}</style>",
    "{{constructor.constructor('document.title=1')()}}",
    "__proto__",
    "constructor",
]


def evil_run(evil):
    """A run that has it in every text an event has."""
    call = ev.Identity(
        run_id="r1", path=(evil,), predictor=evil, call_id=f"c{evil}", parent_call_id=None
    )
    again = ev.Identity(run_id="r1", path=(evil,), predictor=evil, call_id=f"c{evil}", attempt=1)
    lm = ev.Identity(run_id="r1", path=(evil,), call_id=f"l{evil}", parent_call_id=f"c{evil}")
    scribe = Scribe(0.01).add(ev.RunStart, ROOT, program=evil, inputs={evil: evil})
    scribe.add(ev.ModuleStart, call, name=evil, inputs={evil: evil})
    scribe.add(ev.LMStart, lm, model=evil, messages=[{evil: evil}])
    scribe.add(ev.LMWaiting, call, reason=evil).add(ev.Thinking, call, text=evil)
    scribe.text(evil, evil, identity=call)
    scribe.add(ev.LMSuperseded, call, reason=evil)
    scribe.text("answer", evil, identity=again)
    for value in ([evil], {evil: evil}, [{evil: evil, "b": evil}], {evil: {evil: [evil, [evil]]}}):
        scribe.add(ev.FieldPartial, again, field=f"{evil}{len(scribe.events)}", value=value)
    scribe.add(ev.FieldPartial, again, field="deep", value={}).add(
        ev.FieldPartial, again, field="deep", value=evil, place=(evil, evil), state="complete"
    )
    scribe.add(ev.FieldCorrected, again, field="answer", text=evil, value=evil)
    scribe.add(ev.ToolCallDelta, again, index=0, name=evil, arguments=evil)
    scribe.add(ev.Citation, again, text=evil, title=evil, url=evil)
    scribe.add(ev.Refusal, again, text=evil)
    scribe.add(ev.ReplyPart, again, kind=evil, media_type=evil, url=evil)
    scribe.add(ev.ToolStart, TOOL, name=evil, arguments={evil: evil})
    scribe.add(ev.ToolError, TOOL, name=evil, duration=0.1, error_type=evil, message=evil)
    code = ev.Identity(run_id="r1", call_id="i1")
    scribe.add(ev.InterpreterStart, code, name=evil, code=evil)
    scribe.add(ev.InterpreterEnd, code, name=evil, duration=0.1, result={evil: evil})
    scribe.add(ev.Status, call, message=evil)
    scribe.add(ev.TraceStart, call, name=evil, trace_id=evil).add(
        ev.TraceEnd, call, name=evil, trace_id=evil, duration=0.1, error_type=evil
    )
    scribe.add(ev.StreamllEvent, call, event_type=evil, data={evil: evil})
    scribe.add(ev.StreamGap, ROOT, count=1, reason=evil)
    scribe.add(ev.LMEnd, lm, model=evil, duration=0.1, finish_reason=evil, error_type=evil)
    scribe.add(ev.ModuleError, call, name=evil, duration=0.1, error_type=evil, message=evil)
    scribe.add(ev.RunError, ROOT, error_type=evil, message=evil, partial={evil: evil})
    return [replace(event, context={evil: evil}) for event in scribe.events]


ALLOWED = """() => [...document.querySelectorAll("main *")].map((box) => box.localName)
    .filter((name) => !["header", "h1", "h3", "span", "button", "p", "dl", "dt", "dd", "div", "input",
      "output", "select", "option", "section", "ol", "ul", "li", "i", "article", "details", "summary",
      "code", "table", "thead", "tbody", "tr", "th", "td"].includes(name))"""
HANDLERS = """() => [...document.querySelectorAll("*")].flatMap((box) => [...box.attributes])
    .filter((one) => /^on|^href$|^src/.test(one.name) && !one.value.startsWith("data:image/svg")
      && one.value !== "#run" && !/^[a-z]+\\.(js|css)$/.test(one.value)).map((one) => `${one.name}=${one.value}`)"""


@pytest.mark.parametrize("evil", EVIL)
@pytest.mark.parametrize("served", [False, True], ids=["report", "served"])
def test_nothing_of_a_run_is_markup(evil, served, tmp_path, open_page, site):
    events = evil_run(evil)
    if served:
        server = site(None)
        sink = streamll.open_sink(f"sqlite:///{tmp_path}/log0.db")
        for event in events:
            if event.event_type != "stream.gap":
                sink.put(event)
        sink.stop()
        page = open_page(f"{server.url}/#run=r1")
    else:
        path = tmp_path / "report.html"
        path.write_text(report_html(events), "utf-8")
        page = open_page(path.as_uri())
    page.wait_for_selector("#status[data-status=failed]")
    page.evaluate("document.querySelectorAll('details').forEach((box) => { box.open = true; })")
    page.wait_for_timeout(100)  # what would run would have run
    assert "owned" not in page.title().replace(evil, "")
    assert page.evaluate(ALLOWED) == []
    assert page.evaluate(HANDLERS) == []
    assert page.evaluate("Object.keys(Object.prototype).length") == 0
    assert page.text_content("#program") == evil
    for field in (evil, "answer"):
        shown = page.evaluate(
            "(field) => [...document.querySelectorAll('.field')].find((row) => row.dataset.field === field)?.querySelector('.text').textContent",
            field,
        )
        assert shown == evil
    assert page.text_content("#problem").startswith(f"{evil}: {evil}")
    assert evil in page.text_content("#timeline")


def test_a_link_may_not_smuggle_a_script_into_the_page(site, open_page):
    server = site(None)
    page = open_page(
        f"{server.url}/#run=%3Cimg%20src%3Dx%20onerror%3Dalert(1)%3E&token=%3Cscript%3E"
    )
    page.wait_for_function("() => document.querySelector('#connection').textContent !== ''")
    assert page.evaluate(ALLOWED) == []
