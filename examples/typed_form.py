"""A form that fills in while the model is still writing it.

On a terminal the form is redrawn in place; elsewhere each new state is printed. Only what is certain
is shown: text grows, numbers and choices appear when complete, rows appear one by one.
"""

import sys
from typing import Literal

import dspy
from _model import language_model
from pydantic import BaseModel

import streamll
from streamll import typed


class Line(BaseModel):
    article: str
    count: int
    price: float


class Order(BaseModel):
    customer: str
    delivery: Literal["pick-up", "courier", "post"]
    lines: list[Line]


class ReadOrder(dspy.Signature):
    """Fill in the order form."""

    letter: str = dspy.InputField()
    order: Order = dspy.OutputField()


SIGNS = {"pending": "○", "partial": "◐", "complete": "●"}


def form(partial: typed.Partial[Order]) -> list[str]:
    """The form as far as it is filled in; missing values are ``None``."""
    order = partial.value
    lines = [
        f"{SIGNS[partial.state_of('customer')]} Customer  {order.customer or ''}",
        f"{SIGNS[partial.state_of('delivery')]} Delivery  {order.delivery or ''}",
        f"{SIGNS[partial.state_of('lines')]} Articles",
    ]
    for number, line in enumerate(order.lines or []):
        sign = SIGNS[partial.state_of("lines", number)]
        price = "·" if line.price is None else f"{line.price:.2f}"
        lines.append(f"  {sign} {line.count or '·':>3} × {line.article or '':<14}{price:>6}")
    return lines


def show(lines: list[str], before: list[str]) -> None:
    if sys.stdout.isatty():
        print(f"\x1b[{len(before)}A\x1b[J" if before else "", end="")
    elif before:
        print("---")
    print("\n".join(lines), flush=True)


REPLY = {
    "order": {
        "customer": "Ada Lovelace, St James's Square",
        "delivery": "courier",
        "lines": [
            {"article": "punched cards", "count": 500, "price": 12.5},
            {"article": "ink", "count": 2, "price": 3.8},
        ],
    }
}

with language_model(REPLY) as lm:
    dspy.configure(lm=lm, adapter=dspy.JSONAdapter())
    read = dspy.Predict(ReadOrder)
    shown: list[str] = []
    with streamll.stream(read)(letter="Dear Sirs, …") as events:
        for partial in events.partials("order", Order):
            lines = form(partial)
            if lines != shown:
                show(lines, shown)
                shown = lines
        order = events.result().order

total = sum(line.count * line.price for line in order.lines)
print(f"\nThe program returned an {type(order).__name__} of {len(order.lines)} lines: {total:.2f}")
