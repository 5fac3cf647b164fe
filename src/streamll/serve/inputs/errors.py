"""Inputs that a program cannot take: every one of them, with its place."""

from __future__ import annotations

from collections.abc import Iterable

import msgspec

TOLD = 20
"""How many problems an error's message names; of the others it has the number."""


class Problem(msgspec.Struct, frozen=True):
    """What is wrong, and where: ``inputs.items[2].price``."""

    place: str
    message: str

    def __str__(self) -> str:
        return f"{self.place}: {self.message}" if self.place else self.message


class InvalidInputs(ValueError):
    """Inputs that a program cannot take. ``problems`` has all that is wrong with them."""

    def __init__(self, problems: Iterable[Problem]) -> None:
        self.problems = tuple(problems)
        told = "; ".join(map(str, self.problems[:TOLD]))
        more = len(self.problems) - TOLD
        super().__init__(told if more <= 0 else f"{told}; and {more} more")


def pointer(place: str, location: Iterable[str | int]) -> str:
    """A place inside a place: ``inputs`` and ``items``, 2, ``price`` are ``inputs.items[2].price``."""
    for step in location:
        place += f"[{step}]" if isinstance(step, int) else f".{step}" if place else step
    return place
