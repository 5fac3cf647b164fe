"""Whatever is in a run, wherever it stands: the page shows it as text, and nothing of it runs."""

from __future__ import annotations

from msgspec.structs import replace

import streamll
from serve.runs import ROOT, TOOL, Scribe
from streamll.core import events as ev
from streamll.serve.report import report_html

EVIL = [
    '<img src=x onerror="window.owned=1">',
    "</script><script>window.owned=1</script>",
    "<svg/onload=window.owned=1>",
    "javascript:window.owned=1",
    '"\'><iframe srcdoc="<script>parent.owned=1</script>">',
    "</style><style>*{display:none}</style>",
    "{{constructor.constructor('window.owned=1')()}}",
    "__proto__",
    "constructor",
]


def evil_run(evil, run_id="r0"):
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
        ev.FieldPartial, again, field="deep", value=evil, pointer=(evil, evil), state="complete"
    )
    scribe.add(ev.FieldCorrected, again, field="answer", text=evil, value=evil)
    scribe.add(ev.ToolCallDelta, again, index=0, name=evil, arguments=evil)
    scribe.add(ev.Citation, again, text=evil, title=evil, url=evil)
    scribe.add(ev.Refusal, again, text=evil)
    scribe.add(ev.ReplyPart, again, kind=evil, media_type=evil, url=evil)
    scribe.add(ev.ToolStart, TOOL, name=evil, arguments={evil: evil})
    scribe.add(ev.ToolError, TOOL, name=evil, duration=0.1, error_type=evil, message=evil)
    code = ev.Identity(run_id="r1", call_id="i1")
    ran = {"name": evil, "kind": "interpreter"}
    scribe.add(ev.ToolStart, code, **ran, arguments={"code": evil})
    scribe.add(ev.ToolEnd, code, **ran, duration=0.1, result={evil: evil})
    scribe.add(ev.Status, call, message=evil)
    scribe.add(ev.TraceStart, call, name=evil, trace_id=evil).add(
        ev.TraceEnd, call, name=evil, trace_id=evil, duration=0.1, error_type=evil
    )
    scribe.add(ev.StreamllEvent, call, event_type=evil, data={evil: evil})
    scribe.add(ev.StreamGap, ROOT, count=1, reason=evil)
    scribe.add(ev.LMEnd, lm, model=evil, duration=0.1, finish_reason=evil, error_type=evil)
    scribe.add(ev.ModuleError, call, name=evil, duration=0.1, error_type=evil, message=evil)
    scribe.add(ev.RunError, ROOT, error_type=evil, message=evil, partial={evil: evil})
    return [
        replace(
            event,
            context={evil: evil},
            identity=replace(event.identity, run_id=run_id),
        )
        for event in scribe.events
    ]


ALLOWED = """() => [...document.querySelectorAll("main *")].map((box) => box.localName)
    .filter((name) => !["header", "h1", "h3", "span", "button", "p", "dl", "dt", "dd", "div", "input",
      "output", "select", "option", "section", "ol", "ul", "li", "i", "article", "details", "summary",
      "code", "table", "thead", "tbody", "tr", "th", "td"].includes(name))"""
HANDLERS = """() => [...document.querySelectorAll("*")].flatMap((box) => [...box.attributes])
    .filter((one) => /^on|^href$|^src/.test(one.name) && !one.value.startsWith("data:image/svg")
      && one.value !== "#run" && !/^[a-z]+\\.(js|css)$/.test(one.value)).map((one) => `${one.name}=${one.value}`)"""


def nothing_of_it_is_markup(page, run, evil):
    page.evaluate("(run) => document.querySelectorAll('#runs button')[run].click()", run)
    page.wait_for_function(
        "(name) => document.querySelector('#program').textContent === name", arg=evil
    )
    page.wait_for_selector("#status[data-status=failed]")
    page.evaluate("document.querySelectorAll('details').forEach((box) => { box.open = true; })")
    page.wait_for_timeout(100)  # what would run would have run
    assert page.evaluate("window.owned === undefined")
    assert page.evaluate(ALLOWED) == []
    assert page.evaluate(HANDLERS) == []
    assert page.evaluate("Object.keys(Object.prototype).length") == 0
    for field in (evil, "answer"):
        shown = page.evaluate(
            """(field) => [...document.querySelectorAll('.field')]
                .find((row) => row.dataset.field === field)?.querySelector('.text').textContent""",
            field,
        )
        assert shown == evil
    assert page.text_content("#problem").startswith(f"{evil}: {evil}")
    assert evil in page.text_content("#timeline")


def test_nothing_of_a_run_is_markup_in_a_report(tmp_path, open_page):
    path = tmp_path / "report.html"
    runs = [evil_run(evil, f"r{n}") for n, evil in enumerate(EVIL)]
    path.write_text(report_html([event for run in runs for event in run]), "utf-8")
    page = open_page(path.as_uri())
    page.wait_for_selector("#status[data-status=failed]")
    for run, evil in enumerate(EVIL):
        nothing_of_it_is_markup(page, run, evil)


def test_nothing_of_a_run_is_markup_when_it_is_served(tmp_path, open_page, site):
    server = site(None)
    sink = streamll.open_sink(f"sqlite:///{tmp_path}/log0.db")
    for number, evil in enumerate(EVIL):
        for event in evil_run(evil, f"r{number}"):
            if event.event_type != "stream.gap":
                sink.put(replace(event, timestamp=event.timestamp - number))
    assert sink.stop(60)
    page = open_page(server.url)
    page.wait_for_function(f"() => document.querySelectorAll('#runs li').length === {len(EVIL)}")
    for run, evil in enumerate(EVIL):
        nothing_of_it_is_markup(page, run, evil)


def test_a_link_may_not_smuggle_a_script_into_the_page(site, open_page):
    server = site(None)
    page = open_page(
        f"{server.url}/#run=%3Cimg%20src%3Dx%20onerror%3Dalert(1)%3E&token=%3Cscript%3E"
    )
    page.wait_for_function("() => document.querySelector('#connection').textContent !== ''")
    assert page.evaluate(ALLOWED) == []
