"""Programs with every kind of type, for ``streamll types``; ``typed_programs.d.ts`` is what it writes."""

import datetime as dt
import decimal
import enum
from dataclasses import dataclass
from typing import Annotated, Any, Generic, Literal, TypeVar

import dspy
from pydantic import BaseModel, Field, JsonValue
from typing_extensions import Required, TypedDict

from streamll.serve.programs import Served

print("this is printed where the module is imported")


class Severity(enum.Enum):
    LOW = "low"
    HIGH = "high"


class Level(enum.IntEnum):
    ONE = 1
    TWO = 2


class Tree(BaseModel):
    """A tree. */ const injected = 1; /*

    Of this only the first paragraph is there.
    """

    label: str | None = None
    children: list["Tree"] = []


class Cat(BaseModel):
    kind: Literal["cat"]
    lives: int


class Dog(BaseModel):
    kind: Literal["dog"]
    barks: Literal[True] = True


@dataclass
class Place:
    """Where something is,
    in two lines.
    """

    line: int
    column: float = 0


class Options(TypedDict, total=False):
    depth: Required[int]
    words: str


Item = TypeVar("Item")


class Page(BaseModel, Generic[Item]):
    items: list[Item]


class Finding(BaseModel):
    title: str = Field(description="In a few words")
    line_number: int = Field(alias="line-number")
    severity: Severity = Severity.LOW
    cost: decimal.Decimal = decimal.Decimal(0)
    since: dt.datetime | None = None
    pet: Annotated[Cat | Dog, Field(discriminator="kind")]
    range: tuple[int, Literal["a", "b"]]
    ranges: tuple[int, ...]
    by_letter: dict[Literal["a", "b"], Place]
    by_number: dict[int, list[str | int]]
    anything: Any
    json_value: JsonValue = None


class Review(dspy.Signature):
    """Review the code.

    How it is done is the model's matter.
    """

    code: str = dspy.InputField(desc='With "quotes", */ and\nlines')
    style: Literal["short", 'in "quotes"', "über"] = dspy.InputField()
    levels: list[Level] = dspy.InputField(default=[])
    known: Finding = dspy.InputField()
    history: dspy.History = dspy.InputField()
    picture: dspy.Image | None = dspy.InputField()
    findings: list[Finding] = dspy.OutputField(desc="What is wrong")
    tree: Tree = dspy.OutputField()
    options: Options = dspy.OutputField()
    page: Page[Severity] = dspy.OutputField()
    patch: dspy.Code = dspy.OutputField()
    tags: set[str] = dspy.OutputField()
    calls: dspy.ToolCalls = dspy.OutputField()
    sketch: dspy.Image = dspy.OutputField()
    note: str | None = dspy.OutputField()
    verdict: str = dspy.OutputField()


class NotData:
    """No value of it can be sent."""


class TwoSteps(dspy.Module):
    """Plan, then write."""

    def __init__(self):
        super().__init__()
        self.plan = dspy.Predict("topic -> outline: list[str], title: int")
        self.write = dspy.ChainOfThought("outline -> title, text")

    def forward(self, topic, depth: int | None = None, own: NotData | None = None):
        outline = self.plan(topic=topic).outline
        return self.write(outline=outline)


def greet(name: str, loudly: bool = False, **rest):
    """A function is a program, too."""


review = dspy.Predict(Review)
only_text = Served(name="the text-only one", program=TwoSteps(), fields=("write.text",))
