"""``StreamConfig(limits=…)``: LM requests of programs and models within shared limits."""

from __future__ import annotations

import asyncio
import threading
import time

import dspy
import pytest

import streamll
from streamll import StreamConfig
from streamll.core.errors import ConfigurationError
from streamll.services import Limits
from streamll.testing import RecordingSink

pytestmark = pytest.mark.since_3_4

ANSWER = "[[ ## answer ## ]]\none two three\n\n[[ ## completed ## ]]"


@pytest.fixture
def program(practice):
    practice.pace = 0.002
    practice.respond(lambda _: ANSWER)
    qa = dspy.Predict("question -> answer")
    qa.lm = practice.lm()
    return qa


def most_at_once(requests):
    moments = sorted(
        [(request.started_at, 1) for request in requests]
        + [(request.finished_at, -1) for request in requests]
    )
    most = now = 0
    for _, change in moments:
        now += change
        most = max(most, now)
    return most


def test_the_programs_of_threads_and_tasks_share_a_limit(practice, program, run):
    config = StreamConfig(limits=Limits(max_concurrent=2))
    ask = streamll.stream(program, config=config)

    def in_thread(number):
        with ask(question=f"{number}") as events:
            assert events.result().answer == "one two three"

    async def in_task(number):
        async with ask(question=f"{number}") as events:
            assert (await events.result()).answer == "one two three"

    threads = [threading.Thread(target=in_thread, args=(number,)) for number in range(6)]
    for thread in threads:
        thread.start()

    async def tasks():
        await asyncio.gather(*(in_task(number) for number in range(6, 12)))

    run(tasks())
    for thread in threads:
        thread.join(60)
    assert len(practice.requests) == 12
    practice.wait_for(lambda: all(r.finished_at for r in practice.requests))
    assert most_at_once(practice.requests) == 2


def test_a_program_waits_for_its_rate_and_says_so(practice, program):
    for seconds in (1 / 3, 3):  # a busy machine's programs may come late enough by themselves
        sink = RecordingSink()
        config = StreamConfig(limits=Limits(requests_per_minute=60 / seconds))
        practice.requests.clear()
        began = time.monotonic()
        for _ in range(3):
            with streamll.stream(program, config=config, sinks=[sink])(question="?") as events:
                events.result()
        starts = [request.started_at for request in practice.requests]
        assert starts[2] - began >= 2 * seconds * 0.9  # as late as the server likes, but no earlier
        assert sink.catch_up(60)
        if waits := sink.of("lm.waiting"):
            break
    assert {event.reason for event in waits} == {"limit"}
    assert all(0 < event.delay <= seconds for event in waits)


@pytest.mark.parametrize(
    "arguments",
    [{"max_concurrent": 0}, {"requests_per_minute": 0}, {"requests_per_minute": 9, "burst": 0}],
)
def test_limits_that_let_nothing_through_are_refused(arguments):
    with pytest.raises(ConfigurationError, match="0"):
        Limits(**arguments)


def test_limits_of_a_config_are_limits():
    with pytest.raises(ConfigurationError, match="limits must be a Limits"):
        StreamConfig(limits=5)


def test_a_model_has_one_limit():
    one = Limits(1)
    streamll.iModel("openai/gpt-4o", config=StreamConfig(limits=one), limits=one)
    with pytest.raises(ConfigurationError, match="give one of them"):
        streamll.iModel("openai/gpt-4o", config=StreamConfig(limits=one), limits=Limits(2))
