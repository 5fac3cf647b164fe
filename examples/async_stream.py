"""Read a running program in an ``async for`` loop, two questions at a time, and leave early.

Leaving the ``async with`` block stops the program and closes the provider's connection.
"""

import asyncio

import dspy
from _model import language_model

import streamll

ANSWERS = {
    "Why is the sky blue?": {
        "reasoning": "Short waves scatter more than long ones.",
        "answer": "Because air scatters blue light.",
    },
    "Why is grass green?": {
        "reasoning": "Leaves keep red and blue light.",
        "answer": "Because chlorophyll reflects green.",
    },
    "Why is snow white?": {
        "reasoning": "Snow scatters every colour alike, so none is missing from what we see.",
        "answer": "Because it keeps no colour for itself.",
    },
}

qa = dspy.ChainOfThought("question -> answer")


async def ask(question):
    async with streamll.stream(qa, fields=["answer"])(question=question) as events:
        async for event in events:
            if event.event_type == "token":
                print(f"[{question}] {event.token!r}")
        prediction = await events.result()
    return prediction.answer


async def first_words(question, count):
    words = []
    async with streamll.stream(qa, fields=["reasoning"])(question=question) as events:
        async for event in events:
            if event.event_type == "token":
                words.append(event.token)
            if len(words) == count:
                break
    return "".join(words)


async def main():
    answers = await asyncio.gather(ask("Why is the sky blue?"), ask("Why is grass green?"))
    print(f"Both answers: {len(answers)}")
    print(f"The first words only: {await first_words('Why is snow white?', 5)}")


with language_model(respond=lambda request: ANSWERS[request.inputs["question"]]) as lm:
    dspy.configure(lm=lm)
    asyncio.run(main())
