"""Replies as steps, without a socket: what is written when, byte for byte."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from streamll.testing.plan import (
    EventWriter,
    HangUp,
    Head,
    Hold,
    Pause,
    Write,
    gathered,
    paced,
    split_characters,
    until_bytes,
)
from streamll.testing.replies import NO_FAULT
from streamll.testing.wires import WireFrame

WRITES = st.lists(st.builds(Write, st.text().map(str.encode)))


def written(steps) -> bytes:
    return b"".join(step.data for step in steps if isinstance(step, Write))


@given(WRITES)
def test_splitting_characters_changes_no_byte_and_leaves_no_character_whole(writes):
    steps = list(split_characters(writes))
    assert written(steps) == written(writes)
    whole = [step.data.decode(errors="ignore") for step in steps]
    assert all(text.isascii() for text in whole)


@given(WRITES, st.integers(0, 60))
def test_until_bytes_keeps_exactly_that_many_and_then_hangs_up(writes, limit):
    steps = list(until_bytes(writes, limit, reset=True))
    everything = written(writes)
    assert written(steps) == everything[:limit]
    assert (steps[-1:] == [HangUp(reset=True)]) == (len(everything) >= limit and bool(writes))


@given(st.lists(st.booleans()), st.integers(1, 100))
def test_gathered_writes_contain_and_count_every_frame_once(contents, write_bytes):
    frames = [
        WireFrame(b"x" * (7 * number), content=content) for number, content in enumerate(contents)
    ]
    steps = list(gathered(frames, EventWriter(NO_FAULT), write_bytes))
    assert sum(step.frames for step in steps) == len(frames)
    assert sum(step.chunks for step in steps) == sum(contents)
    assert written(steps) == b"".join(map(EventWriter(NO_FAULT), frames))
    assert all(len(step.data) >= write_bytes for step in steps[:-1])


def test_a_step_between_frames_ends_a_write():
    frame = WireFrame(b"1", content=True)
    steps = list(
        gathered([Head(200, "x", []), frame, Hold(), frame, frame], EventWriter(NO_FAULT), 999)
    )
    assert [type(step) for step in steps] == [Head, Write, Hold, Write]


def test_pauses_are_only_between_chunks():
    first, word, last = WireFrame(b"start"), WireFrame(b"word", content=True), WireFrame(b"end")
    steps = list(paced([first, word, word, word, last], 0.5))
    assert steps == [first, word, Pause(0.5), word, Pause(0.5), word, last]
