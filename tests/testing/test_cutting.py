from __future__ import annotations

import doctest

import pytest
from hypothesis import given
from hypothesis import strategies as st

from streamll.testing import chunkings, cutting
from streamll.testing.cutting import cut


@given(st.text(), st.one_of(st.integers(1, 9), st.sampled_from(["token", "whole"])))
def test_chunks_of_any_size_join_to_the_text_and_none_is_empty(text, chunk):
    chunks = cut(text, chunk)
    assert "".join(chunks) == text
    assert all(chunks)


@given(st.text(), st.integers(0, 5), st.integers())
def test_every_chunking_joins_to_the_text(text, random_cuts, seed):
    found = list(chunkings(text, random_cuts=random_cuts, seed=seed))
    assert len(found) == 4 + random_cuts
    for chunks in found:
        assert "".join(chunks) == text
        assert all(chunks)


def test_chunkings_yields_whole_single_characters_threes_and_tokens_first():
    whole, ones, threes, tokens, *_ = chunkings("Hello there, world")
    assert whole == ["Hello there, world"]
    assert ones == list("Hello there, world")
    assert threes[:2] == ["Hel", "lo "]
    assert tokens == ["Hello", " there", ",", " world"]


def test_random_cuts_repeat_for_a_seed_and_differ_between_seeds():
    text = "the same text, " * 20
    assert list(chunkings(text, seed=7)) == list(chunkings(text, seed=7))
    assert list(chunkings(text, seed=7)) != list(chunkings(text, seed=8))


def test_a_delimiter_is_cut_as_a_tokenizer_cuts_it():
    assert cut("[[ ## answer ## ]]\n", "token") == ["[[", " ##", " answer", " ##", " ]]", "\n"]


@pytest.mark.parametrize("chunk", [0, -1, "word", None, 1.5])
def test_an_invalid_chunk_size_raises_value_error(chunk):
    with pytest.raises(ValueError, match="chunk is a positive number"):
        cut("text", chunk)


def test_docstring_examples_of_cutting_hold():
    assert doctest.testmod(cutting).failed == 0
