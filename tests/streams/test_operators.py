"""B11, A14: operators over any stream, the same for ``for`` and ``async for``."""

from __future__ import annotations

import asyncio
import math
import os
import threading
import time

import dspy
import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

import streamll
from streamll import streams
from streamll.core.errors import ConfigurationError
from streamll.core.events import FieldCorrected, FieldEnd, Identity, LMSuperseded, TokenEvent
from streamll.core.ordering import OrderCheck
from streamll.core.run_view import RunView
from streamll.streams.smoothing import Pace, Pieces, Smoother
from streamll.streams.stream_events import Done, Reset, Token
from streamll.testing import Fault, Reply


def read_sync(stream):
    return list(stream)


def read_async(stream):
    async def main():
        return [item async for item in stream]

    return asyncio.run(main())


@pytest.fixture(params=[read_sync, read_async], ids=["sync", "async"])
def read(request):
    return request.param


async def agenerate(*items):
    for item in items:
        yield item


@pytest.fixture(params=[lambda *items: iter(items), agenerate], ids=["iterator", "async generator"])
def source(request):
    return request.param


def token(text, offset=0, field="answer"):
    return TokenEvent(field=field, token=text, offset=offset, identity=Identity(run_id="r"))


def test_map_and_filter_see_text_only(read, source):
    items = ["ab", token("cd"), Token("ef"), FieldEnd(field="answer", length=2), Done()]
    mapped = read(streams.map_tokens(source(*items), str.upper))
    assert mapped == ["AB", token("CD"), Token("EF"), *items[3:]]
    kept = read(streams.filter_tokens(source(*items), lambda text: "c" not in text))
    assert kept == [items[0], items[2], *items[3:]]


def response(chunk, *, last=False):
    return streamll.StreamResponse("self", "answer", chunk, is_last_chunk=last)


def reset(text):
    taken_back = streamll.StreamReset("self", "answer", "", is_last_chunk=False)
    taken_back.text, taken_back.reason = text, "corrected"
    return taken_back


def test_what_has_no_text_of_its_own_passes_map_and_filter(read, source):
    """Resets, last chunks and a finish reason come on an empty text, which is no reader's piece."""
    end = msgspec.structs.replace(token(""), finish_reason="stop")
    items = ["", end, Token("", end), response("a"), reset(""), response("", last=True)]
    own = dspy.streaming.StreamResponse("self", "answer", "b", is_last_chunk=True)
    kept = read(streams.filter_tokens(source(*items, own), str.isdigit))
    assert kept == [*items[:3], *items[4:], response("", last=True)]
    mapped = read(streams.map_tokens(source(*items), lambda text: text[0] + "!"))
    assert mapped == [*items[:3], response("a!"), *items[4:]]


def test_text_that_stands_for_a_whole_field_is_mapped_as_its_pieces_are(read, source):
    items = [reset("right"), FieldCorrected(field="answer", text="right", value="right")]
    mapped = read(streams.map_tokens(source(*items), str.upper))
    assert mapped == [reset("RIGHT"), FieldCorrected(field="answer", text="RIGHT", value="right")]
    assert items[0].text == "right"


def test_buffer_by_number(read, source):
    assert read(streams.buffer(source(*"abcde"), 2)) == [["a", "b"], ["c", "d"], ["e"]]


class Noting:
    """A stream that says when its reader has had something."""

    def __init__(self, stream):
        self.stream = stream
        self.had = threading.Event()

    def __iter__(self):
        for item in self.stream:
            self.had.set()
            yield item

    async def __aiter__(self):
        async for item in self.stream:
            self.had.set()
            yield item


def test_buffer_by_time(read):
    def slow():
        yield from "ab"
        assert stream.had.wait(60)  # what was there goes out while nothing more comes
        yield from "cd"

    stream = Noting(streams.buffer(slow(), seconds=0.2))
    batches = read(stream)
    assert [item for batch in batches for item in batch] == list("abcd")
    assert len(batches) > 1  # two, or more where items come far from each other
    assert read(streams.buffer(iter(range(10)), 4, seconds=60)) == [
        [0, 1, 2, 3], [4, 5, 6, 7], [8, 9],
    ]  # fmt: skip


def test_a_buffer_that_waits_passes_errors_on(read):
    def failing():
        yield 1
        raise ValueError("bad")

    with pytest.raises(ValueError, match="bad"):
        read(streams.buffer(failing(), seconds=0.1))


def test_throttle_keeps_the_pace_and_the_text(read, source):
    began = time.monotonic()
    assert read(streams.throttle(source(*"abcdef"), 50)) == list("abcdef")
    assert time.monotonic() - began >= 0.1 - 0.005


def test_to_file_writes_while_it_passes(read, source, tmp_path):
    path = tmp_path / "out.txt"
    assert read(streams.to_file(source("héllo", " ", "wörld\r\n"), path)) == [
        "héllo",
        " ",
        "wörld\r\n",
    ]
    assert path.read_bytes().decode() == "héllo wörld\r\n"
    read(streams.to_file(source("!"), path, append=True))
    assert path.read_bytes().decode() == "héllo wörld\r\n!"


def test_to_file_takes_superseded_text_back(read, source, tmp_path):
    path = tmp_path / "out.txt"
    path.write_text("before ")
    gone = LMSuperseded(reason="TransportError", identity=Identity(run_id="r"))
    read(
        streams.to_file(
            source(token("wro"), token("ng", 3), gone, token("right")), path, append=True
        )
    )
    # the attempt is in the identity: tokens of the same attempt are gone, later ones stay
    assert path.read_text() == "before right"
    read(streams.to_file(source(Token("wrong"), Reset(), Token("right")), path))
    assert path.read_text() == "right"


@pytest.mark.parametrize("asks_again", [False, True])
def test_to_file_takes_what_streamify_yields(lm, practice, tmp_path, asks_again):
    reply = {"reasoning": "Think.", "answer": "Paris is nice."}
    practice.script(*[Reply(reply, fault=Fault(disconnect_after=20))] * asks_again, reply)
    listeners = [streamll.StreamListener(name) for name in reply]
    call = streamll.streamify(
        dspy.Predict("question -> reasoning, answer"),
        stream_listeners=listeners,
        async_streaming=False,
    )
    list(streams.to_file(call(question="?"), tmp_path / "out.txt"))
    assert len(practice.requests) == 1 + asks_again
    assert (tmp_path / "out.txt").read_text() == "Think.Paris is nice."


def test_a_file_is_written_piece_by_piece(tmp_path):
    path = tmp_path / "out.txt"
    stream = iter(streams.to_file(iter("ab"), path))
    next(stream)
    assert path.read_text() == "a"
    stream.close()


OPERATORS = {
    "smooth": lambda s: streams.smooth(s, interval=0),
    "throttle": lambda s: streams.throttle(s, 1000),
    "map": lambda s: streams.map_tokens(s, str.upper),
    "filter": lambda s: streams.filter_tokens(s, bool),
    "buffer": lambda s: streams.buffer(s, 1),
    "buffer seconds": lambda s: streams.buffer(s, 1, seconds=1),
    "progress": lambda s: streams.with_progress(s),
}


@pytest.mark.parametrize("name", OPERATORS)
def test_leaving_closes_the_source(name):
    closed = threading.Event()

    def endless():
        try:
            while True:
                yield "word "
        finally:
            closed.set()

    stream = iter(OPERATORS[name](endless()))
    next(stream)
    stream.close()
    assert closed.wait(60)


@pytest.mark.parametrize("name", OPERATORS)
def test_leaving_closes_an_async_source(name):
    async def main():
        closed = asyncio.Event()

        async def endless():
            try:
                while True:
                    yield "word "
                    await asyncio.sleep(0)
            finally:
                closed.set()

        stream = OPERATORS[name](endless()).__aiter__()
        await stream.__anext__()
        await stream.aclose()
        await asyncio.wait_for(closed.wait(), 60)

    asyncio.run(main())


@pytest.mark.parametrize("name", OPERATORS)
def test_a_cancelled_read_loses_nothing(name):
    timeouts = asyncio.Semaphore(0)

    async def words():
        for word in ("one ", "two ", "three "):
            await timeouts.acquire()
            await timeouts.acquire()
            yield word

    async def main():
        stream, got = aiter(OPERATORS[name](words())), []
        while True:
            try:
                item = await asyncio.wait_for(anext(stream), 0.01)
                got.extend(item if isinstance(item, list) else [item])
            except asyncio.TimeoutError:
                timeouts.release()
            except StopAsyncIteration:
                return got

    assert "".join(asyncio.run(main())).lower() == "one two three "


def test_a_read_that_is_cancelled_while_an_item_waits_for_its_time_keeps_the_item():
    async def main():
        stream = aiter(streams.smooth(iter(["a b c d "]), interval=0.04))
        got = []
        while True:
            try:
                got.append(await asyncio.wait_for(anext(stream), 0.01))
            except asyncio.TimeoutError:
                continue
            except StopAsyncIteration:
                return got

    assert asyncio.run(main()) == ["a ", "b ", "c ", "d "]


def test_operators_stand_on_one_another(read, source, tmp_path):
    stream = streams.map_tokens(source("one two", " three"), str.upper)
    stream = streams.smooth(stream, "word", interval=0)
    stream = streams.to_file(stream, tmp_path / "out.txt")
    assert read(streams.buffer(stream, 2)) == [["ONE ", "TWO "], ["THREE"]]
    assert (tmp_path / "out.txt").read_text() == "ONE TWO THREE"


def test_impossible_sources_and_options_are_refused():
    for wrong in (
        lambda: streams.smooth("text"),
        lambda: streams.throttle(5, 1),
    ):
        with pytest.raises(TypeError):
            wrong()
    for wrong in (
        lambda: streams.smooth([], "sentence"),
        lambda: streams.smooth([], interval=-1),
        lambda: streams.throttle([], 0),
        lambda: streams.buffer([]),
        lambda: streams.buffer([], 0),
        lambda: streams.buffer([], 1.5),
        lambda: streams.buffer([], seconds=0),
        lambda: streams.throttle([], math.nan),
        lambda: streams.buffer([], 1.5),
        lambda: streams.buffer([], math.nan),
        lambda: streams.buffer([], seconds=math.nan),
    ):
        with pytest.raises(ConfigurationError):
            wrong()


# --- smooth -------------------------------------------------------------------------------------

TEXTS = st.text(alphabet=st.sampled_from("ab 안é\n\t\r👩‍🚀\u0301\u200d🇩🇪"), max_size=40)


@given(st.lists(TEXTS, max_size=6), st.sampled_from(["word", "grapheme"]))
def test_smoothing_never_changes_the_text(chunks, unit):
    """A14: whatever the chunks, the pieces joined are the chunks joined."""
    pieces = list(streams.smooth(iter(chunks), unit, interval=0))
    assert "".join(pieces) == "".join(chunks)


@given(st.lists(TEXTS, max_size=6), st.sampled_from(["word", "grapheme"]))
def test_pieces_are_the_same_however_the_text_is_cut(chunks, unit):
    whole, cut = Pieces(unit), Pieces(unit)
    text = "".join(chunks)
    expected = [*whole.feed(text), *whole.rest()]
    got = [piece for chunk in chunks for piece in cut.feed(chunk)] + cut.rest()
    if unit == "grapheme":
        assert got == expected
    assert "".join(got) == "".join(expected)


def test_smoothed_events_stay_in_place(read, source):
    items = [
        token("one two th", 0), token("ree", 10), FieldEnd(field="answer", length=13),
        token("other", 0, "next"),
    ]  # fmt: skip
    out = read(streams.smooth(source(*items), interval=0))
    tokens = [item for item in out if isinstance(item, TokenEvent)]
    assert [(each.field, each.offset, each.token) for each in tokens] == [
        ("answer", 0, "one "), ("answer", 4, "two "), ("answer", 8, "three"), ("next", 0, "other"),
    ]  # fmt: skip
    assert out[3] is items[2]
    assert [each.token_index for each in tokens] == [0, 1, 2, 0]


@pytest.mark.parametrize("unit", ["word", "grapheme"])
def test_a_smoothed_run_is_a_run_in_legal_order(lm, practice, unit):
    """Also with a retry, two fields, a merged token and a gap: each piece is a token of its own."""
    reply = {"reasoning": "one two three", "answer": "four five six"}
    for cut in (None, Fault(disconnect_after=9)):
        practice.script(Reply(reply, chunk=7, fault=cut), *([Reply(reply, chunk=5)] if cut else []))
        program = dspy.Predict("question -> reasoning, answer")
        with streamll.stream(program)(question="?") as events:
            order, view = OrderCheck(), RunView()
            smoothed = []
            for event in streams.smooth(iter(events), unit, interval=0):
                order.check(event)
                view.feed(event)
                smoothed.append(event)
            order.finish()
            assert [event.seq for event in smoothed] == list(range(len(smoothed)))
            assert view.named_texts() == {f"self.{k}": v for k, v in reply.items()}
    tokens = [event for event in smoothed if event.event_type == "token"]
    assert len({(each.attempt, each.field, each.token_index) for each in tokens}) == len(tokens)
    assert {event.event_type for event in smoothed} >= {"lm.superseded", "run.end"}


def test_what_streamify_yields_is_mapped_and_smoothed(lm, practice):
    practice.script(*[Reply({"answer": "one two three"}, chunk=100)] * 3)
    listeners = [streamll.StreamListener("answer")]
    call = streamll.streamify(
        dspy.Predict("question -> answer"), stream_listeners=listeners, async_streaming=False
    )
    *mapped, prediction = streams.map_tokens(call(question="?"), str.upper)
    assert prediction.answer == "one two three"
    assert "".join(each.chunk for each in mapped) == "ONE TWO THREE"
    *smoothed, prediction = streams.smooth(call(question="?"), interval=0)
    assert [each.chunk for each in smoothed] == ["one ", "two ", "three", ""]
    assert [each.is_last_chunk for each in smoothed] == [False, False, False, True]
    assert {each.signature_field_name for each in smoothed} == {"answer"}
    assert prediction.answer == "one two three"
    assert "".join(
        each.chunk for each in streams.filter_tokens(call(question="?"), lambda text: not text)
        if hasattr(each, "chunk")
    ) == ""  # fmt: skip


def test_the_last_chunk_of_a_field_stays_the_last_one():
    """DSPy's own marks a chunk that has text."""
    chunks = [
        dspy.streaming.StreamResponse("self", "answer", "one two", is_last_chunk=False),
        dspy.streaming.StreamResponse("self", "answer", " three", is_last_chunk=True),
    ]
    smoothed = list(streams.smooth(chunks, interval=0))
    assert "".join(each.chunk for each in smoothed) == "one two three"
    assert [each.is_last_chunk for each in smoothed][-2:] == [False, True]
    assert [each.chunk for each in chunks] == ["one two", " three"]


@pytest.mark.parametrize(
    "operator",
    [
        streams.smooth,
        lambda s: streams.throttle(s, 1000),
        lambda s: streams.map_tokens(s, str.upper),
        lambda s: streams.filter_tokens(s, bool),
        lambda s: streams.to_file(s, os.devnull),
    ],
    ids=["smooth", "throttle", "map", "filter", "file"],
)
def test_a_providers_raw_chunks_are_refused(lm, practice, operator):
    call = streamll.streamify(dspy.Predict("question -> answer"), async_streaming=False)
    with pytest.raises(TypeError, match="stream_listeners="):
        list(operator(call(question="?")))


@pytest.mark.parametrize("operator", [streams.map_tokens, streams.filter_tokens])
def test_a_coroutine_function_is_refused(operator):
    async def function(text):
        return text

    with pytest.raises(TypeError, match="ordinary function"):
        operator(["a"], function)


def test_what_is_there_already_comes_within_a_moment():
    clock = type("Clock", (), {"now": 0.0, "__call__": lambda self: self.now})()
    pace = Pace(0.03, clock)
    stage = Smoother("word", pace)
    assert sum(delay for delay, _ in stage.feed("word " * 100)) < 0.5
    pace._asked_at = clock.now  # so was the next one
    assert sum(delay for delay, _ in stage.feed("word " * 1000)) < 0.5


def test_a_family_is_one_grapheme_and_an_accent_may_come_later():
    pieces = Pieces("grapheme")
    assert pieces.feed("👩‍👩‍👧e") == ["👩‍👩‍👧"]
    assert pieces.feed("\u0301x") == ["e\u0301"]
    assert pieces.rest() == ["x"]


def test_the_pace_is_even_and_follows_the_source():
    clock = type("Clock", (), {"now": 0.0, "__call__": lambda self: self.now})()
    pace = Pace(0.05, clock)
    stage = Smoother("word", pace)

    def feed(text):
        delays = [delay for delay, _ in stage.feed(text)]
        clock.now += sum(delays)
        return delays

    assert feed("a b c d e f ") == [0.05] * 5
    clock.now += 0.05
    pace._asked_at -= 0.05
    assert feed("g h i j k l ") == pytest.approx([0.05] * 6)  # it came after 0.3 s: 6 pieces fit
    pace._asked_at = clock.now  # the next was there already
    behind = feed("m n o p q r ")
    assert behind == pytest.approx([0.035] * 6)  # catching up, evenly


OF_KEPT = {"smooth": ["one ", "two ", "th"], "buffer": [["one two th"]]}


@pytest.mark.parametrize("name", OF_KEPT)
@pytest.mark.parametrize("is_async", [False, True], ids=["sync", "async"])
def test_what_is_kept_comes_before_the_error_of_the_source(name, is_async):
    def failing():
        yield "one two th"
        raise LookupError

    operator = {"smooth": lambda s: streams.smooth(s, interval=0), "buffer": streams.buffer}[name]
    stream, got = operator(failing(), *([9] if name == "buffer" else [])), []

    async def read():
        async for item in stream:
            got.append(item)

    def read_here():
        for item in stream:
            got.append(item)

    with pytest.raises(LookupError):
        asyncio.run(read()) if is_async else read_here()
    assert got == OF_KEPT[name]
