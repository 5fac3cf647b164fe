"""B6, B9: many streams at once: caps, order, failures as results, and very many through one process."""

from __future__ import annotations

import asyncio
import gc
import threading
import time
from pathlib import Path

import dspy
import pytest
from dspy.clients.engines.lm15_engine import AsyncLM15Engine, LM15Engine
from outcomes import TEXT, WHOLE, AsyncQA
from profiles import THOROUGH

import streamll
from brokers.servers import wait_until
from streamll import (
    ConcurrentStreamProcessor,
    SafeDSpyStream,
    StreamConfig,
    aggregate_streams,
    gather_streams,
)
from streamll.core.errors import ConfigurationError, StreamllError
from streamll.testing import Fault, Reply

pytestmark = pytest.mark.since_3_4


def called(make):
    return make()


def awaited(make):
    async def main():
        return await make()

    return asyncio.run(main())


def used_without_await(make):
    async def main():
        results = make()
        assert len(results)
        return results

    return asyncio.run(main())


@pytest.fixture(params=[called, awaited, used_without_await], ids=lambda way: way.__name__)
def gather(request):
    """Call ``gather_streams`` in synchronous code, and on an event loop with and without await."""
    return request.param


def echo(request):
    return {"answer": f"re: {request.inputs['question']}"}


def test_results_come_in_the_order_of_the_questions(lm, practice, gather):
    practice.respond(echo)
    questions = [f"q{number}" for number in range(20)]
    results = gather(lambda: gather_streams(questions))
    assert [result.text for result in results] == [f"re: {question}" for question in questions]
    assert all(result.ok for result in results)


def test_never_more_at_once_than_asked_for(lm, practice, gather):
    now, most, lock = [0], [0], threading.Lock()

    def count(request):
        with lock:
            now[0] = sum(not each.over for each in practice.requests)
            most[0] = max(most[0], now[0])
        first = practice.requests[0]
        if request is first:  # it is not over before there is a second one
            return Reply(echo(request), hold_after=1)
        first.release()
        return Reply(echo(request), pace=0.002)

    practice.respond(count)
    results = gather(lambda: gather_streams([f"q{n}" for n in range(12)], max_concurrent=3))
    assert len(results) == 12
    assert 2 <= most[0] <= 3


def test_two_batches_with_one_key_share_the_cap(lm, practice):
    most = [0]

    def count(request):
        most[0] = max(most[0], sum(not each.over for each in practice.requests))
        return Reply(echo(request), pace=0.002)

    practice.respond(count)

    async def main():
        await asyncio.gather(
            *(gather_streams([f"{b} {n}" for n in range(6)], max_concurrent=2) for b in range(2))
        )

    asyncio.run(main())
    assert most[0] <= 2


def test_gathered_programs_may_gather_themselves(lm, practice, gather):
    """They have the key's only places, and wait for streams that need some, too."""
    practice.respond(echo)

    def program(question):
        return gather_streams([f"{question} {n}" for n in range(2)], max_concurrent=1)[1].text

    calls = [streamll.stream(program)(question=name) for name in "ab"]
    [results] = in_time(lambda: [gather(lambda: gather_streams(calls, max_concurrent=1))])
    assert [each.prediction for each in results] == ["re: a 1", "re: b 1"]


def in_time(make, seconds=60):
    made = []
    thread = threading.Thread(target=lambda: made.extend(make()), daemon=True)
    thread.start()
    thread.join(seconds)
    return made


def test_a_failure_is_a_result(lm, practice, gather):
    practice.respond(
        lambda request: Fault(status=401) if request.inputs["question"] == "bad" else echo(request)
    )
    good, bad, also = gather(lambda: gather_streams(["good", "bad", "also good"]))
    assert good.ok
    assert also.text == "re: also good"
    assert isinstance(bad.error, dspy.LMError)
    with pytest.raises(dspy.LMError):
        bad.result()


@pytest.mark.parametrize("one", ["Why?", {"q1": "Why?"}], ids=["a question", "a mapping"])
def test_one_question_in_place_of_many_is_refused_unasked(lm, practice, one):
    """Each of its characters, or its keys, would be a question."""
    for gather in (streamll.gather_streams, streamll.ConcurrentStreamProcessor(2).process_batch):
        with pytest.raises(TypeError, match=f"not a {type(one).__name__}; "):
            gather(one)
    assert practice.requests == []


def test_a_rate_spaces_the_beginnings(lm, practice, gather):
    practice.respond(echo)
    called_at = time.monotonic()
    gather(lambda: gather_streams(["a", "b", "c", "d"], rate=20))
    starts = sorted(request.started_at for request in practice.requests)
    for number, start in enumerate(starts):  # as late as the server likes, but no earlier
        assert start - called_at >= number / 20


def test_calls_and_streams_and_plain_iterators_alike(lm, practice, gather):
    practice.respond(echo)
    stream = streamll.stream(dspy.Predict("question -> answer"))
    heard = []
    results = gather(
        lambda: gather_streams(
            ["one", SafeDSpyStream("two"), stream(question="three"), iter(["fo", "ur"])],
            on_event=lambda place, item: heard.append(place),
        )
    )
    assert [r.text for r in results] == ["re: one", "re: two", "re: three", "four"]
    assert results[2].prediction.answer == "re: three"
    assert set(heard) == {0, 1, 2, 3}


def test_a_stream_that_is_given_twice_is_refused(gather):
    words = iter(["one", "two"])
    with pytest.raises(StreamllError, match="given twice"):
        gather(lambda: gather_streams([words, words]))
    assert list(words) == ["one", "two"]


def test_a_config_for_the_questions(lm, practice, gather):
    practice.script(Fault(status=500), Fault(status=500))
    practice.respond(echo)
    config = StreamConfig(retry_delay=0.01)
    assert all(r.ok for r in gather(lambda: gather_streams(["a", "b"], config=config)))


def test_the_processor_of_the_rust_example_is_gather_streams(lm, practice, gather):
    practice.respond(echo)
    processor = ConcurrentStreamProcessor(max_concurrent=2)
    assert [r.text for r in gather(lambda: processor.process_batch(["a", "b", "c"]))] == [
        "re: a", "re: b", "re: c",
    ]  # fmt: skip
    with pytest.raises(ConfigurationError):
        ConcurrentStreamProcessor(max_concurrent=0)


def test_the_coroutine_gives_the_same(lm, practice):
    practice.respond(echo)
    results = asyncio.run(streamll.agather_streams(["a", "b"], max_concurrent=1))
    assert [result.text for result in results] == ["re: a", "re: b"]


def test_cancelling_a_batch_stops_its_providers(lm, practice):
    practice.respond(lambda request: Reply(WHOLE, hold_after=8))

    async def main():
        batch = asyncio.create_task(gather_streams(["a", "b"]))
        await asyncio.to_thread(practice.wait_for_requests, 2)
        for request in practice.requests:
            await asyncio.to_thread(request.wait_held)
        batch.cancel()
        with pytest.raises(asyncio.CancelledError):
            await batch
        for request in practice.requests:
            await asyncio.to_thread(request.wait_closed)

    asyncio.run(main())


@pytest.mark.parametrize("how", ["sync", "async"])
def test_questions_are_merged(lm, practice, how):
    practice.respond(lambda request: Reply(echo(request), pace=0.001))
    streams = [SafeDSpyStream(f"q{n}") for n in range(5)]
    if how == "sync":
        tagged = list(aggregate_streams(streams))
    else:

        async def main():
            return [each async for each in aggregate_streams(streams)]

        tagged = asyncio.run(main())
    for number in range(5):
        events = [event for source, event in tagged if source == number]
        assert "".join(e.text for e in events[:-1]) == f"re: q{number}"
        assert isinstance(events[-1], streamll.StreamEvent.Done)


@pytest.mark.parametrize("how", ["sync", "async"])
def test_leaving_merged_questions_stops_all_providers(lm, practice, how):
    practice.respond(lambda request: Reply(WHOLE, hold_after=8))
    streams = [SafeDSpyStream(f"q{n}") for n in range(4)]

    def wait():
        for request in practice.wait_for_requests(4):
            request.wait_held()

    if how == "sync":
        for _ in aggregate_streams(streams):
            wait()
            break
    else:

        async def main():
            merged = aggregate_streams(streams)
            async with merged as tagged:
                async for _ in tagged:
                    await asyncio.to_thread(wait)
                    break

        asyncio.run(main())
    for request in practice.requests:
        request.wait_closed()


# --- very many ------------------------------------------------------------------------------------

MANY = 1_000 if THOROUGH else 120


def wide_lm(practice, connections=MANY):
    """An LM whose engine may hold that many connections; DSPy's own hold 100."""
    from dspy import lm15
    from dspy._vendor.lm15.transports import StdlibAsyncTransport, StdlibTransport

    def config(transport):
        return lm15.RouterConfig(
            api_keys={"openai-chat": "practice"},
            base_urls={"openai-chat": practice.openai_url},
            transport=transport(max_connections=connections, read_timeout=300),
        )

    return dspy.LM(
        "openai/practice-model",
        engine=LM15Engine(config(StdlibTransport)),
        async_engine=AsyncLM15Engine(config(StdlibAsyncTransport)),
        cache=False,
    )


def test_many_streams_no_loss_no_cross_talk(practice):
    practice.respond(echo)
    lm = wide_lm(practice)

    async def one(number):
        words = []
        stream = streamll.stream(AsyncQA(), config=StreamConfig(first_token_timeout=300))
        async with stream(question=f"question {number}") as events:
            async for event in events:
                if event.event_type == "token":
                    assert event.run_id == events._program_run.scope.run.run_id
                    words.append(event.token)
            prediction = await events.result()
        return "".join(words), prediction.answer

    async def main():
        return await asyncio.gather(*(one(number) for number in range(MANY)))

    with dspy.context(lm=lm, adapter=dspy.ChatAdapter()):
        results = asyncio.run(main())
    expected = [f"re: question {number}" for number in range(MANY)]
    assert [text for text, _ in results] == expected
    assert [answer for _, answer in results] == expected


def test_a_hundred_threads_at_once(practice):
    """B9: sync programs, each in a thread of its own, all held at the same time."""
    count = 100
    practice.respond(lambda request: Reply(echo(request), hold_after=7))
    lm = wide_lm(practice)
    stream = streamll.stream(dspy.Predict("question -> answer"))

    async def one(number):
        async with stream(question=str(number)) as events:
            return (await events.result()).answer

    async def main():
        work = asyncio.gather(*(one(number) for number in range(count)))
        await asyncio.to_thread(practice.wait_for_requests, count, 120)
        for request in practice.requests:
            await asyncio.to_thread(request.wait_held)
        practice.release()
        return await work

    with dspy.context(lm=lm, adapter=dspy.ChatAdapter()):
        assert asyncio.run(main()) == [f"re: {number}" for number in range(count)]


# --- a soak -----------------------------------------------------------------------------------------

SOAK_ROUNDS = 60 if THOROUGH else 6
"""Each is fourteen streams."""
FAULTS = [
    None, Fault(status=500), Fault(disconnect_after=8), Fault(disconnect_after=8, reset=True),
    Fault(error_after=8, error_type="server_error"), Fault(status=401), Fault(stall_after=8),
    Fault(silent=True), Fault(malformed_after=8), Fault(disconnect_after_bytes=30),
]  # fmt: skip


def resident_kilobytes() -> int:
    status = Path("/proc/self/status").read_text("ascii")
    return next(int(line.split()[1]) for line in status.splitlines() if line.startswith("VmRSS"))


def census():
    gc.collect()
    threads = [
        thread for thread in threading.enumerate()
        if thread.name.startswith("streamll") and thread.name != "streamll timers"
    ]  # fmt: skip
    return len(threads), len(list(Path("/proc/self/fd").iterdir()))


def test_a_soak_of_connects_disconnects_and_faults_leaves_nothing(practice):
    """Threads, descriptors and memory return to where they began (hundreds of streams if the run is thorough)."""
    config = StreamConfig(
        retry_delay=0.005, max_retries=1, first_token_timeout=0.15, idle_timeout=0.15,
        on_partial="continue", breaker=None,
    )  # fmt: skip
    turn = [0]

    def next_reply(request):
        turn[0] += 1
        return Reply(WHOLE, fault=FAULTS[turn[0] % len(FAULTS)])

    practice.respond(next_reply)
    program = dspy.Predict("question -> answer")

    def one_sync(number):
        for place, event in enumerate(SafeDSpyStream(program, config, question=str(number))):
            if number % 3 == 0 and place == 1:
                break
            if isinstance(event, streamll.StreamEvent.Done):
                assert event.prediction.answer == TEXT

    async def one_async(number):
        stream = SafeDSpyStream(AsyncQA(), config, question=str(number))
        async with stream:
            place = 0
            async for _ in stream:
                place += 1
                if number % 3 == 1 and place == 2:
                    break

    async def round_of(number):
        await asyncio.gather(
            *(one_async(number + n) for n in range(10)),
            *(asyncio.to_thread(one_sync, number + n) for n in range(4)),
        )

    async def rounds(count):
        for number in range(count):
            await round_of(14 * number)
            practice.requests.clear()

    def settled():
        deadline = time.monotonic() + 60
        before = None
        while (now := census()) != before and time.monotonic() < deadline:
            before = now
            time.sleep(0.2)
        return now

    lm = practice.lm()
    with dspy.context(lm=lm, adapter=dspy.ChatAdapter(), disable_history=True):
        asyncio.run(rounds(4))  # what is loaded and cached on first use is there now
        settled()
        lm.close()  # how many connections are kept for the next calls, depends on the machine's pace
        threads, files = settled()
        memory = resident_kilobytes()
        asyncio.run(rounds(SOAK_ROUNDS))

        def as_before():
            lm.close()
            now = census()
            return now[0] <= threads and now[1] <= files + 12  # one for each stream were far more

        wait_until(as_before, 60, "what was opened is closed")
    assert resident_kilobytes() - memory < 20_000
