"""The form that starts a run: made from the inputs' schemas, its errors where they are."""

from __future__ import annotations

import base64
import json
from typing import Literal

import dspy
import pytest
from pydantic import BaseModel

from serve.viewer.conftest import wait_until

PNG = base64.b64decode(
    "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mNk+M9QDwADhgGAWjR9awAAAABJRU5ErkJggg=="
)


class Address(BaseModel):
    street: str
    number: int
    town: str = "Bonn"


class Letter(dspy.Signature):
    """Write a letter."""

    to: Address = dspy.InputField()
    back: Address | None = dspy.InputField()
    tags: list[str] = dspy.InputField()
    tone: Literal["warm", "cold"] = dspy.InputField()
    size: Literal[1, 2] = dspy.InputField(default=2)
    urgent: bool = dspy.InputField()
    photo: dspy.Image | None = dspy.InputField()
    hint: str = dspy.InputField(default="none")
    history: dspy.History = dspy.InputField()
    letter: str = dspy.OutputField()


@pytest.fixture
def page(site, practice, open_page):
    practice.script({"letter": "Dear you"})
    page = open_page(site(dspy.Predict(Letter)).url)
    page.wait_for_selector("#form select[name=tone]")
    return page


def legend_button(page, name):
    page.evaluate(
        """(name) => [...document.querySelectorAll('#form legend')]
            .find((legend) => legend.firstChild.textContent === name)
            .querySelector('button').click()""",
        name,
    )


def test_models_are_forms_choices_are_choices_and_lists_grow(page, practice):
    page.fill("[name='to.street']", "Am Hof")
    page.fill("[name='to.number']", "4")
    for number, tag in enumerate(["a", "b", "c"]):
        legend_button(page, "tags")
        page.fill(f"[name='tags[{number}]']", tag)
    page.click("[aria-label='Remove tags 2']")
    page.select_option("[name=tone]", label="cold")
    assert page.locator("[name=size] option:checked").text_content() == "2"
    page.check("[name=urgent]")
    photo = {"name": "dot.png", "mimeType": "image/png", "buffer": PNG}
    page.set_input_files("[name=photo]", photo)
    legend_button(page, "back")
    page.fill("[name='back.street']", "Markt")
    page.fill("[name='back.number']", "1")
    page.fill("[name='back.town']", "Köln")
    page.click("button.primary")
    page.wait_for_selector("#status[data-status=ended]")
    asked = practice.requests[-1].inputs
    assert json.loads(asked["to"]) == {"street": "Am Hof", "number": 4, "town": "Bonn"}
    assert json.loads(asked["back"]) == {"street": "Markt", "number": 1, "town": "Köln"}
    assert "cold" in asked["tone"]
    assert "none" in asked["hint"]
    assert "True" in json.dumps(asked["urgent"])
    sent = json.dumps(practice.requests[-1].body)
    assert json.loads(asked["tags"]) == ["a", "c"]
    assert f"data:image/png;base64,{base64.b64encode(PNG).decode()}" in sent


def test_what_the_server_refuses_is_told_at_its_field(page, practice):
    page.fill("[name='to.street']", "Am Hof")
    page.evaluate("document.querySelector(\"[name='to.number']\").required = false")
    page.evaluate("document.querySelector('[name=tone]').required = false")
    legend_button(page, "history")
    for number, text in enumerate(['{"hint": "h", "letter": "l"}', "{}", "not an object"]):
        legend_button(page, "messages")
        page.fill(f"[name='history.messages[{number}]']", text)
    page.click("[aria-label='Remove messages 2']")  # what was the third is now the second
    page.click("button.primary")
    for place in ("to.number", "tone", "history.messages[2]"):
        wait_until(
            lambda place=place: page.get_attribute(f"[name='{place}']", "aria-invalid") == "true"
        )
    assert page.text_content("[id='problem-to.number']") == "Field required"
    assert "dictionary" in page.text_content("[id='problem-history.messages[2]']")
    assert page.locator("#form .primary ~ .problem, #form > .problem").all_text_contents() == [""]
    assert page.evaluate("document.activeElement.name") == "to.number"
    assert practice.requests == []
    page.fill("[name='to.number']", "4")
    page.select_option("[name=tone]", label="warm")
    page.fill("[name='history.messages[2]']", '{"hint": "h", "letter": "l"}')
    page.click("button.primary")
    page.wait_for_selector("#status[data-status=ended]")
    assert page.get_attribute("[name='to.number']", "aria-invalid") == "false"


def test_the_form_can_be_used_by_keyboard_and_each_entry_has_a_name(page):
    names = page.evaluate(
        """() => [...document.querySelectorAll('#form input, #form textarea, #form select')]
            .filter((each) => !(each.labels.length || each.getAttribute('aria-label')))
            .map((each) => each.name)"""
    )
    assert names == []
    page.focus("#form legend button")
    page.keyboard.press("Enter")
    page.wait_for_selector("[name='back.street']")
