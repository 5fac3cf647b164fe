"""Streams read to their end, and what they came to."""

from __future__ import annotations

import asyncio
import inspect
from dataclasses import dataclass, field
from typing import Any

import dspy

import streamll
from streamll.core.events import Event

TEXT = "one two three four five six seven"
WHOLE = f"[[ ## answer ## ]]\n{TEXT}\n\n[[ ## completed ## ]]"

LIMITS_S = (0.2, 1.0, 5.0, 25.0)
"""Time limits to try one after the other, until the machine is quick enough for what has to come
within it: the request at the server, the text at its reader."""


def script_anew(practice, *replies) -> None:
    """Script these replies alone.

    A request that a time limit ended before it arrived has left its reply to the next one, which may
    have another limit: a silent reply, where none ends the silence.
    """
    practice.requests.clear()
    practice._scripted.clear()
    practice.script(*replies)


@dataclass
class Outcome:
    """What one stream came to."""

    events: list[Event] = field(default_factory=list)
    error: BaseException | None = None
    text: str = ""
    prediction: Any = None

    @property
    def types(self) -> list[str]:
        return [event.event_type for event in self.events]

    def of(self, kind: str) -> list[Event]:
        return [event for event in self.events if event.event_type == kind]


class AsyncQA(dspy.Module):
    def __init__(self):
        super().__init__()
        self.predict = dspy.Predict("question -> answer")

    async def aforward(self, question):
        return await self.predict.acall(question=question)


def text_of(events) -> str:
    try:
        return events.text("answer")
    except streamll.UnknownFieldError:  # a program without predictors
        return ""


def run_sync(config, program=None, on_event=lambda event: None, **options) -> Outcome:
    outcome = Outcome()
    program = program or dspy.Predict("question -> answer")
    with streamll.stream(program, config=config, **options)(question="Why?") as events:
        try:
            for event in events:
                outcome.events.append(event)
                on_event(event)
            outcome.prediction = events.result()
        except BaseException as error:
            outcome.error = error
        outcome.text = text_of(events)
    return outcome


def run_async(config, program=None, on_event=lambda event: None, **options) -> Outcome:
    async def main():
        outcome = Outcome()
        stream = streamll.stream(program or AsyncQA(), config=config, **options)
        async with stream(question="Why?") as events:
            try:
                async for event in events:
                    outcome.events.append(event)
                    if inspect.isawaitable(waits := on_event(event)):
                        await waits
                outcome.prediction = await events.result()
            except Exception as error:
                outcome.error = error
            outcome.text = text_of(events)
        return outcome

    return asyncio.run(main())


def continuation(request):
    """A model that takes up an assistant's unfinished turn."""
    last = request.messages[-1]
    return WHOLE[len(last.text) :] if last.role == "assistant" else WHOLE
