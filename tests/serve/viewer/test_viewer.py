"""X12, X0a: the viewer in a real Chromium: live, replayed, on a phone, by keyboard, in the dark."""

from __future__ import annotations

import json

import dspy
import httpx
import pytest
from profiles import THOROUGH
from viewer.conftest import shown_text, wait_read, wait_text

import streamll
from serve.serving import wait_for_latest
from streamll.core.events import (
    FieldEnd,
    FieldStart,
    Identity,
    LMEnd,
    LMStart,
    ModuleEnd,
    ModuleStart,
    RunEnd,
    RunStart,
    TokenEvent,
)
from streamll.serve.report import report_html
from streamll.testing import Fault, Reply

WORDS = " ".join(f"word{number}" for number in range(120))
PHONE = {"viewport": {"width": 390, "height": 844}, "has_touch": True, "is_mobile": True}


class Shop(dspy.Module):
    """Everything there is to see: a trace, a typed field, a status, turns, tools, a retry."""

    def __init__(self):
        super().__init__()
        self.plan = dspy.ChainOfThought("question -> plan: list[str]")
        self.act = dspy.ReAct("question -> answer", tools=[price])

    def forward(self, question, limit: int = 3):
        with streamll.trace("planning"):
            self.plan(question=question)
        streamll.status("Looking around")
        return self.act(question=question)


def price(item: str) -> str:
    """The price of an item."""
    return "7.90"


def start(server, **inputs):
    answer = httpx.post(f"{server.url}/runs", json={"inputs": inputs}, trust_env=False, timeout=60)
    assert answer.status_code == 202, answer.text
    return answer.json()["run_id"]


def ended(page):
    page.wait_for_selector("#status[data-status=ended]")


def no_wider_than_the_screen(page):
    return page.evaluate("document.documentElement.scrollWidth <= innerWidth")


# --- live ------------------------------------------------------------------------------------------


def test_tokens_appear_while_the_model_talks(site, practice, open_page):
    practice.script(Reply({"answer": WORDS}, hold_after=40))
    page = open_page(site(dspy.Predict("question -> answer")).url)
    page.fill("textarea[name=question]", "Tell me")
    page.click("button.primary")
    wait_text(page, "answer", "word0 word1")
    [request] = practice.wait_for_requests(1)
    request.wait_held()
    assert "word119" not in shown_text(page, "answer")
    assert page.text_content("#status") == "running"
    request.release()
    wait_text(page, "answer", "word119")
    ended(page)
    assert shown_text(page, "answer") == WORDS


def test_a_silent_run_is_drawn_no_more_often_than_its_clock_goes_on(site, practice, open_page):
    practice.script(Reply({"answer": WORDS}, hold_after=40))
    server = site(dspy.Predict("question -> answer"))
    start(server, question="?")
    practice.wait_for_requests(1)[0].wait_held()
    page = open_page(server.url)
    page.click("#runs button")
    wait_text(page, "answer", "word3")
    frames, clock = page.evaluate(
        """() => new Promise((done) => {
          let frames = 0, clock = 0;
          const next = window.requestAnimationFrame;
          window.requestAnimationFrame = (draw) => { frames++; return next(draw); };
          new MutationObserver(() => { if (++clock === 12) done([frames, clock]); })
            .observe(document.querySelector("#stats"), { childList: true, characterData: true, subtree: true });
        })"""
    )
    assert 0 < frames <= 2 * clock


def test_a_reload_in_mid_field_shows_no_gap_and_no_double(site, practice, open_page):
    practice.script(Reply({"answer": WORDS}, hold_after=60))
    server = site(dspy.Predict("question -> answer"))
    page = open_page(server.url)
    start(server, question="?")
    practice.wait_for_requests(1)[0].wait_held()
    page.click("#runs button")
    wait_text(page, "answer", "word3")
    before = shown_text(page, "answer")
    page.reload()
    wait_text(page, "answer", before[-12:])
    practice.release()
    ended(page)
    assert shown_text(page, "answer") == WORDS


def test_the_stop_button_closes_the_provider(site, practice, open_page):
    practice.script(Reply({"answer": WORDS}, hold_after=40))
    page = open_page(site(dspy.Predict("question -> answer")).url)
    page.fill("textarea[name=question]", "Tell me")
    page.keyboard.press("Control+Enter")
    wait_text(page, "answer", "word0 word1")
    page.click("#stop")
    practice.requests[0].wait_closed(timeout=60)
    page.wait_for_selector("#status[data-status=cancelled]")
    assert shown_text(page, "answer").startswith("word0 word1")
    assert not page.is_visible("#stop")


def test_the_stop_button_stays_where_it_appears(site, practice, open_page):
    """Whatever else appears in its row: what is pressed must still be there when it is released."""
    practice.script({"answer": WORDS}, Reply({"answer": WORDS}, hold_after=40))
    server = site(dspy.Predict("question -> answer"))
    start(server, question="An earlier run, to compare with")
    with server.client() as client:
        wait_for_latest(client)  # else the page may show it first, and stop that one
    page = open_page(server.url)
    page.evaluate("""() => { window.places = []; const stop = document.getElementById("stop");
        const look = () => { const { x, y, width } = stop.getBoundingClientRect();
            if (width) places.push([x, y].join()); requestAnimationFrame(look); }; look(); }""")
    page.fill("textarea[name=question]", "Tell me")
    page.keyboard.press("Control+Enter")
    wait_text(page, "answer", "word0")
    for name in ("#again", "#compare-with", "#stop"):
        page.wait_for_selector(name)
    page.click("#stop")
    page.wait_for_selector("#status[data-status=cancelled]")
    assert len(set(page.evaluate("places"))) == 1


def test_the_end_of_a_long_text_is_in_sight_while_it_grows(site, practice, open_page):
    """Unless somebody reads further up: then it stays where it is."""
    where = """() => { const box = document.querySelector('.field[data-field=answer] .text');
        return [box.scrollTop, box.scrollHeight - box.scrollTop - box.clientHeight]; }"""
    lines = "\n".join(f"line {number}" for number in range(400))
    practice.script(Reply({"answer": lines}, hold_after=500))
    page = open_page(site(dspy.Predict("question -> answer")).url)
    page.fill("textarea[name=question]", "?")
    page.keyboard.press("Control+Enter")
    practice.wait_for_requests(1)[0].wait_held()
    wait_text(page, "answer", "line 100\n")
    page.wait_for_function(
        f"() => {{ const [top, below] = ({where})(); return top > 500 && below < 5; }}"
    )
    page.evaluate("document.querySelector('.field[data-field=answer] .text').scrollTop = 300")
    page.evaluate("new Promise((done) => requestAnimationFrame(() => setTimeout(done)))")
    practice.release()
    ended(page)
    assert page.evaluate(where)[0] == 300


def test_everything_of_a_run_is_shown(site, practice, open_page, tmp_path):
    practice.script(
        {"reasoning": "First the price.", "plan": ["look it up", "compare"]},
        Reply("[[ ## next_thought ## ]]\nHalf a thou", fault=Fault(error_after=8)),
    )
    page = open_page(site(Shop()).url)
    page.fill("textarea[name=question]", "What does a pencil cost?")
    page.fill("input[name=limit]", "2")
    page.click("button.primary")
    ended(page)
    output, timeline = page.text_content("#output"), page.text_content("#timeline")
    for text in ("First the price.", "look it up", "Looking around", "price", "turn 2"):
        assert text in output
    assert "Attempt 1 counts no more: ServerError" in output
    for text in ("Shop", "planning", "plan", "react", "price", "finish", "extract"):
        assert text in timeline
    facts = facts_of(page)
    assert facts["Model calls"] == "4"
    assert facts["Retries"] == "1"
    assert facts["First token"].endswith("s")
    assert facts["Tokens out"].startswith("≈")  # of the first attempt they are not known
    assert int(facts["Tokens out"][1:]) > 50
    # Each attempt speaks; on a busy machine with pauses.
    spoken = ":is(.speak, .pause)"
    assert page.locator(f"#timeline {spoken}:not({spoken} + *)").count() == 5
    assert page.locator("#timeline .retry").count() == 1


def test_a_failed_run_shows_its_error(site, practice, open_page):
    practice.script(Fault(status=401))
    page = open_page(None)
    server = site(dspy.Predict("question -> answer"))
    start(server, question="?")
    page.goto(server.url)
    page.wait_for_selector("#status[data-status=failed]")
    assert "LMAuth" in page.text_content("#problem") or "Error" in page.text_content("#problem")


def test_twenty_runs_at_once(site, practice, open_page):
    practice.respond(lambda request: Reply({"answer": f"{request.inputs['question']} {WORDS}"}))
    practice.pace = 0.003
    server = site(dspy.Predict("question -> answer"))
    page = open_page(server.url)
    runs = [start(server, question=f"number {number}.") for number in range(20)]
    page.wait_for_function("() => document.querySelectorAll('#runs li').length === 20")
    page.wait_for_function(
        "() => document.querySelectorAll('#runs .dot[data-status=ended]').length === 20"
    )
    for place in (0, 7, 19):  # the latest is first
        page.locator("#runs button").nth(place).click()
        ended(page)
        wait_text(page, "answer", f"number {19 - place}. {WORDS}")
    assert len(set(runs)) == 20


def test_output_of_a_model_is_text_and_never_executed(site, practice, open_page):
    evil = (
        "<img src=x onerror=\"document.title='owned'\"><script>document.title='owned'</script>"
        "[click](javascript:document.title='owned') **bold** </div></body>"
    )
    practice.script({"answer": evil})
    server = site({"<b>evil</b>": dspy.Predict("question -> answer")})
    page = open_page(server.url)
    page.fill("textarea[name=question]", evil)
    page.click("button.primary")
    ended(page)
    wait_text(page, "answer", " bold ")
    assert shown_text(page, "answer") == evil.replace("**", "")  # which is all the Markdown in it
    assert page.locator("main img, main script, main a, main b").count() == 0
    assert "owned" not in page.title()


def test_unicode_arrives_whole_in_the_page(site, practice, open_page):
    text = "こんにちは 👩\u200d👩\u200d👧\u200d👦 e\u0301 𝒳 \u200fשלום " * 20
    practice.script(Reply({"answer": text}, fault=Fault(split_characters=True)))
    page = open_page(site(dspy.Predict("question -> answer")).url)
    page.fill("textarea[name=question]", "?")
    page.click("button.primary")
    ended(page)
    assert shown_text(page, "answer") == text.strip()


def test_a_server_with_tokens_asks_for_one(site, practice, open_page):
    practice.respond(lambda _: {"answer": "Paris"})
    server = site(dspy.Predict("question -> answer"), tokens="0123456789abcdef0123")
    page = open_page(f"{server.url}/#token=0123456789abcdef0123")
    page.fill("textarea[name=question]", "?")
    page.click("button.primary")
    ended(page)
    assert "0123456789abcdef0123" not in page.url


def test_a_token_can_be_typed_in(site, practice, open_page):
    server = site(dspy.Predict("question -> answer"), tokens="0123456789abcdef0123")
    page = open_page(server.url)
    for token in ("a wrong one", "0123456789abcdef0123"):
        page.wait_for_selector("#ask-token[open]")
        page.fill("#token", token)
        page.keyboard.press("Enter")
    page.fill("textarea[name=question]", "?")
    page.click("button.primary")
    ended(page)


# --- replayed --------------------------------------------------------------------------------------


def long_run(tokens, seconds=10.0, text="word "):
    """The events of a run with one field of so many tokens."""
    run = Identity(run_id="f" * 32)
    module = Identity(run_id=run.run_id, path=("QA",), call_id="a", predictor="qa")
    lm = Identity(run_id=run.run_id, path=("QA",), call_id="b", parent_call_id="a", predictor="qa")
    at = 1_700_000_000.0
    events = [
        RunStart(identity=run, program="QA"),
        ModuleStart(identity=module, name="QA"),
        LMStart(identity=lm, model="practice/model"),
        FieldStart(identity=module, field="answer"),
        *(
            TokenEvent(
                identity=module,
                field="answer",
                token=f"{text}\n" if number % 40 == 39 else text,
                token_index=number,
                offset=number * len(text) + number // 40,
            )
            for number in range(tokens)
        ),
        FieldEnd(identity=module, field="answer", length=tokens * len(text)),
        LMEnd(identity=lm, model="practice/model", duration=seconds, completion_tokens=tokens),
        ModuleEnd(identity=module, name="QA", duration=seconds),
        RunEnd(identity=run, duration=seconds, lm_calls=1, completion_tokens=tokens),
    ]
    from msgspec.structs import replace

    step = seconds / len(events)
    return [replace(e, seq=n, timestamp=at + n * step) for n, e in enumerate(events)]


def facts_of(page):
    names, values = (page.locator(f"#stats {tag}").all_text_contents() for tag in ("dt", "dd"))
    return dict(zip(names, values, strict=True))


def with_usage(events, **used):
    """The events with these counts of the one LM call, and of the run."""
    from msgspec.structs import replace

    return [replace(e, **used) if isinstance(e, (LMEnd, RunEnd)) else e for e in events]


@pytest.fixture
def report(tmp_path, open_page):
    """``report(events)``: a report of these events, open in the browser."""

    def open_(events, **options):
        path = tmp_path / "report.html"
        path.write_text(report_html(events), "utf-8")
        return open_page(path.as_uri(), **options)

    return open_


def scrub(page, value):
    page.evaluate(
        """(value) => { const box = document.querySelector("#scrub");
        box.value = value; box.dispatchEvent(new Event("input")); }""",
        value,
    )


def test_scrubbing_shows_each_moment_as_it_was(report):
    page = report(long_run(500))
    ended(page)
    whole = shown_text(page, "answer")
    assert whole.count("word") == 500
    seen = {}
    for value in (500, 100, 900, 0, 500, 100, 1000):
        scrub(page, value)
        page.wait_for_function(
            "(at) => Math.abs(Number(document.querySelector('#scrub').value) - at) <= 1", arg=value
        )
        page.evaluate("new Promise((done) => requestAnimationFrame(() => setTimeout(done)))")
        text = shown_text(page, "answer")
        assert whole.startswith(text)
        assert seen.setdefault(value, text) == text
    assert len(seen[0]) < len(seen[100]) < len(seen[500]) < len(seen[900]) < len(seen[1000])
    assert abs(seen[500].count("word") - 250) < 5


def test_tokens_are_known_or_marked_as_an_estimate(report):
    known = {"prompt_tokens": 120, "cache_read_tokens": 64, "reasoning_tokens": 9}
    page = report(with_usage(long_run(20), **known))
    ended(page)
    facts = facts_of(page)
    told = [facts[name] for name in ("Tokens in", "Tokens out", "Cached", "Reasoning")]
    assert told == ["120", "20", "64", "9"]
    assert "120 (64 cached) → 20 (9 reasoning) tokens" in page.text_content("#output")
    page = report(with_usage(long_run(20), completion_tokens=None))
    ended(page)
    facts = facts_of(page)
    assert (facts["Tokens in"], facts["Tokens out"]) == ("–", "≈20")
    assert not {"Cached", "Reasoning"} & facts.keys()


def test_a_replay_plays_to_its_end_and_can_be_paused(report):
    page = report(long_run(300, seconds=10))  # 40 s at a quarter: it is paused before its end
    ended(page)
    page.select_option("#speed", "0.25")
    page.click("#play")
    page.wait_for_function("() => document.querySelector('#status').dataset.status === 'running'")
    page.click("#play")
    page.wait_for_selector("#play[aria-label=Play]")
    assert 0 <= page.evaluate("streamll.page.player().at") <= 10
    page.select_option("#speed", "20")
    page.click("#play")
    ended(page)
    assert shown_text(page, "answer").count("word") == 300


def test_a_report_needs_nothing_but_its_file(report, practice, tmp_path):
    dspy.configure(lm=practice.lm())
    practice.script({"answer": "</script><script>document.title='owned'</script> <!-- \u2028"})
    with streamll.stream(dspy.Predict("question -> answer"))(question="?") as stream:
        events = list(stream)
    html = report_html(events)
    assert "http://" not in html.replace("http://www.w3.org/2000/svg", "")
    assert "https://" not in html
    page = report(events)
    ended(page)
    assert shown_text(page, "answer").startswith("</script><script>")
    assert "owned" not in page.title()
    assert not page.is_visible("#form")
    assert not page.is_visible("#stop")


def test_events_that_come_twice_are_shown_once(open_page, tmp_path):
    """What a reader gets who came back with an older position."""
    events = long_run(50)
    again = [*events[:30], *events[20:]]
    path = tmp_path / "again.html"
    path.write_text(report_html(again), "utf-8")
    page = open_page(path.as_uri())
    ended(page)
    assert shown_text(page, "answer").count("word") == 50


LONG = 100_000 if THOROUGH else 10_000


def test_a_run_of_very_many_tokens_stays_smooth(site, practice, open_page):
    """Each tenth is shown before the next one comes, and what is shown is not written again."""
    tenths = range(LONG // 10, LONG, LONG // 10)
    chunks = ["[[ ## answer ## ]]\n", *(f"w{n} " for n in range(LONG))]
    practice.script(Reply(chunks=chunks, hold_after=tenths))
    server = site(dspy.Predict("question -> answer"))
    page = open_page(server.url)
    page.evaluate(
        """() => { window.written = 0; new MutationObserver((changes) => {
          for (const { addedNodes, target } of changes)
            if ((target.closest ? target : target.parentElement)?.closest(".text"))
              for (const node of addedNodes) written += node.textContent.length;
        }).observe(document.body, { subtree: true, childList: true }); }"""
    )
    page.fill("textarea[name=question]", "?")
    page.keyboard.press("Control+Enter")
    for tenth in tenths:
        wait_text(page, "answer", f"w{tenth - 3} ")  # the last space may be the field's end
        practice.release()
    page.wait_for_selector("#status[data-status=ended]", timeout=300_000)
    text = shown_text(page, "answer")
    assert text.split() == [f"w{number}" for number in range(LONG)]
    assert page.evaluate("written") < 3 * len(text)


# --- who looks at it -------------------------------------------------------------------------------


def test_on_a_phone_the_list_and_the_run_are_pages_of_their_own(site, practice, open_page):
    server = site(Shop())
    start(server, question="What does a pencil cost, and why?")
    page = open_page(server.url, **PHONE)
    page.wait_for_selector("#runs button")
    page.wait_for_selector("#form textarea")  # which moves the list
    assert not page.is_visible("#run")
    assert no_wider_than_the_screen(page)
    page.tap("#runs button")
    ended(page)
    assert page.is_visible("#program")
    assert not page.is_visible("#runs")
    assert no_wider_than_the_screen(page)
    page.tap("#back")
    page.wait_for_selector("#runs")


def test_everything_can_be_done_with_the_keyboard(site, practice, open_page):
    practice.respond(lambda request: {"answer": f"to {request.inputs['question']}: {WORDS}"})
    server = site(dspy.Predict("question -> answer"))
    page = open_page(server.url)
    page.wait_for_selector("#form textarea")
    page.keyboard.press("n")
    for question in ("one", "two"):
        page.fill("textarea[name=question]", question)
        page.keyboard.press("Control+Enter")
        wait_text(page, "answer", f"to {question}:")
        ended(page)
    assert page.locator("#runs .asked").all_text_contents() == ["two", "one"]
    page.keyboard.press("Escape")  # out of the field
    page.keyboard.press("j")
    wait_text(page, "answer", "to one:")
    ended(page)
    page.keyboard.press("k")
    wait_text(page, "answer", "to two:")
    page.keyboard.press("Home")
    page.wait_for_function("() => document.querySelector('#scrub').value === '0'")
    page.keyboard.press("l")
    page.wait_for_function("() => document.querySelector('#scrub').value === '1000'")
    page.keyboard.press("?")
    assert page.is_visible("#keys")
    page.keyboard.press("Escape")
    assert not page.is_visible("#keys")
    page.focus("#timeline .row >> nth=0")
    page.keyboard.press("Enter")
    page.wait_for_function("() => document.activeElement.classList.contains('card')")
    page.keyboard.press("Escape")
    assert page.is_visible("#nothing")


def test_every_control_has_a_name(report):
    page = report(long_run(20))
    ended(page)
    nameless = page.evaluate(
        """[...document.querySelectorAll("button, input, select, textarea")].filter((box) =>
        !(box.textContent.trim() || box.ariaLabel || box.labels?.length || box.title)).length"""
    )
    assert nameless == 0


CONTRAST = """() => {
  const light = (colour) => { const [r, g, b] = colour.match(/[\\d.]+/g).map(Number)
    .map((v) => v / 255).map((v) => v <= 0.03928 ? v / 12.92 : ((v + 0.055) / 1.055) ** 2.4);
    return 0.2126 * r + 0.7152 * g + 0.0722 * b; };
  const ground = (box) => { for (; box; box = box.parentElement) {
    const found = getComputedStyle(box).backgroundColor;
    if (!/rgba\\(.*, 0(\\.\\d+)?\\)|color/.test(found)) return found; } return "rgb(255,255,255)"; };
  return Math.min(...[...document.querySelectorAll(
      ".text, .label, .facts, .card h3, h1, dt, dd, .name, .time, #runs .program, #runs .when")]
    .filter((box) => box.offsetParent).map((box) => {
      const [a, b] = [light(getComputedStyle(box).color), light(ground(box))];
      return (Math.max(a, b) + 0.05) / (Math.min(a, b) + 0.05); })); }"""


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_light_and_dark_can_both_be_read(report, scheme):
    page = report(long_run(20), color_scheme=scheme)
    ended(page)
    assert page.evaluate(CONTRAST) >= 4.5
    ground = page.evaluate("getComputedStyle(document.documentElement).backgroundColor")
    dark = sum(map(int, ground[4:-1].split(","))) < 300
    assert dark == (scheme == "dark")
    other = {"light": "dark", "dark": "light"}[scheme]
    while page.evaluate("document.documentElement.dataset.theme") != other:
        page.click("#theme")
    assert page.evaluate("getComputedStyle(document.documentElement).backgroundColor") != ground


# --- watch(web=True) ---------------------------------------------------------------------------------


def test_watch_in_the_browser_shows_programs_of_this_process(practice, open_page, capfd):
    """X0a: one line, and every program shows itself in a page."""
    from streamll.serve.viewer import web_view

    dspy.configure(lm=practice.lm())
    practice.script({"answer": "Paris"}, {"answer": "Rome"})
    with streamll.watch(web=True):
        url = web_view.shared_web_view().url
        page = open_page(url)
        dspy.Predict("question -> answer")(question="France?")
        page.wait_for_selector("#runs li")
        page.click("#runs button")
        wait_text(page, "answer", "Paris")
        with streamll.watch(web=True):
            assert web_view.shared_web_view().url == url
        dspy.Predict("question -> answer")(question="Italy?")
        page.wait_for_function("() => document.querySelectorAll('#runs li').length === 2")
        assert not page.is_visible("#form")
        assert not page.is_visible("#stop")
    told = capfd.readouterr().err
    assert told.count("streamll: watch at http://127.0.0.1:") == 1
    refused = httpx.get(f"{url.partition('#')[0]}runs", trust_env=False, timeout=60)
    assert refused.status_code == 401
    page.goto("about:blank")
    web_view.shared_web_view().stop()


def test_the_viewer_loads_nothing_from_elsewhere(site, open_page):
    server = site(dspy.Predict("question -> answer"))
    page = open_page(None)
    asked = []
    page.on("request", lambda request: asked.append(request.url))
    with page.expect_request("**/runs"):
        page.goto(server.url)
    page.wait_for_selector("#form textarea")
    assert all(url.startswith((server.url, "data:")) for url in asked)
    answer = httpx.get(server.url, trust_env=False, timeout=60)
    policy = answer.headers["content-security-policy"]
    assert "default-src 'none'" in policy
    assert json.dumps(policy).count("unsafe-inline") == 1  # for styles only


def test_a_stopped_run_does_not_look_like_a_crash(site, practice, open_page):
    practice.script(Reply({"answer": WORDS}, hold_after=40))
    page = open_page(site(dspy.ChainOfThought("question -> answer")).url)
    page.fill("textarea[name=question]", "Tell me")
    page.keyboard.press("Control+Enter")
    practice.wait_for_requests(1)[0].wait_held()
    page.wait_for_selector(".card")
    page.click("#stop")
    page.wait_for_selector("#status[data-status=cancelled]")
    page.wait_for_selector(".card[data-status=left]")
    assert page.locator("[data-status=failed], .field.error").count() == 0
    assert "Unwind" not in page.text_content("main")


def test_a_finished_run_opens_at_its_top_and_space_plays_it(site, practice, open_page):
    """However its events arrive. The button of the list has the keyboard's focus after a click."""
    practice.script(*[{"answer": "\n".join(f"line {number}" for number in range(400))}] * 3)

    class Thrice(dspy.Module):
        def __init__(self):
            super().__init__()
            self.qa = dspy.Predict("question -> answer")

        def forward(self, question):
            return [self.qa(question=question) for _ in range(3)][-1]

    server = site(Thrice())
    start(server, question="?")
    with server.client() as client:
        wait_for_latest(client)
    page = open_page(server.url)
    ended(page)
    page.keyboard.press("Escape")
    page.click("#runs button")
    wait_read(page)
    ended(page)
    page.wait_for_function("run.scrollHeight > 1.5 * run.clientHeight")  # all of it is drawn
    assert page.evaluate("run.scrollTop") == 0
    assert page.locator("#timeline .turn").all_text_contents() == [
        "turn 2",
        "turn 3",
    ]
    page.evaluate(  # for as long as the run took, which may be over when the test looks
        """() => { window.played = false; const play = document.querySelector("#play");
        new MutationObserver(() => { played ||= play.classList.contains("playing"); })
            .observe(play, { attributeFilter: ["class"] }); }"""
    )
    page.keyboard.press("Space")
    page.wait_for_function("() => played")


def test_an_open_page_shows_the_first_run_that_starts(site, practice, open_page):
    practice.script({"answer": "yes"}, {"answer": "no"})
    server = site(dspy.Predict("question -> answer"))
    page = open_page(server.url)
    page.wait_for_selector("#no-runs:visible")
    start(server, question="?")
    ended(page)
    assert shown_text(page, "answer") == "yes"
    start(server, question="?")
    page.wait_for_function("() => document.querySelectorAll('#runs li').length === 2")
    assert shown_text(page, "answer") == "yes"  # which somebody reads
