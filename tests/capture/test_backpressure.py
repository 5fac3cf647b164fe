"""B7: a reader that stops makes the provider stop."""

from __future__ import annotations

import asyncio
import time

import dspy
import pytest

import streamll
from streamll import StreamConfig
from streamll.testing import Reply


@pytest.mark.parametrize("how", ["sync", "async"])
def test_a_stopped_reader_stops_the_socket(lm, practice, how):
    """B7: seen at the server, which cannot send on; what is in memory stays as it is."""
    practice.script(Reply({"answer": "word " * 4_000_000}, chunk=20_000))

    def standstill(request):
        """The bytes sent until nothing moves any more."""
        sent, since = -1, time.monotonic()
        deadline = since + 60
        while sent < 150_000 or time.monotonic() - since < 0.5:  # it has begun, and stopped
            assert time.monotonic() < deadline, "the socket never stops"
            if request.bytes_sent != sent:
                sent, since = request.bytes_sent, time.monotonic()
            time.sleep(0.05)
        return sent

    config = StreamConfig(buffer_size=10)
    program = dspy.Predict("question -> answer")

    def check(events):
        request = practice.requests[0]
        assert standstill(request) < 20_000_000
        assert not request.over
        buffered = events._program_run.channel.statistics().buffered
        assert buffered <= 20

    async def main():
        async with streamll.stream(program, config=config)(question="?") as events:
            async for event in events:
                if event.event_type == "token":
                    break
            await asyncio.to_thread(check, events)

    if how == "async":
        asyncio.run(main())
        return
    with streamll.stream(program, config=config)(question="?") as events:
        for event in events:
            if event.event_type == "token":
                break
        check(events)
