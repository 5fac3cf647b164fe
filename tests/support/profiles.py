"""How thorough a test run is. ``THOROUGH=1`` tries more of what is generated, and all of every table."""

from __future__ import annotations

import os

IN_CI = os.environ.get("CI", "").lower() not in {"", "0", "false"}
"""No test may be skipped, and a failing example is printed as one can repeat it."""

THOROUGH = os.environ.get("THOROUGH", "").lower() not in {"", "0", "false"}
EXAMPLES = 400 if THOROUGH else 30
"""Of a property, unless its test says how many. Each run draws others, so that runs add up."""


def thorough(number: int) -> int:
    """So many examples if there is time, otherwise as few as of any other property."""
    return number if THOROUGH else min(number, EXAMPLES)
