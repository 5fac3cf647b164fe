"""What is wrong with values from outside, and where."""

from __future__ import annotations

from collections.abc import Iterable

import msgspec


class Problem(msgspec.Struct, frozen=True):
    """What is wrong, and where: ``inputs.items[2].price``. ``InvalidInputs`` has these."""

    place: str
    message: str

    def __str__(self) -> str:
        return f"{self.place}: {self.message}" if self.place else self.message


def pointer(place: str, location: Iterable[str | int]) -> str:
    """A place inside a place: ``inputs`` and ``items``, 2, ``price`` are ``inputs.items[2].price``."""
    for step in location:
        place += f"[{step}]" if isinstance(step, int) else f".{step}" if place else step
    return place
