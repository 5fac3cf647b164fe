"""Sanitizing, measuring and wrapping text; formatting of numbers."""

from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from streamll.terminal import text as tx
from streamll.terminal.text import WrappedText, fold

CONTROLS = [chr(code) for code in (*range(0x20), 0x7F, *range(0x80, 0xA0))]


@pytest.mark.parametrize(
    ("hostile", "harmless"),
    [
        ("\x1b[31mred\x1b[0m", "␛[31mred␛[0m"),
        ("\x1b]0;title\x07", "␛]0;title␇"),
        ("\x9b2J", "\ufffd2J"),
        ("a\x7f\x00b", "a␡␀b"),
        ("one\r\ntwo\rthree", "one\ntwothree"),
        ("tab\there", "tab    here"),
        ("\u202eevil", "\ufffdevil"),
        ("half \ud83d", "half \ufffd"),
        ("para\u2029graph", "para\ngraph"),
        ("こんにちは 🙂 ❤️", "こんにちは 🙂 ❤️"),
    ],
)
def test_control_characters_become_visible(hostile, harmless):
    assert tx.clean(hostile) == harmless


@pytest.mark.parametrize("character", CONTROLS)
def test_no_control_character_gets_through(character):
    assert all(c == "\n" or c.isprintable() for c in tx.clean(f"a{character}b"))
    assert all(c.isprintable() for c in tx.one_line(f"a{character}b"))
    assert all(c.isprintable() for c in tx.quote(f"a{character}b"))


@given(st.text(st.characters(exclude_categories=["Cs"])))
def test_a_quoted_token_is_json_on_one_line_and_reads_back_as_itself(text):
    quoted = tx.quote(text)
    assert json.loads(quoted) == text
    assert "\n" not in quoted


@pytest.mark.parametrize(
    ("seconds", "said"),
    [
        (0, "<1 ms"), (0.0004, "<1 ms"), (0.004, "4 ms"), (0.31, "0.31 s"), (0.996, "1.0 s"),
        (1.24, "1.2 s"), (9.96, "10 s"), (42.3, "42 s"), (59.7, "1 min 00 s"),
        (125, "2 min 05 s"), (3700, "1 h 01 min"),
    ],
)  # fmt: skip
def test_durations(seconds, said):
    assert tx.seconds(seconds) == said


@pytest.mark.parametrize(
    ("dollars", "said"),
    [
        (0.0001, "$0.0001"), (0.00013, "$0.00013"), (0.000002, "$0.000002"), (0.01, "$0.01"),
        (0.0213, "$0.021"), (0.5, "$0.50"), (1.234, "$1.23"), (1234.5, "$1,234.50"),
    ],
)  # fmt: skip
def test_costs(dollars, said):
    assert tx.dollars(dollars) == said


@pytest.mark.parametrize(
    ("text", "width", "head", "tail"),
    [
        ("hello world", 20, "hello world", "hello world"),
        ("hello world", 7, "hello …", "… world"),
        ("漢字漢字", 5, "漢字…", "…漢字"),
        ("漢字漢字", 4, "漢…", "…字"),
        ("hello", 0, "", ""),
    ],
)
def test_a_line_cut_to_a_width(text, width, head, tail):
    assert tx.head(text, width) == head
    assert tx.tail(text, width) == tail


@pytest.mark.parametrize(
    ("line", "width", "lines"),
    [
        ("a short line", 20, ["a short line"]),
        ("words that are wrapped", 11, ["words that", "are wrapped"]),
        ("antidisestablishment", 8, ["antidise", "stablish", "ment"]),
        ("日本語の文章です。", 8, ["日本語の", "文章で", "す。"]),
        ("mixed 日本語 text", 10, ["mixed 日本", "語 text"]),
        ("    indented code here", 14, ["    indented", "code here"]),
    ],
)
def test_wrapping(line, width, lines):
    assert fold(line, width) == lines


PIECES = st.sampled_from(
    [
        "a",
        "word ",
        " ",
        "  ",
        "\n",
        "漢",
        "字",
        "。",
        "「",
        "🙂",
        "é",
        "\u3000",
        "longerthananyline",
    ]
)


def wrapped(text: str) -> WrappedText:
    whole = WrappedText()
    whole.append(text)
    return whole


@given(st.lists(PIECES, max_size=40), st.integers(8, 24), st.data())
def test_growing_text_is_wrapped_like_whole_text(pieces, width, data):
    growing = WrappedText()
    for piece in pieces:
        growing.append(piece)
        if data.draw(st.booleans()):
            growing.lines(width)
    lines = growing.lines(width)
    assert lines == wrapped("".join(pieces)).lines(width)
    assert all(tx.cells(line.rstrip(" \u3000")) <= width for line in lines)
    assert "".join("".join(lines).split()) == "".join("".join(pieces).split())


def test_the_ending_of_a_text():
    growing = WrappedText()
    for number in range(100):
        growing.append(f"{number} ")
    assert growing.ending(9) == "97 98 99 "
    assert wrapped("short").ending(100) == "short"
