"""What is wrong with ``dspy.streamify`` 3.4.1, each shown to be so and to be right here.

A test says what DSPy does as an assertion: where a newer DSPy does better, it fails and tells.
"""

from __future__ import annotations

import asyncio
import concurrent.futures
import re
import sys
import threading
from importlib import metadata
from pathlib import Path
from types import SimpleNamespace

import dspy
import pytest
from dspy_and_ours import BOTH, DSPY, EACH, OURS, in_a_process, read_all, values
from outcomes import script_anew
from patience import Stopwatch
from side_by_side import (
    ADAPTERS,
    PAUSED,
    STATUSES,
    answering,
    chat,
    crowd,
    differing,
    echo,
    long_reply,
    wrong_of_pairs,
)

import streamll
from streamll.testing import Fault, Reply

# --- 1: state between calls ---------------------------------------------------------------------


@pytest.mark.parametrize("side", EACH, ids=lambda side: side.name)
def test_the_second_call_streams_too(practice, lm, side):
    """C2: DSPy's listener hears the first call only."""
    streaming = answering(side)
    reply = Reply(chat(answer="one two three"))
    practice.script(reply, reply)
    first, second = read_all(streaming(question="?")), read_all(streaming(question="?"))
    assert first.text("answer") == "one two three"
    assert second.text("answer") == ("" if side is DSPY else "one two three")


@pytest.mark.parametrize("side", BOTH, ids=lambda side: side.name)
def test_forty_pairs_of_calls_at_once_on_one_object(practice, lm, side):
    """C2: no stream is wrong, and none has a word of another's.

    With DSPy a stream that has no partner any more may be right by chance, so not all are wrong.
    """
    wrong, strange = wrong_of_pairs(practice, side, 40)
    if side is DSPY:
        assert wrong > 0
    else:
        assert (wrong, strange) == (0, 0)


def test_eighty_calls_at_once_with_chunks_of_twelve_characters(practice, lm):
    """C2."""
    practice.respond(echo)
    for word, said in asyncio.run(crowd(answering(OURS), 80)):
        assert said.text("answer") == said.prediction.answer == " ".join([word] * 12)
        assert {chunk.predict_name for chunk in said.chunks} == {"self"}


def test_threads_share_one_object(practice, lm):
    """C2, C6: sync streams, a reader in every thread."""
    practice.respond(echo)
    streaming = answering(OURS, async_streaming=False)
    settings = dspy.settings.copy()

    def reading(word: str) -> str:
        with dspy.context(**settings):
            chunks = [v.chunk for v in streaming(question=word) if hasattr(v, "chunk")]
        return "".join(chunks)

    words = [f"word{number:02}" for number in range(24)]
    with concurrent.futures.ThreadPoolExecutor(12) as threads:
        assert list(threads.map(reading, words)) == [" ".join([word] * 12) for word in words]


# --- 2, 3: the text -------------------------------------------------------------------------------

MEASURED = (Path(__file__).parents[3] / "bench" / "README.md").read_text("utf-8")


def test_every_chunking_gives_the_value(practice):
    """C9, X1: no delimiters, quotes or escapes, nothing cut off, whatever the chunks."""
    counts = [differing(practice, DSPY, form) for form in ADAPTERS]
    assert all(wrong > 0 for wrong, _ in counts)
    assert [differing(practice, OURS, form) for form in ADAPTERS] == [(0, 7)] * 3
    if f"DSPy {metadata.version('dspy')}," in MEASURED:  # the README says so
        wrong, cuts = map(sum, zip(*counts, strict=True))
        row = rf"^A reply split in {cuts} ways: wrong texts +{wrong} of {cuts} +0 of {cuts}$"
        assert re.search(row, MEASURED, re.MULTILINE), (wrong, cuts)


@pytest.mark.parametrize(
    ("adapter", "reply", "answer"),
    [
        (dspy.ChatAdapter, chat(answer="see arr[[0]] there"), "see arr[[0]] there"),
        (dspy.ChatAdapter, chat(answer="say [[ ## foo ## ]] and go on"), None),
        (dspy.JSONAdapter, '{"answer" : "blank before the colon"}', "blank before the colon"),
        (dspy.JSONAdapter, '{"answer": "a \\"quote\\"\\n\\u00fc"}', 'a "quote"\nü'),
        pytest.param(
            dspy.XMLAdapter,
            "<answer>1 &lt; 2 &amp; 3</answer>",
            "1 < 2 & 3",
            marks=pytest.mark.since_3_4,  # older adapters do not decode them
        ),
    ],
    ids=["brackets", "inline header", "blank before colon", "escapes", "entities"],
)
def test_ordinary_content_is_content(practice, adapter, reply, answer):
    """C9."""
    answer = answer or "say [[ ## foo ## ]] and go on"
    texts = {}
    for side in BOTH:
        practice.script(Reply(reply, chunk=3))
        with dspy.context(lm=practice.lm(), adapter=adapter()):
            texts[side.name] = read_all(answering(side)(question="?")).text("answer")
    assert texts["streamll"] == answer
    assert texts["dspy"] != answer


def test_a_completion_in_one_chunk_streams(practice, lm):
    texts = {}
    for side in BOTH:
        practice.script(Reply(chat(answer="all at once"), chunk="whole"))
        texts[side.name] = read_all(answering(side)(question="?")).text("answer")
    assert texts == {"dspy": "", "streamll": "all at once"}


def test_a_reply_that_only_the_fallback_can_read(practice, lm):
    """X3: called plainly, the program asks again for JSON; DSPy's stream raises instead."""
    program = dspy.Predict("question -> answer, score")
    replies = ["[[ ## answer ## ]]\nno score", {"answer": "second try", "score": "1"}]
    said = {}
    practice.script(*replies)
    assert program(question="?").answer == "second try"
    for side in BOTH:
        script_anew(practice, *replies)  # DSPy does not ask for the second
        listeners = [side.StreamListener("answer")]
        said[side.name] = read_all(
            side.streamify(program, stream_listeners=listeners)(question="?")
        )
    assert said["streamll"].prediction.answer == said["streamll"].text("answer") == "second try"
    assert any(isinstance(chunk, streamll.StreamReset) for chunk in said["streamll"].chunks)
    assert type(said["dspy"].error).__name__ == "AdapterParseError"


# --- 5: leaving -----------------------------------------------------------------------------------


@pytest.fixture
def greenlets(monkeypatch):
    """New threads find a running event loop, as gevent's greenlets do that stand in for threads."""
    loop = asyncio.new_event_loop()
    run = threading.Thread.run

    def run_beside_a_loop(thread):
        if thread.name.startswith("streamll"):
            asyncio._set_running_loop(loop)
        run(thread)

    monkeypatch.setattr(threading.Thread, "run", run_beside_a_loop)
    yield
    loop.close()


@pytest.mark.timeout(120)
def test_where_threads_are_greenlets_a_sync_program_streams(practice, lm, greenlets):
    practice.script(Reply(chat(answer="one two three")))
    *chunks, prediction = answering(OURS, async_streaming=False)(question="?")
    assert "".join(chunk.chunk for chunk in chunks) == prediction.answer == "one two three"


async def counting():
    yield 1


@pytest.mark.timeout(120)
@pytest.mark.parametrize("made", ["streamify", "apply_sync_streaming"])
def test_where_threads_are_greenlets_an_async_program_is_refused(practice, lm, greenlets, made):
    if made == "streamify":
        stream = answering(OURS, async_streaming=False, is_async_program=True)(question="?")
    else:
        stream = streamll.apply_sync_streaming(counting())
    with pytest.raises(streamll.StreamllError, match="gevent"):
        list(stream)
    assert practice.requests == []


async def closing_leaves_the_reader_alone(side) -> bool:
    stream = answering(side)(question="?")
    await values(stream, 2)
    try:
        await stream.aclose()
        await asyncio.sleep(0.05)
    except BaseException:
        return False
    task = asyncio.current_task()
    cancelling = getattr(task, "cancelling", int)()  # Python 3.11
    return cancelling == 0


def dspy_cancels_the_reader() -> bool:
    try:
        return not asyncio.run(closing_leaves_the_reader_alone(DSPY))
    except asyncio.CancelledError:
        return True


def test_aclose_leaves_the_readers_own_task_alone(practice, lm):
    """X7."""
    practice.respond(lambda request: Reply(chat(answer="on and on " * 40), hold_after=20))
    assert asyncio.run(closing_leaves_the_reader_alone(OURS))
    practice.requests[-1].wait_closed()
    assert any(dspy_cancels_the_reader() for _ in range(20))
    practice.release()  # DSPy's threads read on


@pytest.mark.parametrize("side", BOTH, ids=lambda side: side.name)
def test_closing_a_sync_generator_stops_the_provider(practice, lm, side):
    """X7: DSPy reads the reply to its end."""
    practice.script(Reply(chat(answer="on and on " * 40), hold_after=20))  # not over before
    stream = answering(side, async_streaming=False)(question="?")
    next(stream)
    left = Stopwatch()
    stream.close()
    (request,) = practice.requests
    if side is DSPY:
        request.release()
        request.wait_finished()
    else:
        assert left.until(request.wait_closed()) < 0.1
        assert request.finished_at is None


# --- 6: threads and event loops ---------------------------------------------------------------------


def test_status_messages_of_an_async_program_do_not_stop_the_event_loop():
    """C5: DSPy's event loop stands still once sixteen wait."""
    theirs = in_a_process(STATUSES, "dspy", "3", timeout=300)
    assert theirs.startswith("hangs after ")
    assert in_a_process(STATUSES, "streamll", "60", timeout=300) == "statuses 800\n"


def test_eight_paused_readers_do_not_keep_the_ninth_waiting(practice):
    """B9: DSPy's programs share eight threads."""
    practice.respond(long_reply)
    url = practice.openai_url
    assert in_a_process(PAUSED, "dspy", url, "5", timeout=300).startswith("no token for")
    assert in_a_process(PAUSED, "streamll", url, "60", timeout=300) == "tokens for all\n"


# --- 7: errors --------------------------------------------------------------------------------------


@pytest.mark.since_3_4  # older ChatAdapters fall back to JSON after any error
def test_an_error_keeps_the_text_before_it_and_its_cause(practice, lm):
    """C6."""
    said = {}
    for side in BOTH:
        fault = Fault(disconnect_after=7)
        practice.script(*[Reply(chunks=[*broken_chunks], fault=fault)] * 4)
        with dspy.context(lm=practice.lm(num_retries=0)):
            said[side.name] = read_all(answering(side)(question="?"))
    ours, theirs = said["streamll"], said["dspy"]
    assert ours.text("answer") == "one [[two three four ##"
    assert theirs.text("answer") != ours.text("answer")
    assert isinstance(ours.error, type(theirs.error))
    assert ours.error.__cause__ is not None
    assert theirs.error.__cause__ is None


broken_chunks = [
    "[[ ## answer ## ]]\n",
    "one",
    " [[",
    "two",
    " three",
    " four",
    " ##",
    " [[ ##",
    " 5",
]


def failing_tool(question: str) -> str:
    raise LookupError("no such page")


class Searching(dspy.Module):
    def __init__(self):
        self.search = dspy.Tool(failing_tool, name="search")

    def forward(self, question):
        try:
            self.search(question=question)
        except LookupError:
            return dspy.Prediction(answer="nothing found")


def test_a_failing_tool_is_reported_as_failed():
    """C5."""
    statuses = {
        side.name: read_all(side.streamify(Searching())(question="?")).statuses for side in BOTH
    }
    assert "finished" in statuses["dspy"][1]
    assert statuses["streamll"] == ["Calling tool search...", "Tool search failed: LookupError"]


@pytest.mark.parametrize("program_is_async", [False, True])
def test_a_sync_stream_can_be_read_inside_a_running_loop(
    practice, lm, caplog, monkeypatch, program_is_async
):
    """C6: it works, and one warning names the async form."""
    from streamll.capture.streamify import drop_in

    monkeypatch.setattr(drop_in, "_warned", threading.Event())

    async def main():
        texts = []
        for _ in range(2):
            practice.script(chat(answer="fine"))
            stream = answering(OURS, async_streaming=False, is_async_program=program_is_async)
            texts.append("".join(v.chunk for v in stream(question="?") if hasattr(v, "chunk")))
        return texts

    assert asyncio.run(main()) == ["fine", "fine"]
    warnings = [r.getMessage() for r in caplog.records if "async_streaming=True" in r.getMessage()]
    assert len(warnings) == 1


def test_in_ipython_nothing_is_said(practice, lm, caplog, monkeypatch):
    """C6: there a loop is always running, and nobody else is on it."""
    from streamll.capture.streamify import drop_in

    ipython = SimpleNamespace(get_ipython=lambda: object())
    monkeypatch.setitem(sys.modules, "IPython", ipython)
    monkeypatch.setattr(drop_in, "_warned", threading.Event())

    async def main():
        practice.script(chat(answer="fine"))
        return list(answering(OURS, async_streaming=False)(question="?"))

    assert asyncio.run(main())[-1].answer == "fine"
    assert not [r for r in caplog.records if "event loop" in r.getMessage()]


# --- 8: who speaks ----------------------------------------------------------------------------------


class Twice(dspy.Module):
    def __init__(self):
        self.think = dspy.Predict("question -> answer")

    def forward(self, question):
        first = self.think(question=question).answer
        return self.think(question=first)


def test_chunks_of_several_calls_can_be_told_apart(practice, lm):
    """X4: DSPy's chunks name a predictor, not its call."""
    for side in BOTH:
        practice.script(chat(answer="first"), chat(answer="second"))
        listeners = [side.StreamListener("answer", allow_reuse=True)]
        said = read_all(side.streamify(Twice(), stream_listeners=listeners)(question="?"))
        turns = {getattr(chunk, "turn", None) for chunk in said.chunks}
        assert turns == ({None} if side is DSPY else {0, 1})
    assert "".join(c.chunk for c in said.chunks if c.turn == 1) == "second"
    assert len({chunk.call_id for chunk in said.chunks}) == 2


def test_a_listener_on_a_module_hears_the_predictor_inside(practice, lm):
    """C3: DSPy's says nothing at all."""
    texts = {}
    for side in BOTH:
        cot = dspy.ChainOfThought("question -> answer")
        practice.script(chat(reasoning="so", answer="Paris"))
        streaming = side.streamify(
            cot, stream_listeners=[side.StreamListener("answer", predict=cot)]
        )
        texts[side.name] = read_all(streaming(question="?")).text("answer")
    assert texts == {"dspy": "", "streamll": "Paris"}


def test_an_unknown_field_is_a_value_error_that_lists_what_there_is():
    """C2."""
    with pytest.raises(TypeError, match="unpack"):
        answering_unknown(DSPY)
    with pytest.raises(ValueError, match="has no output field 'anwser'.*answer.*Did you mean"):
        answering_unknown(OURS)


def answering_unknown(side):
    qa = dspy.Predict("question -> answer")
    return side.streamify(qa, stream_listeners=[side.StreamListener("anwser")])
