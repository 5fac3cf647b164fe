"""Check digits read one at a time agree with the formulas of their standards."""

from __future__ import annotations

import string
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from streamll.guards import Pattern, TextGuard, ruleset
from streamll.guards.checksums import LUHN, MOD_97

DIGITS = st.text(string.digits, min_size=1, max_size=19)
SIGNS = " -.\u00a0"


def read(checksum: Any, text: str) -> Any:
    state = checksum.start
    for char in text:
        state = checksum.step(state, char)
    return state


def by_luhn(digits: str) -> bool:
    """As ISO/IEC 7812-1 says it: from the right, every second digit doubled, their digits added."""
    odd, even = digits[::-1][::2], digits[::-1][1::2]
    doubled = "".join(str(2 * int(digit)) for digit in even)
    return sum(map(int, odd + doubled)) % 10 == 0


def by_mod_97(iban: str) -> bool:
    """As ISO 13616 says it: four characters moved, letters as numbers, one long division."""
    moved = iban[4:] + iban[:4]
    return int("".join(str(int(char, 36)) for char in moved)) % 97 == 1


@given(DIGITS)
def test_luhn_is_the_sum_of_its_standard(digits):
    assert LUHN.accepts(read(LUHN, digits)) is by_luhn(digits)


@given(st.from_regex("[A-Za-z]{2}[0-9]{2}[0-9A-Za-z]{0,30}", fullmatch=True))
def test_mod_97_is_the_division_of_its_standard(text):
    assert MOD_97.accepts(read(MOD_97, text)) is by_mod_97(text)


@pytest.mark.parametrize("checksum", [LUHN, MOD_97])
@given(st.text(string.digits + SIGNS, max_size=30))
def test_signs_between_count_nothing(checksum, text):
    without = "".join(char for char in text if char not in SIGNS)
    assert read(checksum, text) == read(checksum, without)


@pytest.mark.parametrize(("checksum", "most"), [(LUHN, 100), (MOD_97, 97)])
def test_states_are_few(checksum, most):
    states = {read(checksum, "GB82")}
    for _ in range(100):
        states |= {checksum.step(state, char) for state in states for char in string.digits}
    assert len(states) <= most


@pytest.mark.parametrize("end", ["7", "3"])
def test_a_checksum_knows_the_number_that_its_standard_shows(end):
    assert LUHN.accepts(read(LUHN, "7992739871" + end)) is (end == "3")


@pytest.mark.parametrize(("digits", "may_be"), [("0000", True), ("0018", True), ("0001", False)])
def test_what_cannot_come_out_right_is_not_awaited_to_the_end_of_a_pattern(digits, may_be):
    guard = TextGuard(ruleset((Pattern(regex=r"\b[0-9]{4}[a-z]*!", valid=LUHN),)))
    assert guard.feed(digits) == ("" if may_be else digits)
    assert guard.feed("ab") == ("" if may_be else "ab")
    assert guard.feed("!") == ("[redacted]" if may_be else "!")


@pytest.mark.parametrize("regex", ["A[A-Z][0-9]{2}[0-9]", "[A-Z]{2}[0-9]{2}[A-Z]7"])
def test_a_remainder_that_no_character_leaves_is_not_awaited(regex):
    guarded = ruleset((Pattern(regex=regex, valid=MOD_97),))
    starts = [f"A{letter}{number:02}" for letter in "BCD" for number in range(0, 100, 7)]
    tails = (
        string.digits if regex.startswith("A") else [f"{char}7" for char in string.ascii_uppercase]
    )
    for start in starts:
        may_be = any(by_mod_97(start + tail) for tail in tails)
        assert TextGuard(guarded).feed(start) == ("" if may_be else start)
