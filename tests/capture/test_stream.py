"""``stream``: reading a program while it runs, from a thread or an event loop."""

from __future__ import annotations

import asyncio
import threading
import time

import dspy
import pytest
from dspy_lines import LM_ERROR, NO_FALLBACK
from programs import QA, AsyncQA, contiguous

import streamll
from streamll.core.errors import (
    AmbiguousFieldError,
    StreamCancelled,
    StreamllError,
    UnknownFieldError,
)
from streamll.sinks.memory import MemorySink
from streamll.testing import Fault, RecordingSink, Reply

REPLY = {"reasoning": "Light scatters.", "answer": "Because of Rayleigh scattering."}


def test_events_come_in_order_and_the_result_is_the_prediction(lm, practice):
    practice.script(REPLY)
    with streamll.stream(QA(), fields=["answer"])(question="Why?") as events:
        seen = list(events)
        assert contiguous(seen)
        assert seen[0].event_type == "run.start"
        assert seen[-1].event_type == "run.end"
        assert events.result().answer == REPLY["answer"] == events.text("answer")


def test_an_object_with_acall_runs_as_a_task_in_an_async_block():
    class Program:
        def __init__(self):
            self.__name__ = "my program"

        def __call__(self):
            return threading.current_thread()

        async def acall(self):
            return asyncio.current_task()

    async def read():
        async with streamll.stream(Program())() as events:
            first = await anext(events)
            return first.program, await events.result()

    name, task = asyncio.run(read())
    assert name == "my program"
    assert isinstance(task, asyncio.Task)
    with streamll.stream(Program())() as events:
        assert isinstance(events.result(), threading.Thread)


def test_positional_inputs_and_plain_functions(lm, practice):
    qa = QA()

    def program(question):
        return qa(question)

    practice.script(REPLY, REPLY)
    with streamll.stream(qa)("Why?") as events:
        assert events.result().answer == REPLY["answer"]
    with streamll.stream(program)("Why?") as events:
        assert events.result().answer == REPLY["answer"]
        assert events.text("answer") == REPLY["answer"]


@pytest.mark.parametrize("program", [QA, AsyncQA], ids=["thread", "task"])
def test_async_reading_of_sync_and_async_programs(lm, practice, program):
    async def read():
        async with streamll.stream(program())(question="Why?") as events:
            seen = [event async for event in events]
            return seen, await events.result(), events.text("answer")

    practice.script(REPLY)
    seen, prediction, text = asyncio.run(read())
    assert contiguous(seen)
    assert text == prediction.answer == REPLY["answer"]


def test_sync_reading_works_inside_a_running_loop(lm, practice):
    async def main():
        with streamll.stream(QA())(question="Why?") as events:
            return events.result()

    practice.script(REPLY)
    assert asyncio.run(main()).answer == REPLY["answer"]


def test_an_async_stream_is_not_read_with_for(lm, practice):
    async def main():
        async with streamll.stream(QA())(question="Why?") as events:
            with pytest.raises(TypeError, match="async for"):
                next(iter(events))

    practice.script(REPLY)
    asyncio.run(main())


def test_tokens_of_one_field_and_of_all(lm, practice):
    practice.script(REPLY, REPLY, REPLY)
    with streamll.stream(QA())(question="Why?") as events:
        assert "".join(events.tokens("answer")) == REPLY["answer"]
    with streamll.stream(QA(), fields="*")(question="Why?") as events:
        assert "".join(events.tokens()) == REPLY["reasoning"] + REPLY["answer"]

    async def read():
        async with streamll.stream(AsyncQA())(question="Why?") as events:
            return [token async for token in events.tokens("generate.predict.answer")]

    assert "".join(asyncio.run(read())) == REPLY["answer"]


SECOND_READINGS = {
    "tokens": lambda events: events.tokens("answer"),
    "partials": lambda events: events.partials("answer"),
}


@pytest.mark.parametrize("reading", SECOND_READINGS)
def test_what_another_reading_has_had_is_an_error_rather_than_nothing(lm, practice, reading):
    practice.script(REPLY, REPLY)
    with streamll.stream(QA())(question="Why?") as events:
        assert "".join(events.tokens("reasoning")) == REPLY["reasoning"]
        with pytest.raises(StreamllError, match="read elsewhere"):
            next(SECOND_READINGS[reading](events))
    with streamll.stream(QA())(question="Why?") as events:
        events.result()
        with pytest.raises(StreamllError, match="read elsewhere"):
            next(SECOND_READINGS[reading](events))


def test_readings_at_once_lose_nothing_silently(lm, practice):
    async def read(events, field):
        return "".join([token async for token in events.tokens(field)])

    async def main():
        async with streamll.stream(AsyncQA())(question="Why?") as events:
            return await asyncio.gather(*(read(events, f) for f in REPLY), return_exceptions=True)

    practice.script(REPLY)
    first, second = asyncio.run(main())
    assert first == REPLY["reasoning"]
    assert isinstance(second, StreamllError)


def test_one_reading_may_go_on_where_another_stopped(lm, practice):
    practice.script(REPLY, REPLY)
    with streamll.stream(QA())(question="Why?") as events:
        assert REPLY["reasoning"].startswith(next(events.tokens("reasoning")))
        assert "".join(events.tokens("answer")) == REPLY["answer"]
    with streamll.stream(QA())(question="Why?") as events:
        first = next(event for event in events if event.event_type == "token")
        assert first.token + "".join(events.tokens("reasoning")) == REPLY["reasoning"]


READINGS = {
    "events": lambda events: aiter(events),
    "tokens": lambda events: aiter(events.tokens()),
    "partials": lambda events: aiter(events.partials("answer")),
}


@pytest.mark.parametrize("reading", READINGS)
@pytest.mark.parametrize("program", [QA, AsyncQA], ids=["thread", "task"])
def test_a_cancelled_read_loses_nothing(lm, practice, program, reading):
    practice.script(Reply(REPLY, pace=0.03, hold_after=(3, 6, 9)))

    async def read():
        async with streamll.stream(program())(question="Why?") as events:
            iterator, timeouts, got = READINGS[reading](events), 0, []
            while True:
                try:
                    got.append(await asyncio.wait_for(anext(iterator), 0.01))
                except asyncio.TimeoutError:
                    timeouts += 1
                    practice.release()  # what is held until a read has been cancelled
                except StopAsyncIteration:
                    return got, timeouts, events.text("answer")

    got, timeouts, text = asyncio.run(read())
    assert timeouts  # how many, the machine decides
    assert text == REPLY["answer"]
    if reading == "events":
        assert contiguous(got)
    elif reading == "tokens":
        assert "".join(got) == REPLY["reasoning"] + REPLY["answer"]
    else:
        assert got[-1].value == REPLY["answer"]


def test_closing_a_stream_ends_a_pending_read(lm, practice):
    practice.script(Reply(REPLY, hold_after=3))

    async def read():
        async with streamll.stream(AsyncQA())(question="Why?") as events:

            async def rest():
                return [event async for event in events]

            reading = asyncio.create_task(rest())
            (request,) = await asyncio.to_thread(practice.wait_for_requests, 1)
            await asyncio.to_thread(request.wait_held)
            await events.aclose()
            with pytest.raises(StreamCancelled):
                await reading

    asyncio.run(read())


def test_an_unknown_field_is_an_error_before_any_request(lm, practice):
    with pytest.raises(UnknownFieldError, match="QA has no output field 'answr'"):
        streamll.stream(QA(), fields=["answr"])
    with (
        streamll.stream(QA())(question="Why?") as events,
        pytest.raises(UnknownFieldError, match="answr"),
    ):
        events.text("answr")


FIELD_READINGS = {
    "tokens": lambda events, field: events.tokens(field),
    "partials": lambda events, field: events.partials(field),
    "items": lambda events, field: events.items(field),
    "text": lambda events, field: events.text(field),
}


@pytest.mark.parametrize("reading", FIELD_READINGS)
@pytest.mark.parametrize("on_loop", [False, True], ids=["thread", "loop"])
def test_a_misspelt_field_is_an_error_however_it_is_read(lm, practice, reading, on_loop):
    """It would be an empty stream else."""
    practice.script(REPLY)
    read = FIELD_READINGS[reading]

    def misspell(events):
        for wrong in ("answr", "generate.answr", "generat.answer", "generate.predict.answr"):
            with pytest.raises(UnknownFieldError, match="answer"):
                read(events, wrong)

    async def on_a_loop():
        async with streamll.stream(QA())(question="Why?") as events:
            misspell(events)
            return await events.result()

    if on_loop:
        assert asyncio.run(on_a_loop()).answer == REPLY["answer"]
        return
    with streamll.stream(QA())(question="Why?") as events:
        misspell(events)
        assert events.result().answer == REPLY["answer"]


@pytest.mark.parametrize("config", [{"timeout": 1}, 5], ids=repr)
def test_what_is_no_config_is_refused_by_name(config):
    kind = type(config).__name__
    with pytest.raises(streamll.ConfigurationError, match=f"config is a StreamConfig, not {kind}"):
        streamll.stream(QA(), config=config)


@pytest.mark.parametrize("wrong", ["", 3, ["answer"]], ids=repr)
def test_what_is_no_field_name_is_refused(lm, practice, wrong):
    practice.script(REPLY)
    with (
        streamll.stream(QA())(question="Why?") as events,
        pytest.raises(streamll.ConfigurationError, match="fields are names of output fields"),
    ):
        events.tokens(wrong)


def test_a_star_is_every_field_for_tokens_alone(lm, practice):
    practice.script(REPLY)
    with streamll.stream(QA())(question="Why?") as events:
        with pytest.raises(UnknownFieldError, match=r"'\*'"):
            events.partials("*")
        assert "".join(events.tokens("*")) == REPLY["reasoning"] + REPLY["answer"]


def test_a_field_can_be_named_by_the_module_around_its_predictor(lm, practice):
    """As in ``fields=``."""
    practice.script(REPLY, REPLY, REPLY)
    with streamll.stream(QA(), fields=["generate.answer"])(question="Why?") as events:
        assert "".join(events.tokens("generate.answer")) == REPLY["answer"]
        assert events.text("generate.answer") == REPLY["answer"]
    with streamll.stream(QA())(question="Why?") as events:
        assert list(events.partials("generate.answer"))[-1].value == REPLY["answer"]

    class Outer(dspy.Module):
        def __init__(self):
            super().__init__()
            self.inner = QA()

        def forward(self, question):
            with streamll.stream(self.inner)(question=question) as events:
                said = "".join(events.tokens("generate.answer"))
                assert said == events.text("generate.answer")
                return dspy.Prediction(said=said)

    assert Outer()(question="Why?").said == REPLY["answer"]


def test_a_module_with_several_such_predictors_must_be_named_more_closely(lm, practice):
    class Panel(dspy.Module):
        def __init__(self):
            super().__init__()
            self.experts = [dspy.Predict("question -> answer") for _ in range(2)]

    class Asking(dspy.Module):
        def __init__(self):
            super().__init__()
            self.panel = Panel()

        def forward(self, question):
            return [expert(question=question) for expert in self.panel.experts][-1]

    practice.script({"answer": "one"}, {"answer": "two"})
    with streamll.stream(Asking())(question="Why?") as events:
        for read in FIELD_READINGS.values():
            with pytest.raises(AmbiguousFieldError, match=r"panel\.experts\[0\]\.answer, "):
                read(events, "panel.answer")
        assert "".join(events.tokens("panel.experts[1].answer")) == "two"


def test_a_program_whose_predictors_are_made_later_takes_any_name(lm, practice):
    class Later(dspy.Module):
        def forward(self, question):
            return dspy.Predict("question -> answer")(question=question)

    practice.script({"answer": "one"}, {"answer": "one"})
    with streamll.stream(Later())(question="Why?") as events:
        assert "".join(events.tokens("answer")) == "one"
    with streamll.stream(Later())(question="Why?") as events:
        assert "".join(events.tokens("answr")) == ""


@pytest.mark.parametrize("asked", ["anwer", "predict.anwer"])
@pytest.mark.parametrize("way", ["stream", "instrument"])
def test_a_misspelt_field_of_such_a_program_is_logged_when_it_has_returned(
    lm, practice, caplog, way, asked
):
    class Later(dspy.Module):
        def __init__(self, name):
            super().__init__()
            self.name = name

        def forward(self, question):
            return dspy.Predict(f"question -> answer, {self.name}")(question=question)

    def run(fields):
        practice.script({"answer": "one", own: "two"})
        if way == "instrument":
            streamll.instrument(Later(own), fields=fields, sinks=[MemorySink()])(question="Why?")
        else:
            with streamll.stream(Later(own), fields=fields)(question="Why?") as events:
                events.result()
        return [r.getMessage() for r in caplog.records if "nothing that Later" in r.getMessage()]

    own = f"of_{way}_{asked.replace('.', '_')}"  # a warning is logged once
    assert run(["answer", own]) == []
    [warning] = run(["answer", asked])
    assert f"has called has the field {asked}; there were: answer, {own}" in warning


def test_the_text_of_a_shared_field_name_must_be_asked_for_by_predictor(lm, practice):
    class Two(dspy.Module):
        def __init__(self):
            super().__init__()
            self.first = dspy.Predict("question -> answer")
            self.second = dspy.Predict("question -> answer")

        def forward(self, question):
            self.first(question=question)
            return self.second(question=question)

    practice.script({"answer": "one"}, {"answer": "two"})
    with streamll.stream(Two(), fields=["answer"])(question="Why?") as events:
        assert "".join(events.tokens("answer")) == "onetwo"
        with pytest.raises(AmbiguousFieldError, match=r"first\.answer, second\.answer"):
            events.text("answer")
        assert events.text("second.answer") == "two"


def test_without_keeping_text_none_is_kept(lm):
    with streamll.stream(QA(), keep_text=False)(question="Why?") as events:
        events.result()
        with pytest.raises(streamll.StreamllError, match="keep_text"):
            events.text("answer")


def test_the_programs_error_comes_after_its_event(lm):
    class Failing(dspy.Module):
        def forward(self, question):
            raise LookupError(question)

    with streamll.stream(Failing())(question="secret input") as events:
        seen = []
        with pytest.raises(LookupError, match="secret input"):
            for event in events:
                seen.append(event)
        assert [e.event_type for e in seen] == [
            "run.start", "module.start", "module.error", "run.error",
        ]  # fmt: skip
        assert seen[-1].error_type == "LookupError"
        assert "secret" not in repr(seen)
        with pytest.raises(LookupError):
            events.result()


def test_an_lm_error_mid_stream_keeps_the_partial_text(practice):
    """Tokens so far, ``run.error`` with partial text, the original exception raised."""
    lm = practice.lm(num_retries=0)
    practice.script(Reply(REPLY, fault=Fault(disconnect_after=12)))
    with dspy.context(lm=lm, adapter=NO_FALLBACK):
        with streamll.stream(dspy.Predict("question -> reasoning, answer"))(question="?") as events:
            seen = []
            with pytest.raises(LM_ERROR) as caught:
                for event in events:
                    seen.append(event)
    plain = streamed = "".join(e.token for e in seen if e.event_type == "token")
    assert streamed
    assert seen[-1].event_type == "run.error"
    assert plain == "".join(seen[-1].partial.values())
    assert type(caught.value).__name__ == seen[-1].error_type


def test_a_retry_mid_stream_is_announced_and_its_text_dropped(practice):
    """X4: attempts are told apart; the text is that of the last one."""
    lm = practice.lm(num_retries=1)
    practice.script(Reply(REPLY, fault=Fault(disconnect_after=12)), Reply(REPLY))
    with dspy.context(lm=lm, adapter=dspy.ChatAdapter()):
        with streamll.stream(dspy.Predict("question -> reasoning, answer"))(question="?") as events:
            seen = list(events)
            assert events.text("reasoning") == REPLY["reasoning"]
            assert events.text("answer") == events.result().answer
    (superseded,) = [e for e in seen if e.event_type == "lm.superseded"]
    assert superseded.attempt == 0
    attempts = {e.attempt for e in seen if e.event_type == "token"}
    assert attempts == {0, 1}


def test_a_chat_to_json_fallback_is_announced_and_its_text_dropped(lm, practice):
    practice.script("[[ ## reasoning ## ]]\nno answer here", {**REPLY})
    with streamll.stream(dspy.Predict("question -> reasoning, answer"))(question="?") as events:
        seen = list(events)
        result = events.result()
        assert events.text("reasoning") == result.reasoning == REPLY["reasoning"]
        assert events.text("answer") == result.answer
    (superseded,) = [e for e in seen if e.event_type == "lm.superseded"]
    assert superseded.reason == "fallback"


def test_a_cached_answer_is_one_token_per_field_marked_cached(practice):
    """C8 for ``stream`` and ``instrument``."""
    lm = practice.lm(cache=True)
    practice.script(REPLY)
    with dspy.context(lm=lm, adapter=dspy.ChatAdapter()):
        for cached in (False, True):
            with streamll.stream(QA())(question="Why?") as events:
                tokens = [e for e in events if e.event_type == "token" and e.token]
                assert events.text("answer") == REPLY["answer"]
            assert all(token.cached is cached for token in tokens)
            assert (len(tokens) == 2) is cached
        with streamll.configure(cached_tokens=False), streamll.stream(QA())(question="Why?") as ev:
            assert [e for e in ev if e.event_type == "token"] == []
    assert len(practice.requests) == 1


def test_leaving_early_raises_stream_cancelled_on_result(lm, practice):
    practice.script(Reply(REPLY, hold_after=8))
    with streamll.stream(QA())(question="Why?") as events:
        for event in events:
            if event.event_type == "token":
                break
    with pytest.raises(StreamCancelled):
        events.result()
    assert practice.requests[0].wait_closed()


def test_a_slow_reader_stops_the_program_at_the_buffers_bound(lm, practice):
    """B7 in small: the program waits when its reader lies 100 events behind."""
    practice.script({"answer": "word " * 2000})
    finished = threading.Event()

    class Watched(dspy.Module):
        def __init__(self):
            super().__init__()
            self.predict = dspy.Predict("question -> answer")

        def forward(self, question):
            result = self.predict(question=question)
            finished.set()
            return result

    with streamll.stream(Watched())(question="Why?") as events:
        first = next(events)
        assert first.event_type == "run.start"
        channel = events._program_run.channel
        deadline = time.monotonic() + 60
        while not channel.statistics().waiting_producers and time.monotonic() < deadline:
            time.sleep(0.001)
        assert not finished.wait(0.1)
        # The hundred, and the chunks of one packet, which are read together: some sixty.
        assert channel.statistics().buffered <= 200
        assert events.result().answer == ("word " * 2000).strip()
        assert finished.is_set()


def test_a_stream_inside_a_run_joins_it(lm, practice, heard):
    qa = QA()

    class Outer(dspy.Module):
        def forward(self, question):
            with streamll.stream(qa, fields=["answer"])(question=question) as events:
                seen.extend(events)
                return events.result()

    seen = []
    program = streamll.instrument(Outer(), sinks=[heard])
    practice.script(REPLY)
    program("Why?")
    assert len(heard.runs()) == 1
    assert {e.run_id for e in seen} == set(heard.runs())
    assert "".join(e.token for e in seen if e.event_type == "token") == REPLY["answer"]


def test_not_entering_is_a_clear_error():
    call = streamll.stream(lambda: None)()
    with pytest.raises(TypeError, match="enter the stream first"):
        for _ in call:
            pass
    with pytest.raises(TypeError, match="stream takes a dspy.Module or a function, not int"):
        streamll.stream(3)


def test_a_flood_of_statuses_waits_for_a_slow_reader_and_loses_none(lm):
    """Ten times the buffer is admitted; then a thread that says more waits for its reader."""

    class Chatty(dspy.Module):
        def forward(self):
            for i in range(3000):
                streamll.emit("tick", i=i)

    with streamll.stream(Chatty())() as events:
        channel = events._program_run.channel
        assert next(events).event_type == "run.start"
        deadline = time.monotonic() + 60
        while not channel.overfull and time.monotonic() < deadline:
            time.sleep(0.001)
        # Ten times 100, and what a thread can say while the lock's holder waits for its turn.
        assert channel.statistics().buffered < 2900
        ticks = [event.data["i"] for event in events if event.event_type == "tick"]
    assert ticks == list(range(3000))


def test_the_fields_of_the_stream_win_over_the_programs_own_declaration(lm, heard):
    program = streamll.instrument(QA(), stream_fields=["answer"], sinks=[heard])
    with streamll.stream(program, fields=["reasoning"])(question="Why?") as events:
        assert {e.field for e in events if e.event_type == "token"} == {"reasoning"}
    assert len(heard.runs()) == 1


def test_a_reply_is_streamed_for_others_where_the_reader_only_wants_the_result(lm, practice):
    practice.respond(lambda _: REPLY)

    def answer():
        with streamll.stream(QA(), fields=None)(question="Why?") as events:
            assert events.result().answer == REPLY["answer"]
        return practice.requests[-1].streaming

    assert not answer()
    with streamll.configure(sinks=[RecordingSink()]):
        assert answer()
    with streamll.watch():
        assert answer()
    with streamll.stream(answer)() as events:
        assert events.result()
        assert events.text("answer") == REPLY["answer"]
    assert not answer()


def test_a_call_is_entered_once(lm):
    call = streamll.stream(QA())(question="Why?")
    with call as events:
        events.result()
    with pytest.raises(streamll.StreamllError, match="entered already"), call:
        pass


@pytest.mark.parametrize("aforward", [False, True])
@pytest.mark.parametrize("on_loop", [False, True])
def test_the_settings_are_those_of_the_place_of_the_call(practice, aforward, on_loop):
    """Made in ``with dspy.context(…)`` and entered after it, as web frameworks do."""
    practice.script({"answer": "yes"})
    qa = dspy.Predict("question -> answer")
    program = qa if aforward else lambda question: qa(question=question)
    with dspy.context(lm=practice.lm(), adapter=dspy.ChatAdapter()):
        call = streamll.stream(program)(question="?")

    async def read():
        async with call as events:
            return await events.result()

    with dspy.context(lm=None):
        if on_loop:
            assert asyncio.run(read()).answer == "yes"
        else:
            with call as events:
                assert events.result().answer == "yes"


def test_a_call_made_without_settings_has_those_of_its_reader(practice):
    practice.script({"answer": "yes"})
    call = streamll.stream(dspy.Predict("question -> answer"))(question="?")
    with dspy.context(lm=practice.lm(), adapter=dspy.ChatAdapter()), call as events:
        assert events.result().answer == "yes"


def test_a_forgotten_call_or_instance_says_what_to_write(lm, practice):
    streaming = streamll.stream(QA())

    async def enter():
        async with streaming:
            pass

    async def read():
        async for _ in streaming:
            pass

    def enter_sync():
        with streaming:
            pass

    forgotten = [lambda: list(streaming), enter_sync, lambda: asyncio.run(enter())]
    for forget in (*forgotten, lambda: asyncio.run(read())):
        with pytest.raises(
            TypeError, match=r"inputs: with streamll\.stream\(program\)\(question=…"
        ):
            forget()
    for wrong in (
        streamll.stream,
        streamll.streamify,
        lambda qa: streamll.SafeDSpyStream(qa, q="?"),
    ):
        with pytest.raises(TypeError, match=r"QA is a class; give an instance of it: QA\(…\)"):
            wrong(QA)
    for nothing in ("qa", None):
        with pytest.raises(TypeError, match="streamify takes a dspy.Module or a function, not"):
            streamll.streamify(nothing)
    assert practice.requests == []


class Yielding(dspy.Module):
    def forward(self, question):
        yield question


class AsyncYielding:
    async def __call__(self, question):
        yield question


@pytest.mark.parametrize("program", [Yielding.forward, Yielding(), AsyncYielding()])
def test_a_generator_is_no_program(program):
    for wrap in (streamll.stream, streamll.streamify):
        with pytest.raises(TypeError, match="is a generator, whose call runs nothing"):
            wrap(program)


def asking(question):
    return dspy.Predict("question -> answer").acall(question=question)


class Asking:
    async def __call__(self, question):
        return await asking(question)


@pytest.mark.parametrize("program", [asking, Asking()], ids=["function", "object"])
def test_a_program_that_returns_a_coroutine_is_awaited(lm, practice, program):
    async def read():
        async with streamll.stream(program)(question="?") as events:
            return [await events.result()]

    async def streamified():
        return [each async for each in streamll.streamify(program)(question="?")]

    practice.script({"answer": "yes"}, {"answer": "yes"})
    for made in (read, streamified):
        assert asyncio.run(made())[-1].answer == "yes"
