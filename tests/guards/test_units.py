"""Units of a text: where they end, in whatever pieces the text comes."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from streamll.guards.units import SENTENCE_LIMIT, units_of

CASES = [
    ("sentence", "One. Two! Three", ["One. ", "Two! ", "Three"]),
    ("sentence", "One.  Two", ["One. ", " Two"]),
    ("sentence", "Pi is 3.14, see a.b/c. Yes", ["Pi is 3.14, see a.b/c. ", "Yes"]),
    ("sentence", 'He said "No!" and left. "Why?" Well…', ['He said "No!" ', "and left. ",
     '"Why?" ', "Well…"]),
    ("sentence", "**Done.** (Really?!) Next", ["**Done.** ", "(Really?!) ", "Next"]),
    ("sentence", "A title\n\nText\r\nMore", ["A title\n", "\n", "Text\r\n", "More"]),
    ("sentence", "你好。世界！「真的？」好", ["你好。", "世界！", "「真的？」", "好"]),
    ("sentence", "本当。 Yes。.No", ["本当。 ", "Yes。.", "No"]),
    ("sentence", "End.", ["End."]),
    ("sentence", "", []),
    ("sentence", "क्या यह है। हाँ", ["क्या यह है। ", "हाँ"]),
    ("line", "One. Two\nThree\n\nFour", ["One. Two\n", "Three\n", "\n", "Four"]),
    ("field", "One. Two\nThree", ["One. Two\nThree"]),
    (4, "abcdefghij", ["abcd", "efgh", "ij"]),
    (1, "ab", ["a", "b"]),
    (5, "abcde", ["abcde"]),
]  # fmt: skip


def units(unit, pieces):
    cutter = units_of(unit)
    ended = [each for piece in pieces for each in cutter.feed(piece)]
    return [*ended, *cutter.finish()]


@pytest.mark.parametrize(("unit", "text", "expected"), CASES)
def test_where_units_end(unit, text, expected):
    assert units(unit, [text]) == expected
    assert units(unit, text) == expected


@given(
    st.sampled_from(["sentence", "line", "field", 1, 3, 7]),
    st.lists(st.text(alphabet='ab .!?…。！」")\n\t*', max_size=8), max_size=12),
)
def test_units_do_not_depend_on_pieces_and_are_the_text(unit, pieces):
    text = "".join(pieces)
    found = units(unit, pieces)
    assert "".join(found) == text
    assert found == units(unit, [text])
    assert all(found)


@pytest.mark.parametrize("size", [1, 7, SENTENCE_LIMIT, 10 * SENTENCE_LIMIT])
@pytest.mark.parametrize("word", ["word ", "x", "...", " "])
def test_a_sentence_without_an_end_is_cut(word, size):
    text = word * (3 * SENTENCE_LIMIT)
    found = units("sentence", [text[at : at + size] for at in range(0, len(text), size)])
    assert found == units("sentence", [text])
    assert "".join(found) == text
    assert len(found) > 2
    assert max(map(len, found)) <= SENTENCE_LIMIT
    if word == "word ":
        assert all(each.endswith(" ") for each in found)


def test_a_unit_is_known_with_the_character_that_ends_it():
    cutter = units_of("sentence")
    assert cutter.feed("It is so.") == []
    assert cutter.feed(" ") == ["It is so. "]
    cutter = units_of("sentence")
    assert cutter.feed("そう。") == []
    assert cutter.feed("は") == ["そう。"]
