"""Texts in XML elements that could be of several kinds: shown as what DSPy's XMLAdapter makes of them."""

from __future__ import annotations

import enum
import itertools
from typing import Literal

import dspy
import pytest
from dspy.adapters.xml_adapter import XMLAdapter
from profiles import in_turn
from pydantic import BaseModel, TypeAdapter

from streamll.capture.typed.field import typed_field
from streamll.core.events import FieldPartial
from streamll.core.partials import PartialValue


class Digit(enum.Enum):
    ONE = "1"
    TWO = "2"


class Part(BaseModel):
    code: Literal["1", "x"] | int
    tags: list[str | int] = []


KINDS = {
    "a listed digit or a number": Literal["1", "yes"] | int,
    "a number or a listed digit": int | Literal["1", "yes"],
    "listed digits": Literal["1", "2", "yes"],
    "an enum of texts like numbers": Digit,
    "an enum of texts or a number": Digit | int,
    "listed digits and numbers": Literal["1", 2],
    "a number or nothing": int | None,
    "a listed digit or nothing": Literal["1"] | None,
    "a truth or a number": bool | int,
    "a truth or a fraction": bool | float,
    "a truth or a listed word": bool | Literal["yes", "1"],
    "a truth or nothing": bool | None,
    "a number or a fraction": int | float,
}
TEXTS = ["1", "2", "yes", "true", "False", "null", "None", "1.0", "2.5", "01", "-1", "1e2", " 1 "]


def of_adapter(kind, inner):
    """What a program gets; ``LookupError`` where it gets an error."""
    signature = dspy.Signature({"q": (str, dspy.InputField()), "f": (kind, dspy.OutputField())})
    try:
        return XMLAdapter().parse(signature, f"<f>{inner}</f>")["f"]
    except Exception as error:
        raise LookupError from error


def shown_of(kind, inner, size):
    """What is shown of a field when its element has ended, and the field."""
    field = typed_field(XMLAdapter(), kind)
    value = PartialValue()
    pieces = [inner[at : at + size] for at in range(0, len(inner), size)]
    for changes in [*map(field.feed, pieces), field.finish()]:
        for change in changes:
            value.apply(FieldPartial(field="f", **change._asdict()))
    return value, field


SHAPES = [
    ("{}", lambda kind: kind, "{}"),
    ("list of {}", lambda kind: list[kind], "<item>{}</item><item>{}</item>"),
    ("list of lists of {}", lambda kind: list[list[kind]], "<item><item>{}</item></item>"),
    ("dict of {}", lambda kind: dict[str, kind], '<a>{}</a><entry key="b c">{}</entry>'),
]
SIZES = (1, 1000)
MODELS = [
    ("a model", Part, "<code>{}</code><tags><item>{}</item></tags>"),
    ("models", list[Part], "<item><code>{}</code></item>"),
]
SHOWN = [
    pytest.param(*shape, size, id=f"{shape[0]}, {size} at once")
    for shape, size in [
        *(
            ((called.format(name), of(kind), form), size)
            for (name, kind), ((called, of, form), size) in in_turn(
                KINDS.items(), itertools.product(SHAPES, SIZES)
            )
        ),
        *itertools.product(MODELS, SIZES),
    ]
]


@pytest.mark.parametrize(("name", "kind", "form", "size"), SHOWN)
def test_what_is_shown_is_what_the_adapter_returns_or_is_corrected(name, kind, form, size):
    shown = 0
    for text in TEXTS:
        inner = form.format(*[text] * 2)
        try:
            actual = of_adapter(kind, inner)
        except LookupError:
            continue  # the program has no value to differ from
        value, field = shown_of(kind, inner, size)
        if value.is_complete and field.agrees(actual):  # nothing will be corrected
            shown += 1
            claimed = value.value
            if isinstance(claimed, (list, dict)):
                claimed = TypeAdapter(kind).validate_python(claimed)
            assert repr(claimed) == repr(actual), text
    assert shown, "nothing was shown"


def test_a_digit_that_is_listed_stays_a_text_inside_elements():
    kind = list[Literal["1", "yes"] | int]
    inner = "<item>1</item><item>2</item>"
    value, field = shown_of(kind, inner, 1)
    assert value.value == of_adapter(kind, inner) == ["1", 2]
    assert field.agrees(["1", 2])
    assert not field.agrees([1, 2])
