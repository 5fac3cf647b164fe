"""C5, A17: status messages, in their place, in time, and in nobody's way."""

from __future__ import annotations

import asyncio
import threading

import anyio.from_thread
import dspy
import pytest
from dspy.streaming.messages import sync_send_to_stream
from dspy_and_ours import BOTH, OURS, read, read_all
from patience import BOUND
from profiles import THOROUGH

import streamll
from streamll.flow import waiting
from streamll.sinks import MemorySink
from streamll.testing import Reply


def double(x: int) -> int:
    return 2 * x


async def adouble(x: int) -> int:
    await asyncio.sleep(0)
    return 2 * x


class Program(dspy.Module):
    def __init__(self):
        self.tool = dspy.Tool(double, name="double")
        self.atool = dspy.Tool(adouble, name="adouble")
        self.predict = dspy.Predict("number -> answer")

    def forward(self, number):
        return self.predict(number=self.tool(x=number))

    async def aforward(self, number):
        number = await self.atool.acall(x=number)
        return await self.predict.acall(number=number)


def saying_everything(side):
    class Everything(side.StatusMessageProvider):
        def tool_start_status_message(self, instance, inputs):
            return f"tool {instance.name} of {arguments(inputs)['x']}"

        def tool_end_status_message(self, outputs):
            return f"tool gave {outputs}"

        def module_start_status_message(self, instance, inputs):
            return f"module {type(instance).__name__} of {arguments(inputs)['number']}"

        def module_end_status_message(self, outputs):
            return f"module gave {outputs.answer}"

        def lm_start_status_message(self, instance, inputs):
            return f"lm {instance.model} of {len(inputs['messages'])}"

        def lm_end_status_message(self, outputs):
            return f"lm gave {len(outputs)}"

    return Everything()


def arguments(inputs):
    return inputs.get("kwargs", inputs)


@pytest.mark.parametrize("program_is_async", [False, True])
def test_the_six_hooks_say_what_they_say_with_dspy(practice, lm, program_is_async):
    """C5: the same messages at the same places."""
    said = {}
    for side in BOTH:
        practice.script({"answer": "six"})
        streaming = side.streamify(
            Program(),
            status_message_provider=saying_everything(side),
            stream_listeners=[side.StreamListener("answer")],
            is_async_program=program_is_async,
        )
        values = read_all(streaming(number=3)).values
        said[side.name] = [v.message if hasattr(v, "message") else type(v).__name__ for v in values]
    tool = "adouble" if program_is_async else "double"
    expected = [
        "module Program of 3", f"tool {tool} of 3", "tool gave 6", "module Predict of 6",
        "lm openai/practice-model of 2", "StreamResponse", "lm gave 1", "module gave six",
        "module gave six", "Prediction",
    ]  # fmt: skip
    assert list(dict.fromkeys(said["streamll"])) == list(dict.fromkeys(expected))
    statuses = {name: [value for value in values if " " in value] for name, values in said.items()}
    if dspy.__version__ != "3.1.0":  # its streamify adds to the callbacks of the program's settings
        assert statuses["streamll"] == statuses["dspy"]


@pytest.mark.parametrize("side", BOTH, ids=lambda side: side.name)
def test_the_default_messages_are_dspys(practice, lm, side):
    practice.script({"answer": "six"})
    assert read_all(side.streamify(Program())(number=3)).statuses == [
        "Calling tool double...",
        "Tool calling finished! Querying the LLM with tool calling results...",
    ]


def test_end_hooks_may_take_the_instance_as_well(practice, lm):
    class Provider(streamll.StatusMessageProvider):
        def tool_start_status_message(self, instance, inputs):
            return f"start {instance.name} {arguments(inputs)}"

        def tool_end_status_message(self, instance, outputs):
            return f"end {instance.name} {outputs}"

        def lm_end_status_message(self, *args):
            return f"{len(args)} arguments"

        def module_end_status_message(self, instance, outputs):
            return None

    practice.script({"answer": "six"})
    said = read_all(streamll.streamify(Program(), Provider())(number=3))
    assert said.statuses == ["start double {'x': 3}", "end double 6", "2 arguments"]


def test_dspys_own_provider_will_do(practice, lm):
    class Provider(dspy.streaming.StatusMessageProvider):
        def tool_end_status_message(self, outputs):
            return "done"

    practice.script({"answer": "six"})
    said = read_all(streamll.streamify(Program(), Provider())(number=3))
    assert said.statuses == ["Calling tool double...", "done"]


class Suspending(streamll.StatusMessageProvider):
    async def lm_start_status_message(self, instance, inputs):
        return "asking"


@pytest.mark.parametrize(
    ("nothing", "message"),
    [
        (streamll.StatusMessageProvider, "StatusMessageProvider, not <class"),
        ("thinking", "StatusMessageProvider, not str"),
        ([streamll.StreamListener("answer")], "StatusMessageProvider, not list"),
        (Suspending(), "Suspending.lm_start_status_message must be an ordinary function"),
    ],
    ids=["class", "text", "listeners", "async"],
)
def test_what_can_say_nothing_is_refused(nothing, message):
    with pytest.raises(streamll.ConfigurationError, match=message):
        streamll.streamify(Program(), nothing)
    with pytest.raises(streamll.ConfigurationError, match=message):
        streamll.instrument(Program(), status=nothing)


def test_a_provider_of_ones_own_class_will_do(practice, lm):
    class Provider:
        def tool_end_status_message(self, outputs):
            return "done"

    practice.script({"answer": "six"})
    said = read_all(streamll.streamify(Program(), Provider())(number=3))
    assert said.statuses == ["Calling tool double...", "done"]


def test_a_provider_that_raises_is_logged_once_and_the_program_goes_on(practice, lm, caplog):
    class Broken(streamll.StatusMessageProvider):
        def tool_start_status_message(self, instance, inputs):
            raise LookupError("no message")

        tool_end_status_message = tool_start_status_message

    practice.script({"answer": "six"})
    said = read_all(streamll.streamify(Program(), Broken())(number=3))
    assert said.statuses == []
    assert said.prediction.answer == "six"
    assert len([r for r in caplog.records if "status message" in r.getMessage()]) == 1


@pytest.mark.parametrize("program_is_async", [False, True])
def test_a_message_is_there_while_the_tool_still_runs(program_is_async):
    """Never late: the reader has it before the tool can end."""
    read_it, told = threading.Event(), []

    def tool() -> str:
        told.append(read_it.wait(60))
        return "done"

    class Waiting(dspy.Module):
        def forward(self):
            return dspy.Prediction(answer=dspy.Tool(tool, name="wait")())

        async def aforward(self):
            return dspy.Prediction(answer=await asyncio.to_thread(dspy.Tool(tool, name="wait")))

    async def main():
        async for value in streamll.streamify(Waiting(), is_async_program=program_is_async)():
            if getattr(value, "message", "") == "Calling tool wait...":
                read_it.set()

    asyncio.run(asyncio.wait_for(main(), 60))
    assert told == [True]


def test_tokens_and_messages_come_in_true_order(practice, lm):
    class Asking(dspy.Module):
        def __init__(self):
            self.qa = dspy.Predict("number -> answer")

        def forward(self, number):
            for each in range(number):
                streamll.status(f"question {each}")
                prediction = self.qa(number=each)
            return prediction

    practice.script(*({"answer": f"a{n}"} for n in range(5)))
    streaming = streamll.streamify(Asking(), stream_listeners=[streamll.StreamListener("answer")])
    said = read_all(streaming(number=5))
    order = [getattr(v, "message", getattr(v, "chunk", None)) for v in said.values[:-1]]
    assert [part for part in order if part] == [
        part for n in range(5) for part in (f"question {n}", f"a{n}")
    ]


def test_providers_of_calls_at_once_keep_apart(practice, lm):
    practice.respond(lambda request: {"answer": "x"})

    def provider(name):
        class Named(streamll.StatusMessageProvider):
            def tool_start_status_message(self, instance, inputs):
                return f"{name} starts"

            def tool_end_status_message(self, outputs):
                return f"{name} ends"

        return Named()

    before = list(dspy.settings.callbacks)

    async def main():
        streams = [streamll.streamify(Program(), provider(f"p{n}"))(number=n) for n in range(12)]
        return await asyncio.gather(*map(read, streams))

    for number, said in enumerate(asyncio.run(main())):
        assert said.statuses == [f"p{number} starts", f"p{number} ends"]
    assert dspy.settings.callbacks == before


class Flood(dspy.Module):
    """Thousands of messages from tools, sync or async."""

    def forward(self, count):
        tool = dspy.Tool(double, name="double")
        for number in range(count):
            tool(x=number)
        return dspy.Prediction(answer="done")

    async def aforward(self, count):
        tool = dspy.Tool(adouble, name="adouble")
        for number in range(count):
            await tool.acall(x=number)
        return dspy.Prediction(answer="done")


COUNT = 2000 if THOROUGH else 500


@pytest.mark.parametrize("program_is_async", [False, True])
def test_thousands_of_messages_and_a_slow_reader(program_is_async, monkeypatch):
    """C5: no deadlock, and nothing is lost as long as something can wait."""
    monkeypatch.setattr(waiting, "LOOP_CHECK_S", 60)  # a busy machine keeps loops waiting, too

    async def main():
        messages = []
        streaming = streamll.streamify(Flood(), is_async_program=program_is_async)
        async for value in streaming(count=COUNT):
            if isinstance(value, streamll.StatusMessage):
                messages.append(value.message)
            if len(messages) % (COUNT // 4) == 0:
                await asyncio.sleep(0.02)
        return messages, value

    messages, last = asyncio.run(asyncio.wait_for(main(), 5 * BOUND))
    assert last.answer == "done"
    assert len(messages) == 2 * COUNT


def test_a_program_that_never_lets_its_reader_read_is_told_on():
    """X9: on the event loop nothing can wait; what is left out is counted, in the stream."""

    class Selfish(dspy.Module):
        async def aforward(self):
            for number in range(5000):
                streamll.status(f"message {number}")
            return dspy.Prediction(answer="done")

    said = read_all(streamll.streamify(Selfish(), is_async_program=True)())
    left_out = [s for s in said.statuses if "left out" in s]
    assert len(left_out) == 1
    assert int(left_out[0].split()[0]) == 5000 - (len(said.statuses) - 1)
    assert said.prediction.answer == "done"


@pytest.mark.parametrize("on_loop", [False, True])
def test_dspys_helper_sends_messages_without_stopping_the_loop(on_loop):
    """Programs that call ``sync_send_to_stream`` themselves."""

    class Sending(dspy.Module):
        def forward(self):
            for number in range(50):
                message = streamll.StatusMessage(f"message {number}")
                sync_send_to_stream(dspy.settings.send_stream, message)
            return dspy.Prediction(answer="done")

        async def aforward(self):
            return self.forward()

    said = read_all(streamll.streamify(Sending(), is_async_program=on_loop)())
    assert said.statuses == [f"message {number}" for number in range(50)]


# --- outside streamify ------------------------------------------------------------------------------


def test_instrument_takes_a_provider(practice, lm):
    """A17."""
    practice.script({"answer": "six"}, {"answer": "six"})
    sink = MemorySink()
    program = streamll.instrument(Program(), sinks=[sink], status=saying_everything(OURS))
    program(number=3)
    assert sink.stop(60)
    statuses = [event.message for event in sink.events if event.event_type == "status"]
    assert statuses[:3] == ["module Program of 3", "tool double of 3", "tool gave 6"]
    kinds = [event.event_type for event in sink.events]
    assert kinds.index("tool.start") < kinds.index("status", kinds.index("tool.start"))


def test_the_providers_nearest_to_the_call_speaks(practice, lm):
    class Inner(streamll.StatusMessageProvider):
        def tool_start_status_message(self, instance, inputs):
            return "inner"

        def tool_end_status_message(self, outputs):
            return ""

    class Outer(dspy.Module):
        def __init__(self):
            self.inner = streamll.instrument(Program(), sinks=[], status=Inner())
            self.tool = dspy.Tool(double, name="outer")

        def forward(self, number):
            self.tool(x=1)
            return self.inner(number=number)

    practice.script({"answer": "six"})
    said = read_all(streamll.streamify(Outer())(number=3))
    assert said.statuses == [
        "Calling tool outer...",
        "Tool calling finished! Querying the LLM with tool calling results...",
        "inner",
    ]


def test_status_reaches_whoever_listens(practice, lm):
    """A17: ``streamll.status`` in any program, streamified or not."""

    class Telling(dspy.Module):
        def forward(self):
            streamll.status("Searching…")
            return dspy.Prediction(answer="x")

    assert read_all(streamll.streamify(Telling())()).statuses == ["Searching…"]
    with streamll.stream(Telling())() as events:
        assert "Searching…" in [getattr(event, "message", "") for event in events]


@pytest.mark.since_3_4  # lm15's connection pool
def test_waiting_for_a_connection_is_announced(practice, lm):
    """X3: DSPy's client has a hundred connections per LM; the next one waits, and says so."""
    practice.respond(lambda request: Reply("on and on " * 50, hold_after=3))
    qa = dspy.Predict("question -> answer")
    streaming = streamll.streamify(qa)

    async def main():
        streams = [streaming(question=str(n)) for n in range(100)]
        await asyncio.gather(*(anext(stream) for stream in streams))
        late = streaming(question="late")
        first = await anext(late)
        await asyncio.gather(*(stream.aclose() for stream in [*streams, late]))
        return first

    first = asyncio.run(asyncio.wait_for(main(), 5 * BOUND))
    assert first == streamll.StatusMessage("Waiting for a free connection to the language model...")


def test_ninety_paused_readers_do_not_keep_the_next_from_its_first_token(practice, lm):
    """B9: each call has a thread of its own."""
    # more than may wait for a reader, and no more: ninety endless replies would take all the time
    practice.respond(lambda request: Reply("on and on " * 3000, hold_after=300))
    streaming = streamll.streamify(dspy.Predict("question -> answer"))

    async def main():
        streams = [streaming(question=str(n)) for n in range(90)]
        await asyncio.gather(*(anext(stream) for stream in streams))
        other = streaming(question="the 91st")
        await anext(other)
        assert not any(request.over for request in practice.requests)  # nobody made room for it
        await asyncio.gather(*(stream.aclose() for stream in [*streams, other]))

    asyncio.run(asyncio.wait_for(main(), 5 * BOUND))


def test_a_tools_own_thread_may_send_too():
    """The program's thread can reach the loop, as with DSPy."""

    class Sending(dspy.Module):
        def forward(self):
            anyio.from_thread.run(dspy.settings.send_stream.send, "from a thread")
            return dspy.Prediction(answer="x")

    assert read_all(streamll.streamify(Sending())()).values[0] == "from a thread"
