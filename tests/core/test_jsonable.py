"""Every value a program puts into an event can be written as JSON."""

from __future__ import annotations

import dataclasses
import datetime as dt
import enum
import json

import msgspec
import pytest

from streamll.configuration import clip
from streamll.core.jsonable import MAX_DEPTH, as_text, plain, render
from streamll.core.wire import to_dict


class Colour(enum.Enum):
    RED = "red"


@dataclasses.dataclass
class Point:
    x: int
    on: dt.date


class Row(msgspec.Struct):
    name: str


class Dumped:
    def __init__(self, result):
        self.result = result

    def model_dump(self):
        if isinstance(self.result, Exception):
            raise self.result
        return self.result


class Broken:
    def __str__(self):
        raise RuntimeError("no text of mine")


@pytest.mark.parametrize(
    ("value", "becomes"),
    [
        (Point(1, dt.date(2026, 1, 2)), {"x": 1, "on": "2026-01-02"}),
        (Row("a"), {"name": "a"}),
        (Colour.RED, "red"),
        ({7: "a", None: "b", True: "c", (2, 3): "d"}, {"7": "a", "null": "b", "true": "c", "(2, 3)": "d"}),
        (frozenset([7]), [7]),
        (range(3), [0, 1, 2]),
        (ValueError("no"), "ValueError: no"),
        (Dumped({"a": Colour.RED}), {"a": "red"}),
        (dict, "builtins.dict"),
        (Broken(), "<Broken>"),
        ("half \ud83d of a pair", "half \ufffd of a pair"),
        ({"\udc00": 1}, {"\ufffd": 1}),
        (None, None),
        (2.5, 2.5),
    ],
    ids=lambda value: ascii(value)[:30] if not isinstance(value, Broken) else "broken",
)  # fmt: skip
def test_values_become_plain_data(value, becomes):
    assert plain(value) == becomes
    assert json.loads(as_text(value)) == becomes


def test_objects_without_a_dump_become_their_str():
    value = Dumped(ValueError("not now"))
    assert render(value) == str(value)


def nested(levels):
    value = "bottom"
    for _ in range(levels):
        value = [value]
    return value


def test_what_contains_itself_is_the_name_of_its_type_there():
    mapping, twice = {}, []
    mapping["again"] = mapping
    twice += [twice, twice]  # if it were followed for 40 levels, no run would ever end
    assert plain(mapping) == {"again": "<dict>"}
    assert plain(twice) == clip(twice, 10) == ["<list>", "<list>"]
    assert (
        plain([twice, 1, twice]) == clip([twice, 1, twice], 10) == [plain(twice), 1, plain(twice)]
    )


@pytest.mark.parametrize("made", [plain, lambda value: clip(value, 10)], ids=["plain", "clip"])
def test_what_is_too_deep_is_the_name_of_its_type_there(made):
    assert made(nested(MAX_DEPTH)) == nested(MAX_DEPTH)
    found = made(nested(MAX_DEPTH + 1))
    for _ in range(MAX_DEPTH):
        [found] = found
    assert found == "<list>"


def test_the_same_thing_in_two_places_is_no_loop():
    shared = {"a": 1}
    assert plain([shared, shared]) == clip((shared, shared), 10) == [{"a": 1}, {"a": 1}]


def test_objects_that_raise_on_access_become_their_type_name():
    class Locked(dict):
        def items(self):
            raise PermissionError

    assert plain([Locked(a=1), "next"]) == ["<Locked>", "next"]


def test_events_are_not_plain_by_themselves():
    """``to_dict`` leaves values as they are; who writes them makes them plain."""
    from streamll.core.events import ToolEnd

    event = ToolEnd(name="t", duration=1.0, result=Point(1, dt.date(2026, 1, 2)))
    assert to_dict(event)["result"] is event.result
