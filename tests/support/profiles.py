"""How thorough a test run is. ``THOROUGH=1`` tries more of what is generated, and all of every table."""

from __future__ import annotations

import itertools
import os
from collections.abc import Iterable
from typing import Any

IN_CI = os.environ.get("CI", "").lower() not in {"", "0", "false"}
"""No test may be skipped, and a failing example is printed as one can repeat it."""

THOROUGH = os.environ.get("THOROUGH", "").lower() not in {"", "0", "false"}
EXAMPLES = 400 if THOROUGH else 30
"""Of a property, unless its test says how many. Each run draws others, so that runs add up."""


def thorough(number: int) -> int:
    """So many examples if there is time, otherwise as few as of any other property."""
    return number if THOROUGH else min(number, EXAMPLES)


def in_turn(*axes: Iterable[Any], every: int = 1) -> list[tuple[Any, ...]]:
    """All combinations if there is time; otherwise each value of each axis at least ``every`` times.

    The longest axis is gone through ``every`` times, and the others take turns along it, so that no
    value always meets the same one.
    """
    columns = [list(axis) for axis in axes]
    if THOROUGH:
        return list(itertools.product(*columns))
    longest, met = max(map(len, columns)), {}
    for number in range(longest * every):
        turn, at = divmod(number, longest)
        met[
            tuple(column[(at + turn * (len(column) < longest)) % len(column)] for column in columns)
        ] = None
    return list(met)
