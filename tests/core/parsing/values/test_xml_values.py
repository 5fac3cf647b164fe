"""Values in nested XML elements: how they are read, and when the reader gives up."""

from __future__ import annotations

from typing import Any

import pytest
from pydantic import BaseModel, TypeAdapter

from streamll.core.events import FieldPartial
from streamll.core.parsing.values.schema import SchemaView
from streamll.core.parsing.values.xml import XMLValueReader
from streamll.core.partials import PartialValue


class City(BaseModel):
    name: str
    people: int
    nearby: list[str] = []


def shape_of(kind):
    schema = TypeAdapter(kind).json_schema()
    return SchemaView(((schema, schema.get("$defs", {})),))


def read(kind, text, size=1):
    """The value that the changes add up to, and the reader."""
    reader, value = XMLValueReader(shape_of(kind)), PartialValue()
    pieces = [text[at : at + size] for at in range(0, len(text), size)]
    for changes in [*map(reader.feed, pieces), reader.finish()]:
        for change in changes:
            value.apply(FieldPartial(field="f", **change._asdict()))
    return value, reader


@pytest.mark.parametrize(
    ("kind", "text", "value"),
    [
        (list[str], "<item>a</item> <item> b </item>", ["a", "b"]),
        (list[int], "<item>1</item><item>20</item>", [1, 20]),
        (list[bool], "<item>true</item><item>False</item>", [True, False]),
        (City, "<name>Rome</name><people>3</people><nearby><item>Ostia</item></nearby>",
         {"name": "Rome", "people": 3, "nearby": ["Ostia"]}),
        (City, "<more><item>1</item></more><name>Rome</name><people>3</people>",
         {"name": "Rome", "people": 3}),
        (dict[str, int], '<entry key="a b">1</entry><c>2</c>', {"a b": 1, "c": 2}),
        (list[int], "[1, 2]", [1, 2]),
        (City, '{"name": "Rome", "people": 3}', {"name": "Rome", "people": 3}),
    ],
)  # fmt: skip
@pytest.mark.parametrize("size", [1, 3, 1000])
def test_elements_are_read_as_the_schema_says(kind, text, value, size):
    found, reader = read(kind, text, size)
    assert found.value == value
    assert found.is_complete
    assert reader.is_exact
    assert reader.builder.value == value


@pytest.mark.parametrize(
    ("kind", "text", "told"),
    [
        (list[str], "<item>a</item>loose<item>b</item>", ["a"]),  # text beside elements
        (list[str], "<item>a</item><other>b</other>", ["a"]),  # another name in a list
        (list[str], "<item>a</item><item>b<i>c</i></item>", ["a", "b"]),  # elements in a text
        (list[list[int]], "<item>[1, 2]</item>", []),  # JSON below the outermost place
        (dict[str, Any], "<a>1</a><b><item>c</item></b>", {"a": "1"}),  # {"item": "c"} there
        (list, "<item>a</item><item><item>b</item></item>", ["a"]),
        (list[int], "<item>1</item", []),  # cut in a tag, so that nothing is certain behind it
    ],
)
@pytest.mark.parametrize("size", [1, 1000])
def test_elements_the_adapter_reads_differently_are_given_up(kind, text, told, size):
    found, reader = read(kind, text, size)
    assert not reader.is_exact
    assert not found.is_complete
    assert found.value in (told, None)


def test_a_repeated_member_is_not_exact():
    found, reader = read(City, "<name>Rome</name><name>Oslo</name><people>3</people>")
    assert found.value == {"name": "Rome", "people": 3}
    assert not reader.is_exact
