"""X3, B7, B9: programs that block the loop they run on, and coroutines that nobody awaits."""

from __future__ import annotations

import asyncio

import dspy
import pytest
from programs import QA

import streamll
from streamll.flow import waiting

pytestmark = pytest.mark.usefixtures("lm")


class Blocking(dspy.Module):
    """An async program that does not await what it waits for, as many do."""

    def __init__(self, way):
        super().__init__()
        self.predict = dspy.Predict("question -> answer")
        self.way = way

    async def aforward(self, question):
        return self.way(self.predict, question)


def directly(predict, question):
    return predict(question=question)


def in_parallel(predict, question):
    pairs = [(predict, {"question": f"{question} {number}"}) for number in range(3)]
    return dspy.Parallel(num_threads=2, disable_progress_bar=True)(pairs)[0]


def in_a_stream(predict, question):
    with streamll.stream(predict)(question=question) as events:
        return events.result()


def telling(predict, question):
    for number in range(2_000):
        streamll.emit("step", number=number)
    return in_parallel(predict, question)


@pytest.mark.parametrize("way", [directly, in_parallel, in_a_stream, telling])
def test_a_program_that_blocks_its_loop_does_not_wait_for_its_reader(way, practice):
    """X3, B9: the reader shares the loop, so it cannot make space in the buffer."""
    practice.respond(lambda request: {"answer": "word " * 500})

    async def main():
        async with streamll.stream(Blocking(way))(question="Why?") as events:
            return await asyncio.wait_for(events.result(), 60)  # reads only after it has begun

    assert asyncio.run(main()).answer == ("word " * 500).strip()


def test_a_slow_reader_still_slows_a_program_in_a_thread(practice, monkeypatch):
    """B7: a loop that turns is waited for, however long its reader takes."""
    monkeypatch.setattr(waiting, "LOOP_CHECK_S", 60)  # a busy machine keeps loops waiting, too
    practice.script({"reasoning": "r", "answer": "word " * 3000})

    async def main():
        async with streamll.stream(QA())(question="Why?") as events:
            channel = events._program_run.channel
            async for event in events:
                if event.event_type == "token":
                    break
            await asyncio.sleep(0.8)  # the producer asks the loop four times
            waited = channel.statistics()
            await events.result()
            return waited

    waited = asyncio.run(asyncio.wait_for(main(), 60))
    assert waited.buffered <= 3 * waited.capacity  # and what a chunk or two bring at once
    assert waited.received < 3000


class AsyncForward(dspy.Module):
    """Spelt ``forward``, so that calling the module gives a coroutine."""

    def __init__(self):
        super().__init__()
        self.predict = dspy.Predict("question -> answer")

    async def forward(self, question):
        return await self.predict.acall(question=question)


async def ask(question):
    return await dspy.Predict("question -> answer").acall(question=question)


@pytest.mark.parametrize("program", [ask, AsyncForward()], ids=["a function", "a module"])
def test_a_coroutine_is_run_where_nobody_awaits_it(program):
    """X3: read from a thread, an async function has an event loop of its own."""
    with streamll.stream(program)(question="Why?") as events:
        assert events.result().answer == events.text("answer")

    async def main():
        async with streamll.stream(program)(question="Why?") as events:
            return (await events.result()).answer == events.text("answer")

    assert asyncio.run(main())
