"""Random types of output fields, and what models write for them: mostly right, sometimes not quite."""

from __future__ import annotations

import datetime as dt
import decimal
import enum
import json
import pathlib
import uuid
from collections import namedtuple
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, make_dataclass
from typing import Annotated, Any, Generic, Literal, NamedTuple, Optional, TypeVar, Union

from hypothesis import strategies as st
from pydantic import AfterValidator, BaseModel, ConfigDict, Field, RootModel, create_model
from typing_extensions import TypedDict

T = TypeVar("T")


class Word(enum.Enum):
    ONE = "1"
    RED = "red"


class Number(enum.IntEnum):
    ONE = 1
    TWO = 2


class Mixed(enum.Enum):
    ONE = 1
    WORD = "word"
    TRUE = True


class Spot(NamedTuple):
    x: int
    name: str = "spot"


class Named(BaseModel):
    a: dict[str, Any] = Field(alias="a_")
    more: set[int]


class Tree(BaseModel):
    label: str
    children: list[Tree] = []


class Box(BaseModel, Generic[T]):
    inside: T


class Root(RootModel[T], Generic[T]):
    pass


class Cat(BaseModel):
    kind: Literal["cat"]
    size: int
    lives: float = 9


class Dog(BaseModel):
    kind: Literal["dog"]
    size: str
    since: dt.date | None = None


Pet = Annotated[Union[Cat, Dog], Field(discriminator="kind")]  # noqa: UP007


class Keys(TypedDict, total=False):
    a: int
    b: list[str]


@dataclass
class Pair:
    left: str
    right: float = 0.0


class Extra(BaseModel):
    model_config = ConfigDict(extra="allow")
    own: int = 0


class Strict(BaseModel):
    model_config = ConfigDict(extra="forbid", populate_by_name=True)
    own: str = Field("x", alias="written")


class Bare(BaseModel):
    model_config = ConfigDict(str_strip_whitespace=True)
    word: str


texts = st.text(alphabet="ab1 .\"'\\\n,:{}[]<>&é", max_size=6) | st.sampled_from(
    ["1", "true", "null", "1.0", "red", "None", "2024-01-02", "[1]", '{"a": 1}']
)
integers = st.integers(-30, 1000) | st.just(10**20)
floats = st.floats(-1e9, 1e9) | st.sampled_from([1.0, -0.0, 2.5, 1e300])
cats = st.fixed_dictionaries({"kind": st.just("cat"), "size": integers}, optional={"lives": floats})
dogs = st.fixed_dictionaries({"kind": st.just("dog"), "size": texts})
trees = st.recursive(
    st.fixed_dictionaries({"label": texts}),
    lambda inner: st.fixed_dictionaries({"label": texts, "children": st.lists(inner, max_size=2)}),
    max_leaves=3,
)

Shape = tuple[Any, st.SearchStrategy[Any]]
PLAIN: list[Shape] = [  # what a set can hold
    (str, texts),
    (int, integers),
    (float, floats),
    (bool, st.booleans()),
    (decimal.Decimal, floats.map(str) | integers | st.sampled_from(["12.50", 1.5])),
    (dt.date, st.dates().map(str)),
    (dt.datetime, st.datetimes().map(str) | st.just(1700000000)),
    (dt.time, st.times().map(str)),
    (dt.timedelta, st.sampled_from(["P1DT2H", 90, "01:02:03", 1.5])),
    (uuid.UUID, st.uuids().map(str) | st.uuids().map(lambda each: each.hex)),
    (pathlib.Path, st.sampled_from(["a/b", "a//b/", "/x/../y", "."])),
    (bytes, texts),
    (Literal["1", "yes"], st.sampled_from(["1", "yes", 1])),
    (Literal[1, "1", 2, True], st.sampled_from([1, "1", 2, True, "2"])),
    (Word, st.sampled_from(["1", "red", "RED", 1])),
    (Number, st.sampled_from([1, 2, "1", "TWO", 1.0])),
    (Mixed, st.sampled_from([1, "word", True, "ONE"])),
    (Annotated[int, Field(ge=0)], integers),
    (Annotated[str, Field(min_length=1)], texts),
    (Annotated[str, AfterValidator(str.upper)], texts),
    (Annotated[int, AfterValidator(lambda value: value + 1)], integers),
]
OTHERS: list[Shape] = [
    (Any, st.recursive(texts | integers | st.none(), lambda each: st.lists(each, max_size=2))),
    (Spot, st.fixed_dictionaries({"x": integers}, optional={"name": texts}) | st.tuples(integers)),
    (Tree, trees),
    (Pet, cats | dogs),
    (Union[Cat, Dog], cats | dogs),  # noqa: UP007
    (Keys, st.fixed_dictionaries({}, optional={"a": integers, "b": st.lists(texts, max_size=2)})),
    (Pair, st.fixed_dictionaries({"left": texts}, optional={"right": floats | integers})),
    (Extra, st.fixed_dictionaries({}, optional={"own": integers, "free": texts | integers})),
    (Strict, st.fixed_dictionaries({}, optional={"written": texts, "own": texts})),
    (Bare, st.fixed_dictionaries({"word": texts})),
    (dict[str, Any], st.dictionaries(texts, texts | integers, max_size=2)),
    (list, st.lists(integers | texts, max_size=2)),
]


@st.composite
def shapes(draw: st.DrawFn, depth: int = 3) -> Shape:
    """A type, and the values that a model writes for it."""
    if depth == 0 or draw(st.integers(0, 3)) == 0:
        return draw(st.sampled_from(PLAIN + OTHERS))
    return draw(st.sampled_from(MAKERS))(draw, depth - 1)


def optional(draw: st.DrawFn, depth: int) -> Shape:
    kind, values = draw(shapes(depth))
    return Optional[kind], values | st.none()  # noqa: UP045


def union(draw: st.DrawFn, depth: int) -> Shape:
    (one, ones), (two, twos) = draw(shapes(depth)), draw(shapes(depth))
    return Union[one, two], ones | twos  # noqa: UP007


def listed(draw: st.DrawFn, depth: int) -> Shape:
    kind, values = draw(shapes(depth))
    form = draw(st.sampled_from([list[kind], tuple[kind, ...], Sequence[kind]]))
    return form, st.lists(values, max_size=3)


def set_of(draw: st.DrawFn, depth: int) -> Shape:
    kind, values = draw(st.sampled_from(PLAIN))
    return draw(st.sampled_from([set, frozenset]))[kind], st.lists(values, max_size=3)


def mapped(draw: st.DrawFn, depth: int) -> Shape:
    kind, values = draw(shapes(depth))
    keys, written = draw(
        st.sampled_from(
            [
                (str, texts),
                (int, integers.map(str)),
                (Word, st.just("red")),
                (float, integers.map(str) | floats.map(str)),
                (dt.datetime, st.datetimes().map(lambda each: each.isoformat("T"))),
                (bool, st.sampled_from(["true", "False"])),
            ]
        )
    )
    form = draw(st.sampled_from([dict, Mapping]))
    return form[keys, kind], st.dictionaries(written, values, max_size=3)


def pair(draw: st.DrawFn, depth: int) -> Shape:
    (one, ones), (two, twos) = draw(shapes(depth)), draw(shapes(depth))
    return tuple[one, two], st.tuples(ones, twos).map(list)


def boxed(draw: st.DrawFn, depth: int) -> Shape:
    kind, values = draw(shapes(depth))
    return Box[kind], st.fixed_dictionaries({"inside": values})


def rooted(draw: st.DrawFn, depth: int) -> Shape:
    kind, values = draw(shapes(depth))
    return Root[kind], values


def members(draw: st.DrawFn, depth: int) -> Shape:
    """A model, dataclass, ``TypedDict`` or ``NamedTuple`` of some members."""
    names = ["a", "b", "item"][: draw(st.integers(1, 3))]
    inner = {name: draw(shapes(depth)) for name in names}
    kinds = {name: kind for name, (kind, _) in inner.items()}
    form = draw(st.sampled_from(["model", "aliases", "dataclass", "dict", "tuple"]))
    values = st.fixed_dictionaries(
        {f"{name}_" if form == "aliases" else name: each for name, (_, each) in inner.items()}
    )
    if form in ("model", "aliases"):
        alias = {name: f"{name}_" if form == "aliases" else None for name in names}
        fields = {name: (kind, Field(alias=alias[name])) for name, kind in kinds.items()}
        return create_model("Made", **fields), with_more(values)
    if form == "dataclass":
        return make_dataclass("MadeData", list(kinds.items())), with_more(values)
    if form == "dict":
        return TypedDict("MadeDict", kinds), with_more(values)
    made = namedtuple("MadeTuple", names)  # noqa: PYI024 - of names that are drawn
    made.__annotations__ = kinds
    return made, values | values.map(lambda each: list(each.values()))


def with_more(values: st.SearchStrategy[Any]) -> st.SearchStrategy[Any]:
    """Sometimes with a key that nobody asked for."""
    more = st.dictionaries(
        st.sampled_from(["more", "a"]), texts | st.just({"deep": [1]}), max_size=1
    )
    return values | st.builds(lambda value, extra: {**extra, **value}, values, more)


MAKERS = (optional, union, listed, set_of, mapped, pair, boxed, rooted, members)


@st.composite
def written_for(draw: st.DrawFn, values: st.SearchStrategy[Any]) -> tuple[Any, str]:
    """A value, and its JSON as models write it: also in ways that DSPy repairs."""
    value = draw(values)
    text = json.dumps(
        value, ensure_ascii=draw(st.booleans()), indent=draw(st.sampled_from([None, 2]))
    )
    style = draw(
        st.sampled_from(["plain"] * 4 + ["quoted", "fence", "commas", "python", "strings"])
    )
    if style == "quoted":
        text = json.dumps(text)
    elif style == "fence":
        text = f"```json\n{text}\n```"
    elif style == "commas":
        text = text.replace("]", ",]").replace("}", ",}")
    elif style == "python":
        text = repr(value)
    elif style == "strings":
        text = json.dumps(as_strings(value))
    return value, text


def as_strings(value: Any) -> Any:
    """Numbers written as texts, which pydantic reads as numbers."""
    if isinstance(value, dict):
        return {key: as_strings(each) for key, each in value.items()}
    if isinstance(value, (list, tuple)):
        return [as_strings(each) for each in value]
    return value if value is None else str(value)
