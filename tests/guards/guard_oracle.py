"""What a text under rules is, by brute force: every part of it is asked whether a rule matches it."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Sequence
from functools import lru_cache
from itertools import product
from os.path import commonprefix

Matches = Callable[[str, int, int], bool]
"""Whether a rule matches a text from one place to another, in its context."""


@lru_cache(maxsize=512)
def _ending(pattern: str, flags: int, left: int) -> re.Pattern[str]:
    """Matches what ends so many characters before the text does."""
    return re.compile(rf"(?:{pattern})(?=(?s:.{{{left}}})\Z)", flags)


def regex(pattern: str, flags: int = 0) -> Matches:
    def matches(text: str, start: int, end: int) -> bool:
        return _ending(pattern, flags, len(text) - end).match(text, start) is not None

    return matches


def words(listed: Sequence[str], *, edges: bool = True) -> Matches:
    folded = {word.casefold() for word in listed}

    def part(char: str) -> bool:
        return re.match(r"[^\W_]|[\u0300-\u036f]", char) is not None

    def matches(text: str, start: int, end: int) -> bool:
        inside = (start > 0 and part(text[start - 1]) and part(text[start])) or (
            end < len(text) and part(text[end]) and part(text[end - 1])
        )
        return text[start:end].casefold() in folded and not (edges and inside)

    return matches


def masked(text: str, rules: Sequence[Matches]) -> str:
    """The text, with ``#`` for each run of characters that are in any match."""
    out: list[str] = []
    covered = 0
    for at, char in enumerate(text):
        ends = [
            end
            for end in range(len(text), max(at, covered), -1)
            if any(matches(text, at, end) for matches in rules)
        ]
        if ends:
            out += "#" * (at > covered or not covered)
            covered = ends[0]
        out += char * (at >= covered)
    return "".join(out)


def texts_from(prefix: str, alphabet: str, depth: int) -> Iterator[str]:
    """Every text that continues another by so many characters at most, the shortest first."""
    for length in range(depth + 1):
        for more in product(alphabet, repeat=length):
            yield prefix + "".join(more)


def certain_in(outputs: dict[str, str], alphabet: str) -> dict[str, str]:
    """For each text what its output begins with however the text goes on, as far as outputs tell."""
    certain: dict[str, str] = {}
    for text in reversed(outputs):
        after = [certain[text + char] for char in alphabet if text + char in outputs]
        certain[text] = commonprefix([outputs[text], *after])  # noqa: RUF071 - by characters
    return certain
