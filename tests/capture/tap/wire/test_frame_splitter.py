"""Cutting server-sent events out of bytes: the grammar, however the bytes are cut."""

from __future__ import annotations

import itertools

import pytest
from hypothesis import given
from hypothesis import strategies as st

from streamll.capture.tap.wire.sse import FrameSplitter

CASES = {
    "one frame": (b"data: a\n\n", [b"a"]),
    "no blank after the colon": (b"data:a\n\n", [b"a"]),
    "two blanks: one is content": (b"data:  a\n\n", [b" a"]),
    "two frames": (b"data: a\n\ndata: b\n\n", [b"a", b"b"]),
    "an event name": (b"event: message\ndata: a\n\n", [b"a"]),
    "the name after the data": (b"data: a\nevent: message\n\n", [b"a"]),
    "a name that no wire has": (b"event: meta\ndata: a\n\ndata: b\n\n", [b"b"]),
    "an object under such a name": (b'event: meta\ndata: {"message": "a"}\n\n', []),
    "a reply under such a name": (b'event: x\ndata: {"choices": 1}\n\n', [b'{"choices": 1}']),
    "the end under such a name": (b"event: end\ndata: [DONE]\n\n", [b"[DONE]"]),
    "several data lines": (b"data: a\ndata: b\ndata:\n\n", [b"a\nb\n"]),
    "a data field without a colon": (b"data\ndata: a\n\n", [b"\na"]),
    "data without content": (b"data\n\ndata:\n\ndata: \n\ndata: \t\ndata:\n\n", []),
    "a comment as data": (b"data: : STILL WORKING\n\ndata:: x\n\ndata: a\n\n", [b"a"]),
    "signs of life": (b"event: ping\ndata: ping\n\ndata: null\n\ndata: Ping\n\n", []),
    "a blank before a field": (b" data: a\n\n\tdata: b\n\n", [b"a", b"b"]),
    "lines without a blank line": (
        b'data: {"a":1}\ndata: {"b":2}\ndata: [DONE]\n\n',
        [b'{"a":1}', b'{"b":2}', b"[DONE]"],
    ),
    "one object in several lines": (b'data: {\ndata: "a": 1\ndata: }\n\n', [b'{\n"a": 1\n}']),
    "an object without data": (b': hi\n\n{"error": {}}\n\n', [b'{"error": {}}']),
    "an error by name": (b"event: error\ndata: out of memory\n\n", [b"out of memory"]),
    "an error field": (b'error: {"code": 500}\n\n', [b'{"code": 500}']),
    "comments": (b": hello\n\ndata: a\n: in between\n\n:\n\n", [b"a"]),
    "ids and retry times": (b"id: 7\nretry: 10\ndata: a\n\n", [b"a"]),
    "a field nobody knows": (b"database: x\ndata: a\n\n", [b"a"]),
    "only a name": (b"event: ping\n\ndata: a\n\n", [b"a"]),
    "more empty lines": (b"\n\n\ndata: a\n\n\n\n\ndata: b\n\n\n", [b"a", b"b"]),
    "CRLF": (b"event: message\r\ndata: a\r\n\r\ndata: b\r\n\r\n", [b"a", b"b"]),
    "CR": (b"event: message\rdata: a\r\rdata: b\r\r", [b"a", b"b"]),
    "mixed line ends": (b"data: a\r\n\ndata: b\n\r\ndata: c\r\r\n", [b"a", b"b", b"c"]),
    "a byte order mark": (b"\xef\xbb\xbfdata: a\n\n", [b"a"]),
    "a byte order mark inside is content": (
        b"data: a\n\ndata: \xef\xbb\xbf\n\n",
        [b"a", b"\xef\xbb\xbf"],
    ),
    "no blank line at the end": (b"data: a\n\ndata: b", [b"a", b"b"]),
    "one line end at the end": (b"data: a\n\ndata: b\n", [b"a", b"b"]),
    "characters": ("data: こ🎉\n\n".encode(), ["こ🎉".encode()]),
    "nothing": (b"", []),
}


def split(chunks) -> list[bytes]:
    splitter = FrameSplitter()
    frames = [frame for chunk in chunks for frame in splitter.feed(chunk)]
    return frames + splitter.finish()


@pytest.mark.parametrize(("wire", "frames"), CASES.values(), ids=CASES)
def test_a_stream_fed_whole(wire, frames):
    assert split([wire]) == frames


@pytest.mark.parametrize(("wire", "frames"), CASES.values(), ids=CASES)
def test_a_stream_fed_byte_by_byte(wire, frames):
    """A11: no cut is seen, not in a character, a line end or a mark."""
    assert split([wire[i : i + 1] for i in range(len(wire))]) == frames


@pytest.mark.parametrize(("wire", "frames"), CASES.values(), ids=CASES)
def test_cut_in_two_anywhere(wire, frames):
    for at in range(len(wire) + 1):
        assert split([wire[:at], wire[at:]]) == frames
        assert split([wire[:at], b"", wire[at:]]) == frames


LINES = st.lists(
    st.sampled_from(
        [b"data: a", b"data:b", b"event: x", b": c", b"", b"data", b"\xc3\xa9: \xc3\xa9"]
    )
)
ENDS = st.sampled_from([b"\n", b"\r\n", b"\r"])


@given(LINES, ENDS, st.lists(st.integers(0, 200), max_size=8))
def test_every_cut_of_a_stream_gives_the_same_frames(lines, end, cuts):
    wire = b"".join(line + end for line in lines)
    places = sorted({0, len(wire), *(cut for cut in cuts if cut < len(wire))})
    pieces = [wire[a:b] for a, b in itertools.pairwise(places)]
    assert split(pieces) == split([wire.replace(end, b"\n")])


def test_a_frame_is_complete_with_its_blank_line():
    """X2: not with the next frame."""
    splitter = FrameSplitter()
    assert splitter.feed(b"data: a\n") == []
    assert splitter.feed(b"\n") == [b"a"]
    assert splitter.feed(b"data: b\r\n\r") == [b"b"]
    assert splitter.feed(b"\ndata: c\n\n") == [b"c"]


@pytest.mark.parametrize("begin", [b"", b"data: {}\n", b"data: {}\n\n"])
def test_the_announced_end_needs_no_blank_line(begin):
    wire = begin + b"data: [DONE]\n"
    frames = [b"{}", b"[DONE]"] if begin else [b"[DONE]"]
    for chunks in ([wire], [wire[at : at + 1] for at in range(len(wire))]):
        splitter = FrameSplitter()
        assert [data for chunk in chunks for data in splitter.feed(chunk)] == frames


def test_long_lines_in_small_pieces_stay_linear():
    """A line of 4 MB in pieces of 8 bytes: quadratic work would take hours."""
    line = b"x" * 4_000_000
    wire = b"data: " + line + b"\n\n"
    pieces = (wire[i : i + 8] for i in range(0, len(wire), 8))
    assert split(pieces) == [line]
