"""Pieces of a text in, what may go out: actions, hits, and forms of writing."""

from __future__ import annotations

import json
import random
from concurrent.futures import ThreadPoolExecutor
from itertools import pairwise

import pytest

from streamll.guards import Pattern, Ruleset, TextGuard, Words, automaton, guard_text, ruleset


def given(rules, pieces, form="plain"):
    """What goes out at each piece, and at the end; and the hits, by name and offset."""
    guard = TextGuard(ruleset(tuple(rules)), form)
    out = [*map(guard.feed, pieces), guard.finish()]
    return out, [(hit.guard.name, hit.offset) for hit in guard.hits], guard.closed_by


def cut(text: str, seed: int) -> list[str]:
    places = sorted(random.Random(seed).choices(range(len(text) + 1), k=3))
    return [text[a:b] for a, b in pairwise([0, *places, len(text)])]


CARD = Pattern(r"\b\d{4}-\d{4}\b", name="card", mask="[card]")


def test_text_is_held_only_while_a_match_is_possible():
    out, hits, _ = given([CARD], ["it is 12", "34-5", "678", ", or 12", "34x", "."])
    assert out == ["it is ", "", "", "[card], or ", "1234x", ".", ""]
    assert hits == [("card", 6)]


def test_touching_matches_have_one_mask_of_the_first():
    rules = [Words(["bc"], edges=False, mask="2"), Pattern("ab", mask="1"), Pattern("c+", mask="3")]
    assert given(rules, ["xabcccy"])[0] == ["x1y", ""]
    assert given(rules, "xabcccy")[0] == ["x", "", "1", "", "", "", "y", ""]


def test_of_rules_that_find_the_same_the_first_gives_the_mask():
    rules = [Words(["ab"], edges=False, mask="1", name="a"), Pattern("ab", mask="2", name="b")]
    assert given(rules, ["ab "]) == (["1 ", ""], [("a", 0)], None)
    assert given([rules[1], rules[0]], ["ab "])[1] == [("b", 0)]


@pytest.mark.parametrize("action", ["drop", "replace", "stop"])
def test_what_closes_a_text_gives_nothing_more(action):
    rule = Words(["secret"], name="word", action=action)
    out, hits, closed_by = given([CARD, rule], ["1234-5678 a secr", "et, and", " more 1234-5678"])
    assert out == ["[card] a ", "", "", ""]
    assert hits == [("card", 0), ("word", 9)]
    assert closed_by is rule


def test_what_closes_a_text_does_so_inside_what_is_masked():
    rules = [Pattern("a+", mask="#"), Pattern("aab", action="stop", name="end")]
    for seed in range(5):
        out, hits, closed_by = given(rules, cut("xaabc", seed))
        assert ("".join(out), hits[-1], closed_by) == ("x#", ("end", 2), rules[1])


def test_offsets_count_what_went_out():
    text = '["1234-5678 \\u00e9 \\u0031234-5678", "é 1234-5678"]'
    out, hits = guard_text(ruleset((CARD,)), text, "json")
    assert out == '["[card] \\u00e9 [card]", "é [card]"]'
    assert [hit.offset for hit in hits] == [2, 16, 28]


def test_masks_of_two_strings_do_not_touch():
    assert guard_text(ruleset((CARD,)), '"1234-5678""1234-5678"', "json")[0] == '"[card]""[card]"'


LEAVES = {"a key 1234-5678": ["1234-5678", 'say "1234-5678"\n', "é\\ 1234-5678 😀", "x"], "n": 1}


@pytest.mark.parametrize("ascii_only", [True, False])
def test_each_string_of_json_is_a_text_and_stays_one(ascii_only):
    rules = ruleset((CARD, Pattern("^x$", mask='"')))
    raw = json.dumps(LEAVES, ensure_ascii=ascii_only, indent=1)
    whole, _ = guard_text(rules, raw, "json")
    assert json.loads(whole) == {
        "a key [card]": ["[card]", 'say "[card]"\n', "é\\ [card] 😀", '"'],
        "n": 1,
    }
    for seed in range(20):
        assert "".join(given(rules.guards, cut(raw, seed), "json")[0]) == whole


def test_what_is_found_between_strings_becomes_one():
    whole, _ = guard_text(
        ruleset((Pattern(r"\b\d{4}\b", mask="[pin]"),)), '{"a": 1234, "b": 5}', "json"
    )
    assert json.loads(whole) == {"a": "[pin]", "b": 5}


@pytest.mark.parametrize(
    ("raw", "guarded"),
    [
        ("<a>12&#51;4-5678</a>", "<a>[card]</a>"),
        ("<a>&#x31;234-5678 &amp; &bogus; &#0;", "<a>[card] &amp; &bogus; &#0;"),
        ("1234-<b>5678</b>", "1234-<b>5678</b>"),
        ("a < 1234-5678 > b", "a < [card] > b"),
        ("<x>y</x>", "<&lt;&gt;>y</&lt;&gt;>"),
        ("<x", "<&lt;&gt;"),
        ("a>y a&gt;y <c/>a>y", "&lt;&gt; &lt;&gt; <c/>&lt;&gt;"),
        ("a&am", "a&am"),
    ],
)
def test_entities_of_xml_are_read_and_its_elements_are_texts(raw, guarded):
    rules = (CARD, Words(["x", "a>y"], mask="<>"))
    for seed in range(10):
        assert "".join(given(rules, cut(raw, seed), "xml")[0]) == guarded
        assert "".join(given(rules, raw, "xml")[0]) == guarded


def test_of_matches_that_go_on_alike_the_first_counts():
    """Otherwise every character would begin one more, and cost grow with the square."""
    guard = TextGuard(ruleset((Pattern("(?:a|aa)+b"), Words(["aaa"], edges=False, mask="#"))))
    for _ in range(100):
        guard.feed("aa")
        assert len(guard._node.ranks) <= 3


@pytest.mark.parametrize("most", [0, 3, 20])
def test_what_is_forgotten_is_worked_out_again(monkeypatch, most):
    rules = (CARD, Words(["ab", "b c"], mask="#"), Pattern("a.{3}b|x$", mask="%"))
    text = "".join(random.Random(most).choices("ab1-x cé\n", k=800))
    whole, hits = guard_text(Ruleset(rules), text)
    monkeypatch.setattr(automaton, "MOST_KEPT", most)
    monkeypatch.setattr(automaton, "MOST_CHARS", 2)
    guard = TextGuard(Ruleset(rules))
    assert "".join(map(guard.feed, text)) + guard.finish() == whole
    assert guard.hits == hits
    again = TextGuard(Ruleset(rules))
    assert (
        "".join(again.feed(text[at : at + 4]) for at in range(0, len(text), 4)) + again.finish()
        == whole
    )


def test_threads_share_what_is_kept(monkeypatch):
    monkeypatch.setattr(automaton, "MOST_KEPT", 50)
    rules = Ruleset((CARD, Words(["ab", "b c"], mask="#"), Pattern("a.{3}b|x$", mask="%")))
    texts = ["".join(random.Random(seed).choices("ab1-x cé\n", k=200)) for seed in range(8)]
    expected = [guard_text(Ruleset(rules.guards), text)[0] for text in texts]
    with ThreadPoolExecutor(8) as threads:
        assert list(threads.map(lambda text: guard_text(rules, text)[0], texts)) == expected


def test_a_text_held_for_long_goes_out_whole():
    guard = TextGuard(ruleset((Pattern("a[^b]*b", mask="#"),)))
    assert guard.feed("xa") == "x"
    assert not any(guard.feed("cd ") for _ in range(1000))
    assert guard.finish() == "a" + "cd " * 1000


@pytest.mark.parametrize(("action", "waits"), [("mask", False), ("drop", True)])
def test_a_newline_that_may_be_the_last_waits_only_for_what_would_end_the_text(action, waits):
    guard = TextGuard(ruleset((Pattern("a", mask="#"), Pattern("a$", action=action, mask="~"))))
    assert [guard.feed("a"), guard.feed("\n")] == ["#", "" if waits else "\n"]
    assert guard.finish() == ""


def test_words_are_found_between_underscores_and_in_no_longer_word():
    rules = (Words(["Bluebird", "_key"], mask="#"),)
    for text, expected in {
        "_Bluebird_ __bluebird__": "_#_ __#__",
        "project_bluebird_v2 xBluebird Bluebird2": "project_#_v2 xBluebird Bluebird2",
        "my_key my_keys": "my# my_keys",
    }.items():
        assert guard_text(ruleset(rules), text)[0] == expected
