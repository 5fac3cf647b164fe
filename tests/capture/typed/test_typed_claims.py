"""X5: a partial is a claim about what will be returned. It is of the right kind, the beginning of
the program's value, or withheld; what is shown and wrong all the same is corrected. And a reader of
values never has an error of its own.
"""

from __future__ import annotations

import copy
import datetime as dt
import decimal
import enum
import json
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal, NamedTuple

import dspy
import pydantic
import pytest
from profiles import in_turn
from typing_extensions import TypedDict

import streamll
from streamll.core.ordering import OrderCheck
from streamll.testing import Reply


class Color(enum.Enum):
    RED = "red"
    BLUE = "blue"


class Item(pydantic.BaseModel):
    name: str
    size: int = 0


class Named(pydantic.BaseModel):
    own: str = pydantic.Field(alias="written")
    inner: Item | None = pydantic.Field(None, alias="inside")


class Loud(pydantic.BaseModel):
    word: str

    @pydantic.field_validator("word")
    @classmethod
    def loud(cls, word):
        return word.upper()


class Even(pydantic.BaseModel):
    number: int

    @pydantic.field_validator("number")
    @classmethod
    def even(cls, number):
        if number % 2:
            raise ValueError("odd")
        return number


class Point(NamedTuple):
    x: int
    y: int


@dataclass
class Pair:
    left: str
    right: int = 0


class Keys(TypedDict):
    a: int


CASES = [  # type, what the model writes, whether it is shown wrong before it is known
    (decimal.Decimal, "1.5"),
    (decimal.Decimal, '"1.5"'),
    (decimal.Decimal, "12.50"),
    (list[decimal.Decimal], '[1.5, "12.50", 3]'),
    (int, "1.5"),
    (int, "42.0"),
    (float, "1"),
    (bool, "1"),
    (dt.date, "2024-01-02"),
    (list[dt.date], '["2024-01-02"]'),
    (int | str, "3"),
    (list[int], '["1", 2]'),
    (list[int], "[1.0, 2]"),
    (list[float], "[1, 2.5]"),
    (list[float], f"[1, {'9' * 320}]"),
    (list[bool], "[1, false]"),
    (list[str], '["a", 1]'),
    (list[Color], '["red", "BLUE"]'),
    (list[Literal["a", "b"]], '["a", "c"]'),
    (dict[str, Any], '"{\\"a\\": 1}"'),
    (list[int], '"[1, 2]"'),
    (Item, '"{\\"name\\": \\"x\\"}"'),
    (Item, '{"name": "x", "more": {"deep": [1]}, "size": 3}'),
    (list[Item], '[{"name": "x", "more": 1}, {"name": "y", "size": "2"}, {"name": "z"}]'),
    (Pair, '{"left": "a", "middle": 1, "right": 2}'),
    (Keys, '{"a": 1, "b": 2}'),
    (Named, '{"written": "abc", "inside": {"name": "n"}}'),
    (Point, '{"x": 1, "y": 2}'),
    (Point, "[1, 2]"),
    (set[int], "[3, 1, 3, 2]"),
    (frozenset[str], '["b", "a"]'),
    (dict[int, int], '{"1": 2}'),
    (list[list[int]], "[1, 2], [3]"),
    (Any, '{"a": [1, "2"]}'),
    (list[Color] | None, '["red"]'),
    (Item | None, "null"),
    (dict[str, int] | None, "None"),
    (dict[dt.datetime, list[float]], '{"2024-01-02T10:00:00": [1]}'),
]
IN_ELEMENTS = [  # the same in XML
    (list[int], "<item>1</item><item>1.5</item>"),
    (list[float], "<item>1</item><item>2.5</item>"),
    (list[float], f"<item>1</item><item>{'9' * 320}</item>"),
    (list[bool], "<item>true</item><item>yes</item>"),
    (list[Color], "<item>red</item><item>BLUE</item>"),
    (list[decimal.Decimal], "<item>1.5</item>"),
    (set[int], "<item>3</item><item>1</item>"),
    (Item, "<name>x</name><more><deep>1</deep></more><size>3</size>"),
    (Named, "<written>abc</written><inside><name>n</name></inside>"),
    (Point, "<x>1</x><y>2</y>"),
    (dict[str, Any], "<a>1</a><a>2</a>"),
    (Any, "<a>1</a><a>2</a>"),
]
GIVEN_UP = [  # where the adapter makes an object of a list
    (dict[str, Any], "<a><item>1</item><item>2</item></a>"),
    (Any, "<item>1</item><item>2</item>"),
    (list, "<item>1</item><item><item>2</item></item>"),
]
WRONG = [(Loud, '{"word": "quiet"}'), (list[Loud], '[{"word": "a"}]')]
"""What only the user's validators know."""
ADAPTERS = (dspy.ChatAdapter, dspy.JSONAdapter, dspy.XMLAdapter)


def program(annotation):
    fields = {
        "question": (str, dspy.InputField()),
        "value": (annotation, dspy.OutputField()),
        "end": (str, dspy.OutputField()),
    }
    return dspy.Predict(dspy.Signature(fields))


def written(adapter, text):
    if adapter is dspy.JSONAdapter:
        try:
            json.loads(text)
        except ValueError:
            text = json.dumps(text)
        return f'{{"value": {text}, "end": "x"}}'
    if adapter is dspy.XMLAdapter:
        return f"<value>\n{text}\n</value>\n\n<end>\nx\n</end>"
    return f"[[ ## value ## ]]\n{text}\n\n[[ ## end ## ]]\nx\n\n[[ ## completed ## ]]"


@pytest.fixture(params=ADAPTERS, ids=lambda adapter: adapter.__name__)
def ask(request, practice):
    """All values that were shown of a field, its corrections, and the program's value."""

    def ask(annotation, text):
        practice.respond(lambda _: Reply(written(request.param, text), chunk=1))
        fields, shown, corrected = streamll.typed.Partials(), [], []
        order, value = OrderCheck(), None
        try:
            with dspy.context(lm=practice.lm(), adapter=request.param()):
                with streamll.stream(program(annotation))(question="?") as events:
                    for event in events:
                        order.check(event)
                        partial = fields.feed(event)
                        if partial is not None and event.field == "value":
                            shown.append((partial.state(), copy.deepcopy(partial.value)))
                        if event.event_type == "field.corrected":
                            corrected.append(event.field)
                    value = events.result().value
        except Exception as error:
            value = error
        return shown, corrected, value

    return ask


def plain(value):
    """As JSON has it, for a comparison that knows nothing of types."""
    if isinstance(value, tuple):
        value = list(value)
    return pydantic.TypeAdapter(Any).dump_python(value, mode="json")


def begins(shown, value):
    if isinstance(shown, dict) and isinstance(value, dict):
        return all(key in value and begins(part, value[key]) for key, part in shown.items())
    if isinstance(shown, list) and isinstance(value, list):
        return len(shown) <= len(value) and all(map(begins, shown, value))
    if isinstance(shown, str) and isinstance(value, str):
        return value.startswith(shown)
    return type(shown) is type(value) and shown == value


@pytest.mark.parametrize(
    ("case", "ask"),
    in_turn(CASES, ADAPTERS),
    indirect=["ask"],
    ids=lambda it: getattr(it, "__name__", None),
)
def test_what_is_shown_is_what_will_be_returned(ask, case):
    check(*ask(*case))


@pytest.mark.parametrize("ask", [dspy.XMLAdapter], indirect=True)
@pytest.mark.parametrize(("annotation", "text"), IN_ELEMENTS)
def test_elements_are_claims_too(ask, annotation, text):
    check(*ask(annotation, text))


@pytest.mark.parametrize("ask", [dspy.XMLAdapter], indirect=True)
@pytest.mark.parametrize(("annotation", "text"), GIVEN_UP)
def test_items_where_anything_may_stand_are_withheld(ask, annotation, text):
    *shown, last = ask(annotation, text)[0]
    assert all(begins(plain(each), plain(last[1])) for _, each in shown)


def check(shown, corrected, value):
    if isinstance(value, Exception):  # then nothing was called complete
        assert [state for state, _ in shown if state == "complete"] == []
        return
    assert shown[-1] == ("complete", value)
    # Equal sets may be in another order, so what equals the value begins it.
    is_right = all(each == value or begins(plain(each), plain(value)) for _, each in shown)
    assert is_right == ("value" not in corrected)


@pytest.mark.parametrize(("annotation", "text"), WRONG)
def test_what_is_shown_and_wrong_is_corrected(ask, annotation, text):
    _, corrected, value = ask(annotation, text)
    assert not isinstance(value, Exception)
    assert corrected == ["value"]


def test_complete_means_complete(ask):
    """A list from which something is withheld is not called complete before it is."""
    shown, _, value = ask(list[int], '["1", 2]')
    if isinstance(value, Exception):
        return
    assert [each for each in shown if each[0] == "complete"] == [("complete", [1, 2])]


# --- readers ------------------------------------------------------------------------------------


@pytest.fixture
def chat(practice):
    with dspy.context(lm=practice.lm(), adapter=dspy.ChatAdapter()):
        yield practice


def values(chat, annotation, text, read):
    chat.respond(lambda _: Reply(written(dspy.ChatAdapter, text), chunk=1))
    with streamll.stream(program(annotation))(question="?") as events:
        got = [copy.deepcopy(each) for each in read(events)]
    return got, events


def test_an_item_that_the_validator_refuses_is_no_error_of_the_reader(chat):
    """DSPy asks again with the JSON adapter; the run is saved, and the reader has its items."""
    asked = []

    def reply(request):
        asked.append(request)
        if len(asked) == 1:
            text = '[{"number": 2}, {"number": 3}]'
            return Reply(written(dspy.ChatAdapter, text), chunk=1)
        return Reply(written(dspy.JSONAdapter, '[{"number": 2}, {"number": 4}]'), chunk=1)

    chat.respond(reply)
    with streamll.stream(program(list[Even]))(question="?") as events:
        got = list(events.items("value"))
        value = events.result().value
    assert got == value == [Even(number=2), Even(number=4)]
    assert len(asked) == 2


@pytest.mark.parametrize("as_type", [list[list[int]], list[Even], dict[str, int]])
def test_partials_of_a_type_that_does_not_fit_are_no_error(chat, as_type):
    got, events = values(
        chat,
        list[list[int]],
        "[1, 2], [3]",
        lambda e: (p.value for p in e.partials("value", as_type)),
    )
    assert got[-1] == events.result().value == [[1, 2], [3]]


def test_items_of_another_type_than_asked_for_are_those_of_the_program(chat):
    got, _ = values(chat, list[int], "[1, 2]", lambda e: e.items("value", as_type=Even))
    assert got == [1, 2]


@pytest.mark.parametrize(
    ("text", "items", "value"),
    [
        ('["He said "hi" there", "b"]', ["He said "], ['He said "hi" there', "b"]),
        ('["a", "b"+"c"]', ["a", "b"], ["a", 'b"+"c']),
    ],
)
def test_an_element_that_dspy_repairs_is_there_as_well(chat, text, items, value):
    got, events = values(chat, list[str], text, lambda e: e.items("value"))
    assert events.result().value == value
    assert got == [*items, *value[len(items) - 1 :]]


@pytest.mark.parametrize("end", ["]", ",,]", ""])
def test_an_element_that_a_validator_changes_is_no_other_one(chat, end):
    """Not even where the program's list has to be looked at, and the reader has changed his."""

    def mark(events):
        for item in events.items("value"):
            item.word += "!"
            yield item

    got, _ = values(chat, list[Loud], f'[{{"word": "a"}}, {{"word": "b"}}{end}', mark)
    assert [each.word for each in got] == ["A!", "B!"]


@pytest.mark.parametrize(
    ("annotation", "text", "items"),
    [
        (list[Item] | None, '[{"name": "a"}]', [Item(name="a")]),
        (tuple[Item, ...], '[{"name": "a"}]', [Item(name="a")]),
        (Sequence[Item], '[{"name": "a"}]', [Item(name="a")]),
        (list[Color] | None, '["red", "blue"]', [Color.RED, Color.BLUE]),
        (set[Color], '["red", "red"]', [Color.RED]),
        (list[decimal.Decimal], "[1.5, 2]", [decimal.Decimal("1.5"), decimal.Decimal(2)]),
    ],
)
@pytest.mark.parametrize("cached", [False, True])
def test_items_have_their_type(chat, annotation, text, items, cached):
    with dspy.context(lm=chat.lm(cache=True)):
        got, _ = values(chat, annotation, text, lambda e: e.items("value"))
        if cached:
            got, _ = values(chat, annotation, text, lambda e: e.items("value"))
            assert len(chat.requests) == 1
    assert got == items
    assert list(map(type, got)) == list(map(type, items))
