"""X12: the viewer for who does not use a mouse, does not see it, or wants it to keep still."""

from __future__ import annotations

import dspy
import pytest
from viewer.conftest import shown_text, wait_text
from viewer.test_viewer import CONTRAST

from serve.runs import RUNS
from streamll.serve.report import report_html
from streamll.testing import Reply

WORDS = " ".join(f"word{number}" for number in range(120))
PHONE = {"viewport": {"width": 390, "height": 844}}

FOCUS = """() => { const box = document.activeElement, style = getComputedStyle(box);
  return [box.id || box.name || box.className || box.localName,
    box.matches(":focus-visible") && style.outlineStyle !== "none" && parseFloat(style.outlineWidth) > 0]; }"""
SAID = """() => { window.said = [];
  for (const box of document.querySelectorAll("[role=status], [role=alert], [aria-live], output")) {
    if (box.getAttribute("aria-live") === "off") continue;
    new MutationObserver(() => said.push(`${box.id}: ${box.textContent}`))
      .observe(box, {childList: true, characterData: true, subtree: true}); } }"""


@pytest.fixture
def qa(site):
    return site(dspy.Predict("question -> answer"))


@pytest.fixture
def report(tmp_path, open_page):
    def open_(name, **options):
        path = tmp_path / "report.html"
        path.write_text(report_html(RUNS[name]()), "utf-8")
        return open_page(path.as_uri(), **options)

    return open_


def test_the_tab_key_goes_through_the_page_in_the_order_it_is_read(qa, practice, open_page):
    practice.script({"answer": "Paris"})
    page = open_page(qa.url)
    page.fill("textarea[name=question]", "?")
    page.keyboard.press("Control+Enter")
    page.wait_for_selector("#status[data-status=ended]")
    page.reload()  # then Tab begins at the top
    page.wait_for_selector("#status[data-status=ended]")
    passed = []
    for _ in range(14):
        page.keyboard.press("Tab")
        name, visible = page.evaluate(FOCUS)
        if name == "body":  # past the last one
            break
        assert visible, f"the focus on {name} cannot be seen"
        passed.append(name)
    order = [
        "skip",
        "theme",
        "help",
        "question",
        "primary",
        "button",
        "play",
        "scrub",
        "speed",
        "live",
        "row",
    ]
    assert [name for name in passed if name in order][: len(order)] == order


def test_the_first_link_leads_past_the_list(qa, practice, open_page):
    practice.script({"answer": "Paris"})
    page = open_page(qa.url)
    page.fill("textarea[name=question]", "?")
    page.keyboard.press("Control+Enter")
    page.wait_for_selector("#status[data-status=ended]")
    address = page.url
    page.reload()
    page.wait_for_selector("#status[data-status=ended]")
    page.keyboard.press("Tab")
    page.keyboard.press("Enter")
    assert page.evaluate("document.activeElement.id") == "run"
    assert page.url == address


def test_going_back_leads_to_where_the_keyboard_was(qa, practice, open_page):
    practice.respond(lambda request: {"answer": request.inputs["question"]})
    page = open_page(qa.url, **PHONE)
    for question in ("one", "two"):
        page.fill("textarea[name=question]", question)
        page.keyboard.press("Control+Enter")
        wait_text(page, "answer", question)
        page.wait_for_selector("#status[data-status=ended]")
        assert (
            page.evaluate("document.activeElement.id || document.activeElement.outerHTML") == "run"
        )
        page.keyboard.press("Escape")
        page.wait_for_selector("#form textarea")
    page.locator("#runs button").nth(1).focus()
    page.keyboard.press("Enter")
    wait_text(page, "answer", "one")
    page.keyboard.press("Escape")
    assert page.evaluate("document.activeElement === document.querySelectorAll('#runs button')[1]")


def test_a_screen_reader_gets_a_short_summary_and_not_each_token(qa, practice, open_page):
    """A screen reader hears that it runs, and how it ended; the text is there to be read."""
    words = WORDS[: WORDS.index(" word40")]
    practice.script(Reply({"answer": words}))
    practice.pace = 0.01
    page = open_page(qa.url)
    page.wait_for_selector("#form textarea")
    page.evaluate(SAID)
    page.fill("textarea[name=question]", "?")
    page.keyboard.press("Control+Enter")
    page.wait_for_selector("#status[data-status=ended]")
    assert shown_text(page, "answer") == words
    said = page.evaluate("said")
    assert said[-1] == "status: done"
    assert len(said) <= 4, said
    page.click("#play")  # nor while it plays again
    page.wait_for_function(
        "(before) => said.slice(before).at(-1) === 'status: done'", arg=len(said)
    )
    assert len(page.evaluate("said")) <= 8


def test_where_motion_is_not_wanted_nothing_moves(qa, practice, open_page):
    practice.script(
        Reply({"answer": WORDS}, hold_after=60), Reply({"answer": WORDS}, hold_after=60)
    )
    moving = "document.getAnimations().filter((one) => one.playState === 'running').length"
    page = open_page(qa.url, reduced_motion="reduce")
    page.fill("textarea[name=question]", "?")
    page.keyboard.press("Control+Enter")
    wait_text(page, "answer", "word3")
    assert page.evaluate(moving) == 0
    other = open_page(page.url)
    wait_text(other, "answer", "word3")
    assert other.evaluate(moving) > 0
    practice.release()


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_typed_fields_can_be_read_in_light_and_dark(report, scheme):
    page = report("typed", color_scheme=scheme)
    page.wait_for_selector("#status[data-status=ended]")
    selectors = '".text dt, .text dd, .text li, .text th, .text td, .json, .text, .label"'
    contrast = CONTRAST.replace(
        CONTRAST[CONTRAST.index('".text') : CONTRAST.index(")]")], selectors
    )
    assert page.evaluate(contrast) >= 4.5


def test_text_below_the_window_takes_no_more_room_than_it_needs(report):
    """What is drawn later must not move what was read."""
    page = report("everything", viewport={"width": 390, "height": 300})
    page.wait_for_selector("#status[data-status=ended]")
    heights = page.evaluate(
        "[...document.querySelectorAll('.field .text')].map((box) => box.offsetHeight)"
    )
    assert heights
    assert max(heights) < 200
