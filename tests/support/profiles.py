"""How thorough a test run is: in CI more of what is generated, and all of every table."""

from __future__ import annotations

import os

IN_CI = os.environ.get("CI", "").lower() not in {"", "0", "false"}
EXAMPLES = 400 if IN_CI else 100
"""Of a property, unless its test says how many."""


def thorough(number: int) -> int:
    """So many examples in CI, otherwise as few as of any other property."""
    return number if IN_CI else min(number, EXAMPLES)
