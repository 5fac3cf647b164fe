"""What is wrong with inputs, and where."""

from __future__ import annotations

from collections.abc import Iterable

from streamll.core.errors import Problem

__all__ = ["Problem", "pointer"]


def pointer(place: str, location: Iterable[str | int]) -> str:
    """A place inside a place: ``inputs`` and ``items``, 2, ``price`` are ``inputs.items[2].price``."""
    for step in location:
        place += f"[{step}]" if isinstance(step, int) else f".{step}" if place else step
    return place
