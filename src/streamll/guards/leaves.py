"""Which characters a leaf of a pattern matches, as Python's own engine reads it."""

from __future__ import annotations

import re
import sys
from functools import lru_cache

from streamll.guards.language import MARK, OTHER, WORD, kind_of
from streamll.guards.nodes import Leaf

EXAMPLES = "".join(map(chr, range(256))) + "ıſKΑαЖж中١\u0301―\u2028\ud800\U0001f600"
"""All of ASCII, and some of each other kind."""


@lru_cache(maxsize=4096)
def matcher(leaf: Leaf) -> re.Pattern[str]:
    """The leaf as Python's own engine reads it."""
    return re.compile(leaf.source, leaf.flags)


@lru_cache(maxsize=4096)
def some_kinds(leaf: Leaf, without: str) -> frozenset[int]:
    """Kinds of character that it matches, as far as a look at a few tells; an alphabet's left out."""
    found = matcher(leaf).findall(EXAMPLES)
    return frozenset(kind_of(char) for char in found if char not in without)


_ASCII = r"\\U000000[0-7][0-9a-f]"
_PLAIN_SET = re.compile(rf"\[(?:{_ASCII}(?:-{_ASCII})?|\\[dws])*\]")
"""Leaves of which the examples tell all, whatever their flags."""


@lru_cache(maxsize=4096)
def all_kinds(leaf: Leaf, without: str) -> frozenset[int]:
    """The same for certain: by a look at what it lists, or at every character beyond ASCII."""
    if _PLAIN_SET.fullmatch(leaf.source):
        return some_kinds(leaf, without)
    if (listed := _listed(leaf)) is not None:
        return frozenset(kind_of(char) for char in listed if char not in without)
    return some_kinds(leaf, without) | {
        kind
        for kind in (WORD, MARK, OTHER)
        if any(match[0] not in without for match in matcher(leaf).finditer(_characters()[kind]))
    }


_LIST = re.compile(r"\[(?:\\U[0-9a-f]{8}(?:-\\U[0-9a-f]{8})?)+\]")
_RANGE = re.compile(r"\\U([0-9a-f]{8})(?:-\\U([0-9a-f]{8}))?")
MOST_LISTED = 50_000


def _listed(leaf: Leaf) -> str | None:
    """The characters that it lists, if it says no more than that, and they are not too many."""
    if leaf.flags & re.IGNORECASE or not _LIST.fullmatch(leaf.source):
        return None
    ends = [(int(first, 16), int(last or first, 16)) for first, last in _RANGE.findall(leaf.source)]
    if sum(last - first for first, last in ends) > MOST_LISTED:
        return None
    return "".join(chr(code) for first, last in ends for code in range(first, last + 1))


@lru_cache(maxsize=1)
def _characters() -> dict[int, str]:
    """Every character there is, by kind."""
    kinds: dict[int, list[str]] = {}
    for char in map(chr, range(sys.maxunicode + 1)):
        kinds.setdefault(kind_of(char), []).append(char)
    return {kind: "".join(chars) for kind, chars in kinds.items()}
