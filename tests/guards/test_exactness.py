"""Guarded texts beside brute force, for every text of a few characters."""

from __future__ import annotations

import re
from functools import reduce
from itertools import product
from typing import NamedTuple

import pytest
from guard_oracle import certain_in, masked, regex, texts_from, words
from hypothesis import example, given, settings
from hypothesis import strategies as st
from profiles import EXAMPLES, THOROUGH

from streamll.guards import Pattern, TextGuard, Words, guard_text, ruleset

DEPTH = 5 if THOROUGH else 4
ALPHABET = "ab \n"
"""Has a character of each kind that the leaves below can match."""


class Drawn(NamedTuple):
    """A pattern, and how many characters complete any match that has begun."""

    source: str
    needs: int


LEAVES = [
    "a",
    "b",
    " ",
    r"\n",
    ".",
    r"\w",
    r"\W",
    r"\s",
    r"\S",
    "[ab]",
    "[^a]",
    "(?s:.)",
    r"[^\s\S]",
]
EDGES = [r"\b", r"\B", "^", "$", r"\A", r"\Z", "(?m:^)", "(?m:$)", "(?:)"]
REPEATS = ["*", "+", "?", "*?", "+?", "{2}", "{0,2}", "{1,2}?", "{2,}"]


def repeated(of: Drawn, how: str) -> Drawn:
    return Drawn(f"(?:{of.source}){how}", of.needs * (2 if how in ("{2}", "{2,}") else 1))


def in_a_row(parts: list[Drawn]) -> Drawn:
    return Drawn("".join(part.source for part in parts), sum(part.needs for part in parts))


def either(parts: list[Drawn]) -> Drawn:
    return Drawn(
        f"(?:{'|'.join(part.source for part in parts)})", max(part.needs for part in parts)
    )


def patterns(leaves: list[str]) -> st.SearchStrategy[Drawn]:
    leaf = st.sampled_from([Drawn(source, 1) for source in leaves])
    edge = st.sampled_from([Drawn(source, 0) for source in EDGES])
    return st.recursive(
        leaf | leaf | edge,
        lambda inner: (
            st.builds(repeated, inner, st.sampled_from(REPEATS))
            | st.lists(inner, min_size=2, max_size=3).map(in_a_row)
            | st.lists(inner, min_size=2, max_size=3).map(either)
        ),
        max_leaves=6,
    )


def released(rules, text: str, at: int) -> tuple[str, str]:
    """What goes out of a text by single characters from ``at`` on; and what when it has ended."""
    guard = TextGuard(rules)
    pieces = [text[:at], *text[at:]]
    before = "".join(map(guard.feed, pieces))
    return before, before + guard.finish()


def check(guards, matches, alphabet: str, prefix: str, needs: int) -> None:
    rules = ruleset(tuple(guards))
    texts = list(texts_from(prefix, alphabet, DEPTH))
    outputs = {text: masked(text, matches) for text in texts}
    certain = certain_in(outputs, alphabet)
    for text in texts:
        out, whole = released(rules, text, len(prefix))
        assert whole == outputs[text], text
        assert certain[text].startswith(out), text
        if len(text) - len(prefix) + needs + 2 <= DEPTH:
            held = certain[text][len(out) :]
            assert not held or held[0] == "#", text


def examples(test):
    """Patterns with edges of which chance has few."""
    for source, prefix in product(EDGED, ["", "a", "ab"]):
        test = example(Drawn(source, 2), prefix)(test)
    return example(Drawn("ba|a$", 2), "ba\n")(test)


EDGED = [
    "a$", "a$|ab$", r"a$\n", r"a$\n?", "(?m:a$)|a$", r"a(?:\b|\B)", r"\ba\b", r"\Ba.", r"a\Z",
    "(?m:^)a", "^a|b$", r"(?:^|b)a*$", r"a(?:$|\b|\B)", r"(?m:a$)\s(?m:^)b", "a.*b", "(?:a|b$)+",
    r"ab[^\s\S]|aab", r"a(?:b$ |b\n)b|a ",
]  # fmt: skip


@examples
@given(patterns(LEAVES), st.text(ALPHABET, max_size=4))
def test_a_pattern_lets_out_what_no_continuation_can_forbid(drawn, prefix):
    guard = Pattern(regex=drawn.source, mask="#")
    check([guard], [regex(drawn.source)], ALPHABET, prefix, drawn.needs)


@pytest.mark.parametrize("alphabet", ["aSß-", "a\u0301é ", "ab_é"])
@settings(max_examples=EXAMPLES // 3)
@given(data=st.data())
def test_words_let_out_what_no_continuation_can_forbid(alphabet, data):
    listed = data.draw(st.lists(st.text(alphabet, min_size=1, max_size=3), min_size=1, max_size=3))
    edges = data.draw(st.booleans())
    prefix = data.draw(st.text(alphabet, max_size=4))
    needs = max(len(word.casefold()) for word in listed)
    guard = Words(words=listed, edges=edges, mask="#")
    check([guard], [words(listed, edges=edges)], alphabet, prefix, needs)


MANY = "aAbıſéKß1_ -\n\u0301١"
CASES = ["a", "[a-b]", "i", "[^a]", "s", "[k-s]", r"\d", r"\w", r"[\W_]", ".", "é", "[^é-ü]", "ß"]
CASES += ["(?i:a(?-i:a))", r"(?a:\w)", r"(?i-m:^)a", "(?s-i:.)", "(?:aB|[\u0302])"]
FLAGS = [re.IGNORECASE, re.ASCII, re.MULTILINE, re.DOTALL]


@given(st.data())
def test_rules_of_any_flags_find_the_same_however_the_text_is_cut(data):
    drawn = data.draw(st.lists(patterns(CASES), min_size=1, max_size=2))
    flags = data.draw(st.sets(st.sampled_from(FLAGS)).map(lambda s: reduce(int.__or__, s, 0)))
    listed = data.draw(st.lists(st.text(MANY, min_size=1, max_size=3), min_size=1, max_size=3))
    guards = [Pattern(regex=each.source, flags=flags, mask="#") for each in drawn]
    rules = ruleset((*guards, Words(words=listed, mask="#")))
    matches = [*(regex(each.source, flags) for each in drawn), words(listed)]
    for _ in range(4):
        pieces = data.draw(st.lists(st.text(MANY, max_size=4), max_size=4))
        text = "".join(pieces)
        assert guard_text(rules, text)[0] == masked(text, matches)
        guard = TextGuard(rules)
        assert "".join(map(guard.feed, pieces)) + guard.finish() == masked(text, matches)
