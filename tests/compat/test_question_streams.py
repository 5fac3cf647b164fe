"""B1–B3, B8: questions as streams, under the Rust example's names."""

from __future__ import annotations

import asyncio
import gc
import threading

import dspy
import pytest
from outcomes import TEXT, WHOLE

import streamll
from brokers.servers import wait_until
from streamll import (
    DSPyStream,
    DSpyStream,
    SafeDSpyStream,
    StreamConfig,
    StreamEvent,
)
from streamll.core.errors import ConfigurationError, ReplySuperseded
from streamll.testing import Fault, RecordingSink, Reply


def said(event):
    """One event, told apart by ``match``, positionally."""
    match event:
        case StreamEvent.Token(text):
            return text
        case StreamEvent.Done():
            return "<done>"
        case StreamEvent.Error(error):
            return f"<{type(error).__name__}>"
        case StreamEvent.Reset():
            return "<reset>"
    raise AssertionError(event)


def listen_sync(stream):
    return [said(event) for event in stream]


def listen_async(stream):
    async def main():
        return [said(event) async for event in stream]

    return asyncio.run(main())


@pytest.fixture(params=[listen_sync, listen_async], ids=["sync", "async"])
def listen(request):
    return request.param


def test_a_question_is_streamed_to_its_end(lm, practice, listen):
    practice.script(WHOLE)
    *words, last = listen(SafeDSpyStream("What is Rust?", 100))
    assert "".join(words) == TEXT
    assert last == "<done>"
    assert practice.requests[0].inputs == {"question": "What is Rust?"}


def test_into_stream_and_a_program_with_inputs(lm, practice, listen):
    practice.script({"summary": "short"})
    program = dspy.Predict("document, style -> summary")
    stream = SafeDSpyStream(program, document="long", style="dry").into_stream()
    assert listen(stream) == ["short", "<done>"]


def test_with_retry_is_a_constructor(lm, practice, listen):
    practice.script(Fault(status=500), Reply(WHOLE, fault=Fault(disconnect_after=9)), WHOLE)
    stream = SafeDSpyStream.with_retry("What is Rust?", 100, 3, 0.01)
    assert stream.config == StreamConfig(buffer_size=100, max_retries=3, retry_delay=0.01)
    words = listen(stream)
    assert words[-1] == "<done>"
    assert "".join(words[words.index("<reset>") + 1 : -1]) == TEXT
    assert words.count("<reset>") == 1  # the first attempt had said nothing to forget


def test_a_program_error_is_an_event_with_the_text_until_then(lm, practice):
    practice.script(Reply(WHOLE, fault=Fault(disconnect_after=8)))
    *words, error = list(SafeDSpyStream("?", StreamConfig(on_partial="fail")))
    assert isinstance(error, StreamEvent.Error)
    assert isinstance(error.error, dspy.LMError)
    assert error.error.__cause__ is not None
    assert error.partial == {"self.answer": "".join(map(said, words))}
    assert TEXT.startswith(error.partial["self.answer"])


def test_a_timeout_is_an_event(lm, practice, listen):
    practice.script(Reply(WHOLE, fault=Fault(stall_after=8)))
    assert listen(SafeDSpyStream("?", StreamConfig(idle_timeout=0.2)))[-1] == "<IdleTimeout>"


def test_text_that_still_counts_is_repeated_after_a_reset(lm, practice, listen):
    class Two(dspy.Module):
        def __init__(self):
            super().__init__()
            self.first = dspy.Predict("question -> draft")
            self.second = dspy.Predict("question, draft -> answer")

        def forward(self, question):
            return self.second(question=question, draft=self.first(question=question).draft)

    practice.script({"draft": "kept"}, Reply(WHOLE, fault=Fault(disconnect_after=8)), WHOLE)
    words = listen(SafeDSpyStream(Two(), StreamConfig(retry_delay=0.01), question="?"))
    after = words[words.index("<reset>") + 1 : -1]
    assert after[0] == "kept"
    assert "".join(after) == f"kept{TEXT}"


def test_a_corrected_field_resets(lm, practice, listen):
    practice.script(Reply("[[ ## answer ## ]]\none\n\n  [[ ## answer ## ]] two"))
    with streamll.stream(dspy.Predict("question -> answer"))(question="?") as events:
        value = events.result().answer
    practice.script(Reply("[[ ## answer ## ]]\none\n\n  [[ ## answer ## ]] two"))
    words = listen(SafeDSpyStream("?"))
    start = len(words) - words[::-1].index("<reset>") if "<reset>" in words else 0
    assert "".join(words[start:-1]) == value


def test_plain_text_streams_try_again_only_before_the_first_token(lm, practice):
    assert DSPyStream is DSpyStream
    practice.script(Fault(status=500), WHOLE)
    config = StreamConfig(retry_delay=0.01)
    assert "".join(DSpyStream("?", config)) == TEXT
    practice.script(Reply(WHOLE, fault=Fault(disconnect_after=8)), WHOLE)
    got = []
    with pytest.raises(dspy.LMError):
        got.extend(text for text in DSpyStream("?", config).into_stream())
    assert len(practice.requests) == 3


@pytest.mark.parametrize(
    ("adapter", "replies"),
    [
        (dspy.ChatAdapter, ["[[ ## answer ## ]]\nfirst", {"answer": "second", "score": "1"}]),
        (dspy.JSONAdapter, ['{"answer": "first", "answer": "second", "score": "1"}']),
    ],
    ids=["asked again", "corrected"],
)
def test_text_that_no_longer_counts_is_an_error_where_there_is_only_text(
    lm, practice, adapter, replies
):
    """It was joined with the text that does count. A reader of ``SafeDSpyStream`` gets a ``Reset``."""
    practice.script(*replies)
    words = []
    stream = DSpyStream(dspy.Predict("question -> answer, score"), question="?", fields=["answer"])
    with dspy.context(adapter=adapter()), pytest.raises(ReplySuperseded, match="no longer counts"):
        for word in stream:
            words.append(word)
    assert "".join(words) == "first"


def test_a_text_stream_on_an_event_loop(lm, practice):
    practice.script(WHOLE)

    async def main():
        return "".join([text async for text in DSpyStream("?")])

    assert asyncio.run(main()) == TEXT


@pytest.mark.parametrize("kind", [SafeDSpyStream, DSpyStream])
def test_leaving_the_loop_stops_the_provider(lm, practice, kind):
    practice.script(Reply({"answer": "a " * 500}, hold_after=20))
    for _ in kind("?"):
        break
    practice.requests[0].wait_closed()


@pytest.mark.parametrize("kind", [SafeDSpyStream, DSpyStream])
def test_leaving_the_async_loop_stops_the_provider(lm, practice, kind):
    practice.script(Reply({"answer": "a " * 500}, hold_after=20))

    async def main():
        async for _ in kind("?"):
            break
        gc.collect()
        await asyncio.to_thread(practice.requests[0].wait_closed)

    asyncio.run(main())


def test_leaving_a_loop_stops_a_stream_that_is_kept(lm, practice):
    practice.script(Reply(WHOLE, hold_after=8))
    stream = SafeDSpyStream("?")
    for _ in stream:
        break
    practice.requests[0].wait_closed()
    assert next(stream, "nothing") == "nothing"
    with pytest.raises(streamll.StreamllError, match="read once"):
        list(stream)


@pytest.mark.parametrize("kind", [SafeDSpyStream, DSpyStream])
def test_another_loop_over_a_stream_that_was_read_is_an_error(lm, practice, kind):
    stream = kind("?")
    assert list(stream)

    async def again(source):
        return [item async for item in source]

    for source in (stream, streamll.streams.smooth(stream)):
        with pytest.raises(streamll.StreamllError, match="read once; make another one"):
            list(source)
        with pytest.raises(streamll.StreamllError, match="read once; make another one"):
            asyncio.run(again(source))
    assert isinstance(streamll.collect_stream(stream).error, streamll.StreamllError)
    assert len(practice.requests) == 1


def test_a_stream_is_closed_from_another_thread(lm, practice):
    practice.script(Reply(WHOLE, hold_after=8))
    stream = SafeDSpyStream("?")
    words = []
    reader = threading.Thread(target=lambda: words.extend(listen_sync(stream)))
    reader.start()
    practice.wait_for_requests(1)[0].wait_held()
    stream.close()
    reader.join(60)
    assert not reader.is_alive()
    assert TEXT.startswith("".join(words))  # neither done nor an error: the reader has left
    practice.requests[0].wait_closed()


def test_a_stream_is_closed_from_another_thread_while_it_begins(lm, practice):
    practice.script(Reply(WHOLE, hold_after=8))
    stream = SafeDSpyStream("?")
    begin = stream._source.opened

    def closed_meanwhile(*, on_loop):
        opened = begin(on_loop=on_loop)
        closing = threading.Thread(target=stream.close)
        closing.start()
        closing.join(60)
        return opened

    stream._source.opened = closed_meanwhile
    assert next(stream, "nothing") == "nothing"


def test_nothing_starts_before_it_is_read(lm, practice):
    stream = SafeDSpyStream("?")
    with stream:
        pass
    assert not practice.requests
    assert next(stream, "nothing") == "nothing"


def test_overflow_fail_ends_the_stream(lm, practice):
    """X9: policy ``fail``."""
    practice.script({"answer": "a " * 20_000})  # what comes in one read is one piece
    seen = RecordingSink()
    stream = SafeDSpyStream("?", StreamConfig(buffer_size=5, overflow="fail"))
    with streamll.configure(sinks=[seen]):
        iterator = iter(stream)
        first = next(iterator)
    wait_until(lambda: seen.events and seen.events[-1].closes == "run", 60, "the run's end")
    words = [said(first), *map(said, iterator)]
    assert words[-1] == "<ChannelOverflow>"


@pytest.mark.parametrize("overflow", ["coalesce", "drop_oldest"])
def test_a_full_buffer_merges_tokens_or_drops_and_counts_them(lm, practice, overflow):
    """X9: ``coalesce`` loses nothing, ``drop_oldest`` says how much it lost."""
    text = " ".join(map(str, range(500)))
    practice.script({"answer": text})
    config = StreamConfig(buffer_size=5, overflow=overflow)
    with streamll.stream(dspy.Predict("question -> answer"), config=config)(question="?") as s:
        s._program_run.join(60)
        events = list(s)
    got = "".join(event.token for event in events if event.event_type == "token")
    gaps = sum(event.count for event in events if event.event_type == "stream.gap")
    if overflow == "coalesce":
        assert got == text
        assert not gaps
    else:
        assert len(got) < len(text)
        assert gaps > 100


@pytest.mark.parametrize("direct", [True, False], ids=["stream", "its iterator"])
@pytest.mark.parametrize("kind", [SafeDSpyStream, DSpyStream])
def test_a_cancelled_read_loses_nothing(lm, practice, kind, direct):
    practice.script(Reply(WHOLE, pace=0.03, hold_after=9))

    async def main():
        stream, words, timeouts = kind("?"), [], 0
        iterator = stream if direct else aiter(stream)
        while True:
            try:
                words.append(await asyncio.wait_for(anext(iterator), 0.01))
            except asyncio.TimeoutError:
                timeouts += 1
                practice.release()  # so that there is one, however late this loop is
            except StopAsyncIteration:
                return words, timeouts

    words, timeouts = asyncio.run(main())
    assert timeouts  # how many, the machine decides
    assert "".join(word if isinstance(word, str) else said(word) for word in words) in (
        TEXT,
        f"{TEXT}<done>",
    )


@pytest.mark.parametrize("kind", [SafeDSpyStream, DSpyStream])
def test_impossible_questions_are_refused_at_once(kind):
    with pytest.raises(ConfigurationError, match=f"{kind.__name__} needs a question"):
        kind()
    with pytest.raises(TypeError, match="not int"):
        kind(42)
    with pytest.raises(TypeError, match="two different questions"):
        kind("What?", question="Why?")
    with pytest.raises(ConfigurationError, match="a StreamConfig or a buffer size, not str"):
        SafeDSpyStream("?", "100")


def test_a_buffer_size_is_given_once(lm):
    assert SafeDSpyStream("?", buffer_size=7).config.buffer_size == 7
    assert SafeDSpyStream("?", 7).config.buffer_size == 7
    with pytest.raises(ConfigurationError):
        SafeDSpyStream("?", StreamConfig(), buffer_size=7)


def test_the_settings_are_those_of_the_place_where_it_is_made(practice):
    practice.script({"answer": "yes"}, {"answer": "yes"})
    with dspy.context(lm=practice.lm(), adapter=dspy.ChatAdapter()):
        questions = [kind("Is it?") for kind in (SafeDSpyStream, DSpyStream)]
    with dspy.context(lm=None):
        safe, plain = map(list, questions)
    assert "".join(event.text for event in safe[:-1]) == "".join(plain) == "yes"


def cut_and_then_refused(practice):
    practice.script(Reply(WHOLE, fault=Fault(disconnect_after=8)), Fault(status=500))
    return StreamConfig(max_retries=1, retry_delay=0.01)


def test_the_text_a_reader_saw_last_is_kept_when_the_retries_fail(lm, practice):
    """B8: the retry is refused, so it says nothing that could replace the first attempt's text."""
    *words, reset, error = list(SafeDSpyStream("?", cut_and_then_refused(practice)))
    assert isinstance(reset, StreamEvent.Reset)
    seen = "".join(map(said, words))
    assert seen
    assert error.partial == error.event.partial == {"self.answer": seen}


def test_a_retry_that_says_something_replaces_the_text(lm, practice):
    practice.script(*(Reply(WHOLE, fault=Fault(disconnect_after=after)) for after in (12, 7)))
    items = list(SafeDSpyStream("?", StreamConfig(max_retries=1, retry_delay=0.01)))
    words = [said(item) for item in items[:-1]]
    last = "".join(words[words.index("<reset>") + 1 :])
    assert items[-1].partial == items[-1].event.partial == {"self.answer": last}


@pytest.mark.parametrize("source", ["question", "events"])
def test_a_collected_stream_keeps_the_text_seen_last_when_the_retries_fail(lm, practice, source):
    config = cut_and_then_refused(practice)
    stream = SafeDSpyStream("?", config)
    if source == "events":
        stream = streamll.stream(dspy.Predict("question -> answer"), config=config)(question="?")
    collected = streamll.collect_stream(stream)
    assert not collected.ok
    assert collected.text
    assert TEXT.startswith(collected.text)
    assert collected.retries == 1


@pytest.mark.parametrize("kind", [SafeDSpyStream, DSpyStream])
def test_options_may_be_given_by_name(lm, practice, kind):
    stream = kind("?", timeout=70.0, max_retries=1, keep_text=False, fields="answer")
    assert (stream.config.timeout, stream.config.max_retries) == (70.0, 1)
    list(stream)
    assert practice.requests[-1].inputs == {"question": "?"}
    assert kind("?", 7, idle_timeout=2.0).config.buffer_size == 7
    for wrong in ({"timeout": 7.0, "config": StreamConfig()}, {"config": 7, "buffer_size": 7}):
        with pytest.raises(ConfigurationError, match="beside a config"):
            kind("?", **wrong)
    with pytest.raises(TypeError, match="'timout'"):
        kind("?", timout=7.0)


def test_an_input_of_the_program_comes_before_an_option_of_its_name(lm, practice):
    class Race(dspy.Module):
        def __init__(self):
            super().__init__()
            self.predict = dspy.Predict("timeout, max_retries -> answer")

        def forward(self, timeout, **inputs):
            return self.predict(timeout=timeout, **inputs)

    stream = SafeDSpyStream(Race(), timeout="long", max_retries="many", idle_timeout=20.0)
    assert stream.config == StreamConfig(idle_timeout=20.0)
    list(stream)
    assert practice.requests[0].inputs == {"timeout": "long", "max_retries": "many"}


def test_text_alone_cannot_begin_anew(lm):
    with pytest.raises(ConfigurationError, match="on_partial"):
        DSpyStream("?", on_partial="restart")
