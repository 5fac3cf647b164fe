"""The seeds' sink and consumer examples run as written, except for URLs; regressions of 0.1.1."""

from __future__ import annotations

import asyncio
import threading

import dspy
import pytest

import streamll
from brokers.sample_runs import BOUND, by_run, check_order, ends, read_log, text_of
from brokers.servers import wait_until
from streamll.sinks import BaseSink, MemorySink

TEXT = "Because of scattering."


@pytest.fixture
def lm(practice):
    practice.respond(lambda request: {"reasoning": "Physics.", "answer": TEXT})
    with dspy.context(lm=practice.lm(cache=False)):
        yield


def test_the_readmes_production_use_works_as_written(server_of, lm, capsys):
    """D3, D4: a Redis sink on an instrumented module, EventConsumer in another place."""
    redis_url = server_of("redis").url
    from streamll.sinks import RedisSink

    sink = RedisSink(redis_url=redis_url, stream_key="ml_events")

    @streamll.instrument(sinks=[sink], stream_fields=["answer"])
    class QA(dspy.Module):
        def __init__(self):
            self.generate = dspy.ChainOfThought("question -> answer")

        def forward(self, question):
            return self.generate(question=question)

    from streamll import EventConsumer

    consumer = EventConsumer(redis_url, target="ml_events", start="beginning")

    @consumer.on("token")
    async def handle_token(event):
        print(event.data["token"], end="", flush=True)

    consumer.on("run.end", lambda event: consumer.stop_soon())

    async def main():
        running = asyncio.create_task(consumer.run())
        await asyncio.to_thread(QA(), "Why is the sky blue?")
        await asyncio.wait_for(running, BOUND)

    asyncio.run(main())
    assert capsys.readouterr().out == TEXT
    assert sink.stop(BOUND)


def test_the_guides_consumer_works_as_written(server_of, lm):
    """A8: RedisStreamConsumer(url=) and subscribe, then start."""
    url = server_of("redis").new_part()
    shown, sent = [], []

    def update_ui_field(field, token, index):
        shown.append((field, token, index))

    class websocket:  # noqa: N801 - the guide's name
        @staticmethod
        async def send_json(message):
            sent.append(message)

    from streamll.consumer import RedisStreamConsumer

    async def handle_token(event):
        if event.event_type == "token":
            field = event.data.get("field")
            token = event.token
            index = event.token_index

            # Update UI in real-time
            update_ui_field(field, token, index)

            # Stream to websocket
            await websocket.send_json(
                {"type": "token", "field": field, "token": token, "index": index}
            )

    consumer = RedisStreamConsumer(url=url)
    consumer.subscribe(handle_token)
    consumer.start()
    assert consumer.wait_connected(BOUND)

    from streamll.sinks import RedisSink

    sink = RedisSink(
        url=url,
        buffer_size=100,  # Buffer up to 100 tokens
        flush_interval=0.1,  # Flush every 100ms
    )
    qa = streamll.instrument(
        dspy.Predict("question -> answer"), stream_fields=["answer"], sinks=[sink]
    )
    qa(question="Why?")
    assert sink.stop(BOUND)
    wait_until(lambda: "".join(token for _, token, _ in shown) == TEXT, BOUND, "all tokens")
    assert consumer.stop(BOUND)
    assert [index for _, _, index in shown] == list(range(len(shown)))
    assert "".join(message["token"] for message in sent) == TEXT


def test_the_guides_high_volume_sinks_work_as_written():
    """A9: without URLs they are this machine's."""
    from streamll.sinks import RabbitMQSink, RedisSink

    sink = RedisSink(buffer_size=5000, batch_size=500, flush_interval=0.5)
    assert sink.url == "redis://localhost:6379"
    sink = RabbitMQSink(url="amqp://localhost", exchange="tokens", prefetch_count=1000)
    assert (sink.exchange, sink.prefetch_count) == ("tokens", 1000)
    for name in ("url", "rabbitmq_url", "amqp_url"):
        assert RabbitMQSink(**{name: "amqp://there"}).url == "amqp://there"


def test_the_readmes_context_reaches_consumers(server_of, lm):
    """D6: set_context on this side, data and filter on the other, also through configure."""
    url = server_of("redis").url
    sink = streamll.open_sink(url, target="ctx")
    with streamll.configure(sinks=[sink]):
        qa = streamll.instrument(dspy.Predict("question -> answer"), stream_fields=["answer"])
        for conversation in ("conv_123", "conv_456"):
            streamll.set_context(conversation_id=conversation, request_id="req_456")
            qa(question="What is quantum computing?")
    assert sink.stop(BOUND)
    consumer = streamll.EventConsumer(url, target="ctx", start="beginning")
    by_hand, by_filter = [], []

    @consumer.on("token")
    async def handle_token(event):
        if event.data.get("conversation_id") == "conv_123":
            by_hand.append(event)

    consumer.on("token", by_filter.append, where={"conversation_id": "conv_123"})
    finished = []
    consumer.on("run.end", finished.append)
    consumer.start()
    wait_until(lambda: len(finished) == 2, BOUND, "both runs")
    assert consumer.stop(BOUND)
    assert text_of(by_hand) == text_of(by_filter) == TEXT
    assert {event.data["request_id"] for event in by_hand} == {"req_456"}


# --- FINDINGS: what streamll 0.1.1 got wrong ------------------------------------------------------


def test_a_redis_sink_delivers_from_an_instrumented_module(server_of, lm):
    sink = streamll.open_sink(server_of("redis").url, target="delivers")
    qa = streamll.instrument(
        dspy.ChainOfThought("question -> answer"), stream_fields=["answer"], sinks=[sink]
    )
    qa(question="Why?")
    assert sink.stop(BOUND)
    read = read_log(server_of("redis").url, "delivers", ends(1))
    check_order(read)
    assert text_of(read) == TEXT


def test_threads_that_share_a_module_get_their_own_streams(server_of, practice):
    practice.respond(
        lambda request: {"answer": f"answer {request.body['messages'][-1]['content']}"}
    )
    sink = streamll.open_sink(server_of("redis").url, target="eight")
    qa = streamll.instrument(
        dspy.Predict("question -> answer"), stream_fields=["answer"], sinks=[sink]
    )
    answers = []

    def ask(n):
        with dspy.context(lm=practice.lm(cache=False)):
            streamll.set_context(request_id=n)
            answers.append((n, qa(question=f"question {n}").answer))

    threads = [threading.Thread(target=ask, args=(n,)) for n in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(BOUND)
    assert sink.stop(BOUND)
    read = read_log(server_of("redis").url, "eight", ends(8))
    check_order(read)
    streams = {events[0].data["request_id"]: text_of(events) for events in by_run(read).values()}
    assert streams == dict(answers)
    for events in by_run(read).values():  # no context leaks from one run to another
        assert len({event.data["request_id"] for event in events}) == 1


def test_submodules_lists_and_acall_stream(server_of, lm):
    class Steps(dspy.Module):
        def __init__(self):
            self.steps = [dspy.Predict("question -> answer"), dspy.Predict("question -> answer")]

        def forward(self, question):
            return [step(question=question) for step in self.steps][-1]

        async def aforward(self, question):
            return [await step.acall(question=question) for step in self.steps][-1]

    class Outer(dspy.Module):
        def __init__(self):
            self.inner = Steps()

        def forward(self, question):
            return self.inner(question=question)

        async def aforward(self, question):
            return await self.inner.acall(question=question)

    sink = streamll.open_sink(server_of("redis").url, target="nested")
    program = streamll.instrument(Outer(), stream_fields=["answer"], sinks=[sink])
    program(question="Why?")
    asyncio.run(program.acall(question="Why?"))
    assert sink.stop(BOUND)
    read = read_log(server_of("redis").url, "nested", ends(2))
    check_order(read)
    assert [text_of(events) for events in by_run(read).values()] == [TEXT * 2] * 2


def test_slow_and_raising_sinks_do_not_affect_others(lm, patient_sinks):
    returned, handled = threading.Event(), []

    class Slow(BaseSink):
        local = False

        def handle_event(self, event):
            returned.wait(BOUND)
            handled.append(event)

    class Raising(BaseSink):
        def handle_event(self, event):
            raise RuntimeError("no")

    memory = MemorySink()
    qa = streamll.instrument(
        dspy.Predict("question -> answer"),
        stream_fields=["answer"],
        sinks=[Slow(), Raising(), memory],
    )
    qa(question="Why?")
    assert not handled
    returned.set()
    assert memory.text("answer") == TEXT
