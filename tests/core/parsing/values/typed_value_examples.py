"""Random schemas as pydantic types, and random valid values of them as JSON."""

from __future__ import annotations

import datetime as dt
import enum
from dataclasses import dataclass
from typing import Annotated, Any, Literal, Optional, Union

from hypothesis import strategies as st
from pydantic import BaseModel, Field, TypeAdapter
from typing_extensions import TypedDict


class Colour(enum.Enum):
    RED = "red"
    DEEP_BLUE = "deep blue"


class Address(BaseModel):
    street: str
    zip_code: str = Field(alias="zipCode")
    since: dt.date | None = None


class Person(BaseModel):
    name: str
    age: int
    address: Address
    tags: list[str] = []


class Circle(BaseModel):
    kind: Literal["circle"]
    size: float
    note: str = ""


class Label(BaseModel):
    kind: Literal["label"]
    size: Literal["small", "large"]
    note: dt.date


Figure = Annotated[Union[Circle, Label], Field(discriminator="kind")]  # noqa: UP007


class Drawing(BaseModel):
    title: str
    figures: list[Figure]


class Tree(BaseModel):
    label: str
    children: list[Tree] = []


@dataclass
class Point:
    x: float
    y: float
    name: str = "origin"


class Movie(TypedDict, total=False):
    title: str
    year: int
    ratings: dict[str, float]


texts = st.text(max_size=12)
dates = st.dates().map(str)
numbers = st.floats(allow_nan=False, allow_infinity=False)
integers = st.integers(-(10**12), 10**12)

addresses = st.fixed_dictionaries(
    {"street": texts, "zipCode": texts}, optional={"since": st.none() | dates}
)
people = st.fixed_dictionaries(
    {"name": texts, "age": integers, "address": addresses},
    optional={"tags": st.lists(texts, max_size=3)},
)
circles = st.fixed_dictionaries(
    {"kind": st.just("circle"), "size": numbers}, optional={"note": texts}
)
labels = st.fixed_dictionaries(
    {"kind": st.just("label"), "size": st.sampled_from(["small", "large"]), "note": dates}
)
trees = st.recursive(
    st.fixed_dictionaries({"label": texts}),
    lambda inner: st.fixed_dictionaries({"label": texts, "children": st.lists(inner, max_size=3)}),
    max_leaves=6,
)

LEAVES: list[tuple[Any, st.SearchStrategy[Any]]] = [
    (str, texts),
    (int, integers),
    (float, numbers),
    (bool, st.booleans()),
    (dt.date, dates),
    (Colour, st.sampled_from(["red", "deep blue"])),
    (Literal["yes", "no", 3], st.sampled_from(["yes", "no", 3])),
    (Optional[str], st.none() | texts),  # noqa: UP045
    (Union[int, str], integers | texts),  # noqa: UP007
    (Union[dt.date, None, int], dates | st.none() | integers),  # noqa: UP007
    (Person, people),
    (Drawing, st.fixed_dictionaries({"title": texts, "figures": st.lists(circles | labels)})),
    (Tree, trees),
    (Point, st.fixed_dictionaries({"x": numbers, "y": numbers}, optional={"name": texts})),
    (
        Movie,
        st.fixed_dictionaries(
            {},
            optional={
                "title": texts,
                "year": integers,
                "ratings": st.dictionaries(texts, numbers, max_size=3),
            },
        ),
    ),
]


@st.composite
def typed_values(draw: st.DrawFn) -> tuple[Any, Any]:
    """A type and a value of it as JSON has it."""
    annotation, values = draw(st.sampled_from(LEAVES))
    for _ in range(draw(st.integers(0, 2))):
        if draw(st.booleans()):
            annotation, values = list[annotation], st.lists(values, max_size=4)
        else:
            annotation, values = dict[str, annotation], st.dictionaries(texts, values, max_size=3)
    return annotation, draw(values)


@st.composite
def reordered(draw: st.DrawFn, value: Any) -> Any:
    """The value with the members of its objects in any order."""
    if isinstance(value, dict):
        keys = draw(st.permutations(list(value)))
        return {key: draw(reordered(value[key])) for key in keys}
    if isinstance(value, list):
        return [draw(reordered(item)) for item in value]
    return value


@st.composite
def cut(draw: st.DrawFn, text: str) -> list[str]:
    """The text in chunks: single characters, a few pieces, or whole."""
    if draw(st.booleans()):
        return list(text)
    places = draw(st.sets(st.integers(1, max(1, len(text) - 1)), max_size=20))
    ends = [*sorted(place for place in places if place < len(text)), len(text)]
    return [text[start:end] for start, end in zip([0, *ends[:-1]], ends, strict=True)]


def schema_of(annotation: Any) -> dict[str, Any]:
    return TypeAdapter(annotation).json_schema()
