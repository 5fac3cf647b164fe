"""Many questions at once, at most two at a time, with a progress bar each; results in order."""

import asyncio

import dspy
from _model import language_model

from streamll import gather_streams
from streamll.streams import StreamProgress

QUESTIONS = [f"What is {topic}?" for topic in ("Rust", "Python", "DSPy", "a token")]


async def main():
    with StreamProgress() as progress:  # shows nothing where the output is no terminal
        results = await gather_streams(
            QUESTIONS, max_concurrent=2, on_event=progress.add_all(QUESTIONS)
        )
    for question, result in zip(QUESTIONS, results, strict=True):
        print(f"{question} {result.text}")
    print(f"{sum(result.completion_tokens or 0 for result in results)} tokens in all")


with language_model(
    respond=lambda request: {"answer": f"An answer to {request.inputs['question']!r}."}
) as lm:
    dspy.configure(lm=lm)
    asyncio.run(main())
