"""B5: a whole stream as one value: text, usage, times and errors; awaited or not."""

from __future__ import annotations

import asyncio

import dspy
import pytest
from outcomes import TEXT, WHOLE

import streamll
from streamll import SafeDSpyStream, StreamConfig, collect_stream, streams
from streamll.core.errors import StreamllError
from streamll.streams import Collected
from streamll.testing import Fault, Reply


def collected(source) -> Collected:
    return collect_stream(source)


async def acollected(source) -> Collected:
    return await collect_stream(source)


@pytest.fixture(params=["sync", "async"])
def collect(request):
    return collected if request.param == "sync" else lambda source: asyncio.run(acollected(source))


def test_a_collected_stream_has_text_usage_and_times(lm, practice, collect):
    practice.script({"reasoning": "Think.", "answer": TEXT})
    program = dspy.ChainOfThought("question -> answer")
    result = collect(streamll.stream(program)(question="?"))
    assert result.fields == {"reasoning": "Think.", "answer": TEXT}
    assert result.text == f"Think.\n\n{TEXT}"
    assert result.ok
    assert result.result().answer == TEXT
    assert result.prompt_tokens > 0
    assert result.completion_tokens > 0
    assert result.lm_calls == 1
    assert 0 < result.time_to_first_token <= result.duration
    assert result.tokens_per_second > 0


@pytest.mark.since_3_4  # options for attempts
def test_a_collected_question(lm, practice, collect):
    practice.script(Fault(status=500), WHOLE)
    result = collect(SafeDSpyStream("?", StreamConfig(retry_delay=0.01)))
    assert str(result) == result.text == TEXT
    assert result.prediction.answer == TEXT
    assert result.fields == {"answer": TEXT}


@pytest.mark.since_3_4  # options for attempts
def test_a_collected_failure_keeps_the_text(lm, practice, collect):
    practice.script(Reply(WHOLE, fault=Fault(disconnect_after=9)))
    config = StreamConfig(on_partial="fail")
    result = collect(
        streamll.stream(dspy.Predict("question -> answer"), config=config)(question="?")
    )
    assert not result.ok
    assert result.text
    assert TEXT.startswith(result.text)
    with pytest.raises(dspy.LMError):
        result.result()


def test_any_iterator_can_be_collected(collect):
    assert collect(iter(["a", "b"])).text == "ab"

    async def generate():
        yield "a"
        yield "b"

    assert collect(generate()).text == "ab"


def test_the_result_is_the_same_class_wherever_it_is_made(lm, practice):
    here = collect_stream(iter(["a", "b"]))
    assert isinstance(here, Collected)

    async def main():
        unread = collect_stream(iter(["a", "b"]))
        assert type(unread) is Collected
        task = asyncio.create_task(collect_stream(iter("cd")))
        assert await unread is await unread  # read once
        return unread, await task, await streamll.acollect_stream(iter("ef"))

    awaited, from_task, from_coroutine = asyncio.run(main())
    assert (awaited.fields, awaited.token_count) == (here.fields, here.token_count)
    assert [from_task.text, from_coroutine.text] == ["cd", "ef"]

    async def await_here():
        return await here

    assert asyncio.run(await_here()) is here


def test_a_result_that_is_not_awaited_is_read_when_it_is_used():
    async def main():
        result = collect_stream(iter(["a", "b"]))
        assert not hasattr(result, "nothing")
        return result.text, result.ok

    assert asyncio.run(main()) == ("ab", True)


def test_collecting_in_synchronous_code_reads_even_if_nobody_looks(tmp_path):
    collect_stream(streams.to_file(iter("abc"), tmp_path / "out.txt"))
    assert (tmp_path / "out.txt").read_text() == "abc"


def test_only_what_can_be_iterated_over_is_collected():
    for nothing in ("text", 5, None):
        with pytest.raises(TypeError, match="something to iterate over"):
            collect_stream(nothing)


def test_what_has_been_read_is_not_collected_as_nothing(lm, practice, collect):
    practice.script({"answer": TEXT})
    with streamll.stream(dspy.Predict("question -> answer"))(question="?") as events:
        events.result()
        with pytest.raises(StreamllError, match="read to its end"):
            collect(events)


def test_what_streamify_yields_is_collected_by_field_without_superseded_text(lm, practice):
    reply = {"reasoning": "Think.", "answer": TEXT}
    practice.script(Reply(reply, fault=Fault(disconnect_after=20)), reply)
    listeners = [streamll.StreamListener(name) for name in reply]
    call = streamll.streamify(
        dspy.Predict("question -> reasoning, answer"), stream_listeners=listeners
    )
    collected = asyncio.run(acollected(call(question="?")))
    assert len(practice.requests) == 2
    assert collected.fields == reply
    assert collected.result().answer == TEXT
    assert collected.retries == 1


class Drafts(dspy.Module):
    """Two predictors with a field of one name; the second is called twice."""

    def __init__(self):
        super().__init__()
        self.draft = dspy.Predict("question -> answer")
        self.polish = dspy.Predict("question, draft -> answer, score")

    def forward(self, question):
        answer = self.draft(question=question).answer
        for _ in range(2):
            polished = self.polish(question=question, draft=answer)
        return polished


def test_what_streamify_yields_of_several_calls_is_kept_apart_as_events_are(lm, practice):
    """A reset takes back the text of its own call, not that of another predictor or of one before."""
    replies = (
        {"answer": "First."}, {"answer": "Second.", "score": "1"},
        "[[ ## answer ## ]]\nnot as asked for", {"answer": "Third.", "score": "2"},
    )  # fmt: skip
    listeners = [
        streamll.StreamListener("answer", predict_name=name) for name in ("draft", "polish")
    ]
    call = streamll.streamify(Drafts(), stream_listeners=listeners, async_streaming=False)
    practice.script(*replies)
    yielded = collected(call(question="?"))
    practice.script(*replies)
    events = collected(streamll.stream(Drafts(), fields=["answer"])(question="?"))
    assert yielded.fields == events.fields
    assert yielded.fields == {"draft.answer": "First.", "polish.answer": "Second.Third."}
    assert yielded.retries == events.retries == 1
    assert yielded.result().score == events.result().score == "2"
