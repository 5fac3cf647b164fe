"""``streamll.watch()`` on an unchanged agent: turns, tools and tokens, live."""

import dspy
from _model import language_model

import streamll

PRICES = {"apples": 2.40, "pears": 3.10}


def price(fruit: str) -> float:
    """The price of a kilogram of a fruit."""
    return PRICES[fruit]


agent = dspy.ReAct("question -> answer", tools=[price])

with language_model(
    {
        "next_thought": "I need the price of apples first.",
        "next_tool_name": "price",
        "next_tool_args": {"fruit": "apples"},
    },
    {
        "next_thought": "Now the price of pears.",
        "next_tool_name": "price",
        "next_tool_args": {"fruit": "pears"},
    },
    {
        "next_thought": "I know both prices.",
        "next_tool_name": "finish",
        "next_tool_args": {},
    },
    {
        "reasoning": "2 kg of apples are 4.80, one kg of pears is 3.10; together 7.90.",
        "answer": "7.90",
    },
) as lm:
    dspy.configure(lm=lm)
    with streamll.watch():
        result = agent(question="What do 2 kg of apples and 1 kg of pears cost?")

print(f"\nThe program returned: {result.answer}")
