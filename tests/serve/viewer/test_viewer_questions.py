"""Questions of a run are shown where they are asked, and answered by a form made from their schema."""

from __future__ import annotations

import asyncio
import threading
from typing import Annotated, Literal

import dspy
import pytest
from pydantic import BaseModel, Field

import streamll
from streamll.serve import run_token
from streamll.serve.viewer.web_view import WebView

SECRET = "of all processes" * 3
TOKEN = "token-of-the-whole-server"
HOSTILE = "<img src=x onerror=alert(1)>\u202e **not bold** </script>"


class Address(BaseModel):
    street: str
    number: int


class Order(BaseModel):
    to: Address
    size: Literal["s", "m", "l"]
    tags: list[str]
    note: str | None
    count: Annotated[int, Field(le=5)] = 1


class Asks(dspy.Module):
    """Asks one question after the other, and keeps the answers."""

    def __init__(self, *questions, **options):
        super().__init__()
        self.questions, self.options, self.answers = questions, options, []

    async def aforward(self, what="x"):
        for schema in self.questions:
            asked = streamll.ask_async(f"{schema}?", schema=schema, **self.options)
            self.answers.append(await asked)
        return dspy.Prediction(answer="done")


def send_mail(to: str, copies: int = 1) -> str:
    return f"{copies} to {to}"


class Mails(dspy.Module):
    def __init__(self):
        super().__init__()
        self.tool, self.results = streamll.approve(send_mail), []

    def forward(self, what="x"):
        for _ in range(4):
            self.results.append(self.tool(to=HOSTILE, copies=2))
        return dspy.Prediction(answer="done")


@pytest.fixture
def open_run(site, open_page):
    """``open_run(program)``: a page on a run of it, waiting; and its server."""

    def start(program, token=None, server_options=None, **context):
        server = site({"asks": program}, **(server_options or {}))
        headers = {"authorization": f"Bearer {token}"} if token else {}
        run = server.client(headers=headers).post("/runs", json={"inputs": {"what": "x"}}).json()
        return open_page(None, **context), server, run

    return start


def ask_form(page):
    page.locator(".question[data-status=open] form").wait_for()
    return page.locator(".question[data-status=open]")


def outcome(page, number):
    page.wait_for_function(
        "(n) => document.querySelectorAll('.question .outcome').length === n", arg=number
    )
    return page.locator(".question .outcome").last.text_content()


def test_each_kind_of_answer_has_its_form(open_run):
    kinds = (bool, Literal["red", HOSTILE], int, Order, dict[str, list[int]])
    program = Asks(*kinds)
    page, server, _ = open_run(program, viewport={"width": 390, "height": 800})
    page.goto(server.url)
    page.locator("#runs .dot[data-status=asking]").wait_for()
    page.locator("#form .primary").wait_for()  # which moves the list
    page.locator("#runs button").click()
    ask_form(page).get_by_role("button", name="Yes").focus()
    page.keyboard.press("Enter")
    outcome(page, 1)
    page.locator("#status", has_text="waits for an answer").wait_for()  # the next question's
    ask_form(page).get_by_role("button", name="<img").click()
    outcome(page, 2)
    asked = ask_form(page)
    asked.get_by_label("answer", exact=True).fill("12")
    page.keyboard.press("Control+Enter")
    outcome(page, 3)
    asked = ask_form(page)
    asked.get_by_label("street").fill("Am Hof")
    asked.get_by_label("number").fill("4")
    asked.get_by_label("size").select_option("m")
    asked.get_by_label("count").evaluate(
        "(box) => { box.max = ''; box.value = 9; }"
    )  # the server checks as well
    asked.locator("legend", has_text="tags").get_by_role("button").click()
    asked.locator("[name$='tags[0]']").fill(HOSTILE)
    asked.get_by_role("button", name="Answer").click()
    asked.locator(".problem:not([hidden])", has_text="maximum of 5").wait_for()
    assert page.evaluate("document.activeElement.name").endswith(".count")
    assert page.evaluate("document.activeElement.getAttribute('aria-invalid')") == "true"
    asked.get_by_label("count").fill("2")
    asked.get_by_role("button", name="Answer").click()
    outcome(page, 4)
    asked = ask_form(page)
    asked.get_by_label("answer", exact=True).fill("no JSON")
    asked.get_by_role("button", name="Answer").click()
    asked.locator(".problem:not([hidden])").first.wait_for()
    asked.get_by_label("answer", exact=True).fill('{"a": [1]}')
    asked.get_by_role("button", name="Answer").click()
    page.locator("#status[data-status=ended]").wait_for()
    order = Order(
        to={"street": "Am Hof", "number": 4}, size="m", tags=[HOSTILE], note=None, count=2
    )
    assert program.answers == [True, HOSTILE, 12, order, {"a": [1]}]
    assert page.locator(".question img, .question b").count() == 0
    assert page.evaluate("document.documentElement.scrollWidth <= innerWidth")


def test_a_form_stays_where_it_appears(open_run):
    """What is pressed must still be there when it is released."""
    page, server, run = open_run(Asks(bool))
    page.add_init_script("""window.places = []; const look = () => {
        const form = document.querySelector(".question form");
        if (form) places.push(form.getBoundingClientRect().y); requestAnimationFrame(look); }; look();""")
    page.goto(f"{server.url}/#run={run['run_id']}")
    asked = ask_form(page)
    page.wait_for_function("() => document.querySelector('.shares li')")
    asked.get_by_role("button", name="Yes").click()
    outcome(page, 1)
    assert len(set(page.evaluate("places"))) == 1


def test_a_tool_is_allowed_edited_and_refused(open_run):
    program = Mails()
    page, server, run = open_run(program)
    page.goto(f"{server.url}/#run={run['run_id']}")
    asked = ask_form(page)
    assert HOSTILE in asked.locator(".field[data-field=arguments]").text_content()
    asked.get_by_role("button", name="Allow").click()
    outcome(page, 1)
    asked = ask_form(page)
    asked.get_by_role("button", name="Edit").click()
    assert asked.get_by_label("to", exact=True).input_value() == HOSTILE
    asked.get_by_label("copies").fill("1.5")
    asked.locator("form").evaluate("(form) => { form.noValidate = true; }")
    asked.get_by_role("button", name="Allow").click()
    asked.locator(".entry:has([name^=copies]) .problem:not([hidden])").wait_for()
    asked.get_by_label("copies").fill("3")
    asked.get_by_role("button", name="Allow").click()
    outcome(page, 2)
    asked = ask_form(page)
    asked.get_by_label("reason").fill("not today")
    asked.get_by_role("button", name="Refuse").click()
    outcome(page, 3)
    ask_form(page).get_by_role("button", name="Refuse").click()
    page.locator("#status[data-status=ended]").wait_for()
    refused = "The call of send_mail was refused"
    assert program.results == [
        f"2 to {HOSTILE}", f"3 to {HOSTILE}", f"{refused}: not today", refused
    ]  # fmt: skip


class Sends(dspy.Module):
    """Calls its tool again and again with the same arguments, and keeps what became of them."""

    def __init__(self):
        super().__init__()
        self.calls = []

        def send(to: Place, body: str, copies: int | None = 5, weight: int = 1):
            self.calls.append((to, body, copies, weight))

        self.tool = streamll.approve(send)

    def forward(self, what="x"):
        for _ in range(3):
            self.tool(to=PLACE, body="secret", copies=3, weight=2)
        return dspy.Prediction(answer="done")


class Place(BaseModel):
    street: str
    floor: int | None
    town: str = "Bonn"


PLACE = Place(street="Am Hof", floor=2, town="Rome")


def test_an_argument_that_is_cleared_is_empty(open_run):
    """Left out, it would be the one that the person has taken away."""
    program = Sends()
    page, server, run = open_run(program)
    page.goto(f"{server.url}/#run={run['run_id']}")
    for number, names in enumerate([["body"], ["copies"], [".street", ".floor", ".town"]]):
        asked = ask_form(page)
        asked.get_by_role("button", name="Edit").click()
        if number == 0:
            asked.locator("[name^=weight]").fill("")
            asked.get_by_role("button", name="Allow").click()
            asked.locator(".entry:has([name^=weight]) .problem", has_text="Give a value").wait_for()
            asked.locator("[name^=weight]").fill("2")
        for name in names:
            asked.locator(
                f"[name^={name}]" if name in ("body", "copies") else f"[name$='{name}']"
            ).fill("")
        asked.get_by_role("button", name="Allow").click()
        outcome(page, number + 1)
    page.locator("#status[data-status=ended]").wait_for()
    nowhere = Place(street="", floor=None, town="")
    assert program.calls == [
        (PLACE, "", 3, 2),
        (PLACE, "secret", None, 2),
        (nowhere, "secret", 3, 2),
    ]


def test_answered_elsewhere_lapsed_and_not_permitted(open_run):
    program = Asks(str, str, timeout=3600, default="none")
    page, server, run = open_run(
        program, TOKEN, {"tokens": [TOKEN], "secret": SECRET}, color_scheme="dark"
    )
    run_id = run["run_id"]
    page.goto(f"{server.url}/#token={run_token(SECRET, run_id)}&run={run_id}")
    asked = ask_form(page)
    page.get_by_text("lapses in 59:").wait_for()
    asked.get_by_label("answer", exact=True).fill("mine")
    asked.get_by_role("button", name="Answer").click()
    page.get_by_text("You may read this run, but not answer it.").wait_for()
    assert page.locator(".question form").count() == 0
    page.evaluate("sessionStorage.clear()")
    page.goto("about:blank")
    page.goto(f"{server.url}/#token={TOKEN}&run={run_id}")
    asked = ask_form(page)
    asked.get_by_label("answer", exact=True).fill("half a")
    with streamll.connect(server.url, run_id, token=TOKEN) as events:
        question = next(event for event in events if event.event_type == "question")
        assert events.answer(question, "theirs", by="ada")
        told = outcome(page, 1)
        assert told.startswith("Answered by ada after")
        assert page.evaluate("document.activeElement.className") == "outcome"
        ask_form(page).get_by_role("button", name="Decline").click()
        page.locator(".question[data-status=withdrawn]").wait_for()
    page.locator("#status[data-status=ended]").wait_for()
    assert program.answers == ["theirs", "none"]
    page.locator("#play").click()  # what is replayed is not asked again
    page.evaluate("streamll.page.player().seek(0.0001)")
    assert page.locator(".question form").count() == 0


def test_a_program_that_is_watched_in_a_page(open_page):
    """No server runs it: the answer goes through the view's log."""
    view = WebView()
    program = Asks(bool)
    streamll.instrument(program, sinks=[view.sink])
    running = threading.Thread(target=lambda: asyncio.run(program.acall()), daemon=True)
    try:
        page = open_page(view.url)
        running.start()
        ask_form(page).get_by_role("button", name="No", exact=True).click()
        assert outcome(page, 1).startswith("Answered after")
        running.join(60)
        assert program.answers == [False]
    finally:
        view.stop()
