"""Check digits, read one character at a time.

A checksum has finitely many states, so that it can run beside a regular expression and tell at
every character whether what comes may still be valid:

- ``alphabet`` has the characters that count; all others leave a state what it is,
- ``start`` is the state before the first character,
- ``step(state, char)`` the state after one more,
- ``accepts(state)`` whether what was read is valid,
- ``free`` is a number of digits in a row: if any may stand at each place, some make it valid.

Nothing here looks at lengths, prefixes or separators: these are the expression's part.
"""

from __future__ import annotations

import string
from collections.abc import Hashable

__all__ = ["LUHN", "MOD_97", "Luhn", "Mod97"]

_TWICE = (0, 2, 4, 6, 8, 1, 3, 5, 7, 9)
"""A digit doubled, and 9 taken off where that has two digits."""

_VALUES = {char: int(char, 36) for char in string.digits + string.ascii_letters}
"""What a character counts: A is 10, Z is 35."""

_MOVED = 4  # characters that count last: the country and the check digits
_SHIFT = pow(10, 6, 97)  # their six digits: each letter has two


class Luhn:
    """The check digit of ISO/IEC 7812-1, annex B: of payment cards, among others.

    From the right, every second digit counts twice (less 9, if that is above 9); the sum ends in 0.
    Which digits these are is known at the end alone, so a state is both sums modulo 10: the one in
    which the last digit counts once, and the one in which it counts twice. That makes 100 states.
    """

    alphabet = string.digits
    start: Hashable = 0
    free = 1

    def step(self, state: int, char: str) -> int:
        """The state after ``char``."""
        if char not in self.alphabet:
            return state
        digit = int(char)
        once, twice = divmod(state, 10)
        return (twice + digit) % 10 * 10 + (once + _TWICE[digit]) % 10

    def accepts(self, state: int) -> bool:
        """Whether the digits so far are valid."""
        return state < 10  # noqa: PLR2004  # the sum in which the last digit counts once ends in 0


class Mod97:
    """The check digits of ISO 13616 (IBAN), which are those of ISO/IEC 7064, MOD 97-10.

    The first four characters move to the end, letters become numbers (A is 10, Z is 35), and the
    number that this makes leaves 1 when divided by 97. A state is what the first four leave, and
    what the others leave so far: at most 97 · 97 states after the fourth character.
    """

    alphabet = string.digits + string.ascii_letters
    start: Hashable = 0
    free = 3  # two that stay side by side when the first four have moved leave any remainder

    def step(self, state: int, char: str) -> int:
        """The state after ``char``; letters count the same in either case."""
        number = _VALUES.get(char)
        if number is None:
            return state
        rest, read = divmod(state, _MOVED + 1)
        first, others = divmod(rest, 97)
        if read < _MOVED:
            return (_append(first, number) * 97 + others) * (_MOVED + 1) + read + 1
        return (first * 97 + _append(others, number)) * (_MOVED + 1) + read

    def accepts(self, state: int) -> bool:
        """Whether the digits and letters so far are valid."""
        rest, _ = divmod(state, _MOVED + 1)
        first, others = divmod(rest, 97)
        return (others * _SHIFT + first) % 97 == 1


def _append(left: int, number: int) -> int:
    """What is left by 97 of a number, after another is written behind it."""
    return (left * (100 if number > 9 else 10) + number) % 97  # noqa: PLR2004


LUHN = Luhn()
MOD_97 = Mod97()
