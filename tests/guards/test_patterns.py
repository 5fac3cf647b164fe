"""Which patterns and words can stand guard, and what is said of those that cannot."""

from __future__ import annotations

import re

import pytest

from streamll import ConfigurationError
from streamll.guards import Pattern, TextGuard, Words, guard_text, ruleset


@pytest.mark.parametrize(
    ("regex", "reason"),
    [
        (r"(a)\1", "a backreference"),
        (r"(?P<x>a)(?P=x)", "a backreference"),
        (r"(?i)(a)\1", "a backreference"),
        (r"(a)?(?(1)b|c)", "a conditional group"),
        (r"a(?=b)", "a lookahead or lookbehind"),
        (r"a(?!b)", "a lookahead or lookbehind"),
        (r"(?<=a)b", "a lookahead or lookbehind"),
        (r"(?<!a)b", "a lookahead or lookbehind"),
        ("a{10001}", "more than 10,000 states"),
        ("(?:a{200}){200}", "more than 10,000 states"),
        ("(?:a?b?){300}", "more than 100,000 ways"),
    ],
)
def test_what_cannot_be_decided_as_text_arrives_is_refused(regex, reason):
    with pytest.raises(ConfigurationError, match=f"guard 'secret'.*{reason}.*hold=True"):
        Pattern(regex, name="secret")


@pytest.mark.skipif("sys.version_info < (3, 11)", reason="re has them from 3.11 on")
@pytest.mark.parametrize(("regex", "reason"), [("(?>ab?)b", "atomic"), ("ab?+b", "possessive")])
def test_what_gives_nothing_back_is_refused(regex, reason):
    with pytest.raises(ConfigurationError, match=reason):
        Pattern(regex)


@pytest.mark.skipif("sys.version_info < (3, 11)", reason="re has them from 3.11 on")
@pytest.mark.parametrize("regex", [r"(?:\d++[ -]?){5}(?=x)", r"(?:(?>\d+)[ -]?)+(?=x)"])
def test_a_held_pattern_may_repeat_what_gives_nothing_back(regex):
    guard = Pattern(regex, hold=True, mask="#")
    assert guard_text(ruleset((guard,)), "1 " * 4 + "1" * 200 + "x")[0] == "#x"


@pytest.mark.parametrize(
    "regex",
    [
        *("(?:a+)+(?=b)", "(?:(?:ab*c)*d)*", "(?=(?:a*?x)+)b", "(?:a|b+){2,}"),
        *(
            "(a+){2,30}b",
            r"(?:\d+[ -]?){5}(?=x)",
            "(?:(?:x|(a*)){9}c?){1}",
            "(?:(?:b{0,2}a+){3}){5}",
        ),
    ],
)
def test_a_held_pattern_may_not_take_for_ever(regex):
    with pytest.raises(ConfigurationError, match=r"an unbounded repeat in another.*without hold"):
        Pattern(regex, hold=True)


@pytest.mark.parametrize(
    "regex",
    [
        r"(?:\d+\.){3,8}\d+(?!\d)",
        r"(?:\d+[ -]?){2,4}(?=x)",
        r"(?:(?:[A-Z]\w*|-) ?){2,9}(?=:)",
        "(a+)?b",
    ],
)
def test_a_held_pattern_may_repeat_what_ends(regex):
    assert Pattern(regex, hold=True).hold


@pytest.mark.parametrize(
    ("make", "reason"),
    [
        (lambda: Pattern("a("), r"'a\('.*no regular expression"),
        (lambda: Pattern(b"a"), "regular expression"),
        (lambda: Pattern(re.compile(b"a")), "regular expression"),
        (lambda: Pattern(re.compile("a"), flags=re.IGNORECASE), "flags"),
        (lambda: Words("secret"), "must be a list"),
        (lambda: Words([]), "at least one"),
        (lambda: Words(["a", ""]), "none of them empty"),
        (lambda: Words([1]), "must be texts"),
        (lambda: Words(["a"], action="hide"), "one of mask, drop, replace, stop"),
        (lambda: Words(["a"], fields="answer"), "list of names"),
        (lambda: Words(["a"], fields=[1]), "list of names"),
        (lambda: Words(["a"], name=1), "name must be a text"),
        (lambda: Words(["a"], mask=None), "mask must be a text"),
    ],
)
def test_a_rule_that_makes_no_sense_is_refused(make, reason):
    with pytest.raises(ConfigurationError, match=reason):
        make()


NEVER = [
    r"[^\s\S]",
    r"a[^\w\W]b",
    "a$b",
    r"\b\Ba",
    "a^b",
    r"a\Zb",
    r"a\b\w",
    "a$ ?b",
    "ab[^\x00-\U0010ffff]",
]


@pytest.mark.parametrize("regex", NEVER)
def test_what_no_text_completes_holds_nothing(regex):
    guard = TextGuard(ruleset((Pattern(regex),)))
    assert [guard.feed(char) for char in "a b ab\nb"] == list("a b ab\nb")


@pytest.mark.parametrize(
    ("regex", "text", "guarded"),
    [
        ("(?i:a(?-i:b))", "ab Ab aB", "# # aB"),
        ("(?s:a(?-s:.))", "a\na ", "a\n#"),
        (r"(?a:\w)+\b", "aé éa", "aé é#"),
        (r"\w(?a:\b)", "aé ", "#é "),
        ("(?m:^a)|^b", "a\na\nb", "#\n#\nb"),
        ("(?x) a # b\n b", "ab", "#"),
    ],
)
def test_flags_hold_where_they_are_given(regex, text, guarded):
    assert guard_text(ruleset((Pattern(regex, mask="#"),)), text)[0] == guarded


@pytest.mark.parametrize("regex", ["\u0302[\u0ac8-\u0ac9]", r"\W*[ऀ]", "(?i)[^\\x00-\u02ff]\u03c9"])
def test_characters_of_any_plane_can_be_found(regex):
    rules = ruleset((Pattern(regex, mask="#"),))
    assert guard_text(rules, "a\u0302\u0ac9b-\u0900c\u0416\u2126")[0].count("#") == 1


def test_a_held_pattern_finds_what_re_finds_at_the_end():
    rules = ruleset((Pattern(r"(\w)\1+", hold=True, mask="#"), Words(["bcd"], mask="$")))
    guard = TextGuard(rules)
    assert [guard.feed("xaa"), guard.feed("abcd bcd"), guard.finish()] == ["", "", "x#bcd $"]
    assert guard_text(rules, "aabcd bb")[0] == "#bcd #"


def test_equal_rules_are_compiled_once():
    first, second = (ruleset((Pattern("a+b"), Words(["a", "b"]))) for _ in range(2))
    assert first is second
    assert ruleset((Pattern("a+b", mask=""),)) is not first
