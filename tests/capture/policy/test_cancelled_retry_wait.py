"""A retry's wait that was cancelled leaves nothing behind that a later leaving stumbles over."""

from __future__ import annotations

import asyncio
import threading

import dspy
import pytest
from patience import BOUND

import streamll
from streamll.flow.config import StreamConfig
from streamll.testing import Fault

pytestmark = pytest.mark.since_3_4


def test_leaving_after_a_retry_was_given_up_on_a_loop_that_is_closed(lm, practice, heard):
    practice.respond(lambda _: Fault(status=503))
    answer = dspy.Predict("question -> answer")
    given_up, goes_on = threading.Event(), threading.Event()

    class Impatient(dspy.Module):
        def forward(self):
            async def ask():
                task = asyncio.ensure_future(answer.acall(question="?"))
                while "lm.waiting" not in heard.types:  # noqa: ASYNC110 - until another attempt
                    await asyncio.sleep(0)
                task.cancel()
                await asyncio.wait({task})

            asyncio.run(ask())
            given_up.set()
            assert goes_on.wait(BOUND)

    config = StreamConfig(max_retries=3, retry_delay=60)
    with streamll.stream(Impatient(), config=config, sinks=[heard])() as events:
        try:
            assert given_up.wait(BOUND)
            events.cancel()
        finally:
            goes_on.set()
